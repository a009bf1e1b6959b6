//! One suite per port; every implementation and every double runs it.

pub mod tracker;
