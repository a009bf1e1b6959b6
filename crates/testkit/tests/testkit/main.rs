//! Tests of the testkit itself.

mod model;
mod sim;
