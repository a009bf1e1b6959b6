//! run_life
