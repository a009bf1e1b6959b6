//! Tests of the testkit itself.

mod sim;
