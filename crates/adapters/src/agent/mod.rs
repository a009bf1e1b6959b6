//! Agents: one client for everything that speaks the Agent Client Protocol over standard input and output, and our
//! own scripted agent, which speaks it too.

mod acp;
mod local;
pub mod scripted;

pub use acp::AcpAgents;
pub use local::LocalAgents;
