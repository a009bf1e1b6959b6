//! What every agent adapter does, case by case, with real processes.
//!
//! An implementation brings an [`AgentFixture`] and runs the suite with [`crate::agent_conformance!`].

mod sessions;
mod turns;
mod world;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::AgentPolicy;
use dalsegno_engine::{Agents, Processes};

pub use sessions::*;
pub use turns::*;
pub use world::{EchoTools, Heard, World, agent_policy};

/// A case that takes longer than this hangs.
pub const CASE_LIMIT: Duration = Duration::from_secs(60);

/// The prompt after a cut turn. A scripted model knows it by its mark.
pub const GO_ON: &str = "go on [[script:again]]";

/// What an agent is made to do, turn by turn. Paths are relative to the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Each turn, three of them: says `one`, `two` and `three` apart from each other, reports 12 tokens in and 3 out,
    /// ends.
    Speaks,
    /// First turn: a command writes its pid to the file `pid` and runs until it is killed. Second turn: says `again`.
    RunsCommand,
    /// Asks for the permission to run `rm -rf build`, then says `went on`.
    AsksPermissionForCommand,
    /// Asks for the permission to change the file `inside.txt`, then says `went on`.
    AsksPermissionInside,
    /// Asks for the permission to change the file `../outside.txt`, then says `went on`.
    AsksPermissionOutside,
    /// Asks `Which colour?`, with `red` and `blue` to choose from.
    AsksQuestion,
    /// The model fails with `out of ideas`.
    Fails,
    /// The model's provider refuses for an hour.
    RateLimited,
    /// The process ends with exit code 7 in its first turn.
    Exits,
    /// Writes a few lines that are no protocol, says `café` in Latin-1 (so no UTF-8), and ends its turn.
    Garbage,
    /// Writes more than 100 lines that are no protocol in one turn.
    EndlessGarbage,
    /// Says nothing in its turn, and does not end it.
    Silent,
    /// Says `flood 0` to `flood 9999`, and ends its turn.
    Floods,
    /// The process starts and never answers.
    NeverAnswers,
    /// There is no such program.
    Missing,
}

/// Brings agents that behave as a case needs it.
pub trait AgentFixture: Send + Sync {
    /// The adapter, and the part of the policy that makes it start an agent of that behaviour. `place` is a directory
    /// for scripts. Timeouts in the policy are set by the suite.
    fn agent(&self, behaviour: Behaviour, place: &Path) -> (Arc<dyn Agents>, AgentPolicy);

    /// Where directories of cases are made.
    fn place(&self) -> PathBuf {
        std::env::temp_dir()
    }

    /// The means that ends processes by their mark.
    fn processes(&self) -> Arc<dyn Processes>;
}

/// Defines one test per case. The argument is an expression that makes a fixture.
#[macro_export]
macro_rules! agent_conformance {
    ($fixture:expr) => {
        $crate::agent_conformance! { $fixture;
            start, launch_timeout, missing_program, missing_workspace, launch_canceled, prompt, stream, usage,
            permission_granted, permission_refused, permission_by_place, permission_by_a_person, question,
            question_by_a_person, model_failure, rate_limit, interrupt,
            resume_after_kill_with_the_prompt, resume_after_kill_without_the_prompt, resume_of_a_session_that_is_gone,
            exit, malformed_output, endless_malformed_output, silence, flood, not_utf8, secrets, close, drop_ends_it,
        }
    };
    ($fixture:expr; $($case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                let case = $crate::conformance::agent::$case(&$fixture);
                tokio::time::timeout($crate::conformance::agent::CASE_LIMIT, case).await.expect("the case hangs");
            }
        )*
    };
}
