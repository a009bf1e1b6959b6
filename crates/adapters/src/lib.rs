//! Adapters: everything that touches the outside world, behind the ports of the engine.

pub mod agent;
pub mod foreign;
pub mod forge;
mod http;
mod marker;
pub mod notify;
pub mod process;
pub mod tracker;
pub mod webhook;
pub mod workflow;
pub mod workspace;
