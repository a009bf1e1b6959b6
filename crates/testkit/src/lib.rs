//! Doubles of the ports, for our own tests and for embedders.

pub mod memory_reads;
