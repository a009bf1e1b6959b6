//! Agents: one client for everything that speaks the Agent Client Protocol over standard input and output, one for
//! Codex, and our own scripted agent, which speaks the first.

mod acp;
mod codex;
mod ear;
mod inside;
mod lines;
mod local;
mod program;
pub mod scripted;
mod text;

pub use acp::AcpAgents;
pub use codex::CodexAgents;
pub use local::LocalAgents;

pub(crate) use acp::foreign as foreign_acp;
pub(crate) use codex::foreign as foreign_codex;

use dalsegno_engine::core::SessionStart;

/// How a session came about, for the transcript.
fn word(how: SessionStart) -> &'static str {
    match how {
        SessionStart::New => "new",
        SessionStart::Resumed => "resumed",
        SessionStart::ResumedPromptFound => "resumed; the last prompt is in its history",
        SessionStart::ResumedPromptMissing => "resumed; the last prompt is not in its history",
        SessionStart::Gone => "new, because the agent does not know the old one",
    }
}
