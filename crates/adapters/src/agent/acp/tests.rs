#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]
