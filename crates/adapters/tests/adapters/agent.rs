//! The ACP client against the scripted agent.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at the first surprise")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dalsegno_adapters::agent::LocalAgents;
use dalsegno_adapters::process::Sweeper;
use dalsegno_engine::core::{AgentKind, AgentPolicy};
use dalsegno_engine::{Agents, Processes};
use dalsegno_testkit::conformance::agent::{AgentFixture, Behaviour, agent_policy};

/// The example that cargo builds beside this test.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples").join("scripted_agent");
    assert!(program.is_file(), "{} is not built: run all targets of this package", program.display());
    program
}

fn turns(behaviour: Behaviour) -> Option<&'static str> {
    let speak =
        "[ {say: one}, {usage: {input: 4, output: 1}}, {say: two}, {usage: {input: 8, output: 2}}, {say: three} ]";
    Some(match behaviour {
        Behaviour::Speaks => return Some(Box::leak(format!("- {speak}\n- {speak}\n- {speak}").into_boxed_str())),
        Behaviour::RunsCommand => "- [ {sh: 'echo $$ > pid; sleep 1000; true'} ]\n- [ {say: again} ]",
        Behaviour::AsksPermissionForCommand => "- [ {permission: rm -rf build}, {say: went on} ]",
        Behaviour::AsksPermissionInside => "- [ {permission: {text: change it, path: inside.txt}}, {say: went on} ]",
        Behaviour::AsksPermissionOutside => {
            "- [ {permission: {text: change it, path: ../outside.txt}}, {say: went on} ]"
        }
        Behaviour::AsksQuestion => "- [ {ask: {text: Which colour?, options: [red, blue]}} ]",
        Behaviour::Fails => "- [ {fail: out of ideas} ]",
        Behaviour::RateLimited => "- [ {rate_limit: {reset_in: 60m}} ]",
        Behaviour::Exits => "- [ {exit: 7} ]",
        Behaviour::Garbage => "- [ {garbage: true} ]",
        Behaviour::EndlessGarbage => "- [ {garbage: 1000} ]",
        Behaviour::Silent => "- [ {hang: true} ]",
        Behaviour::Floods => "- [ {flood: 10000} ]",
        Behaviour::NeverAnswers | Behaviour::Missing => return None,
    })
}

/// The kind `scripted`, which goes through the ACP client.
struct ScriptedFixture;

impl AgentFixture for ScriptedFixture {
    fn agent(&self, behaviour: Behaviour, place: &Path) -> (Arc<dyn Agents>, AgentPolicy) {
        let agents = Arc::new(LocalAgents::new(program()));
        let Some(turns) = turns(behaviour) else {
            let command =
                if behaviour == Behaviour::Missing { "no-such-agent-program" } else { "sleep 1000 & sleep 1000" };
            return (agents, agent_policy(AgentKind::Acp, Some(command.to_owned()), None));
        };
        let script = place.join("script.yaml");
        std::fs::write(&script, format!("default:\n{}\n", indent(turns))).unwrap();
        (agents, agent_policy(AgentKind::Scripted, None, Some(script.display().to_string())))
    }

    fn processes(&self) -> Arc<dyn Processes> {
        Arc::new(Sweeper)
    }
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

mod scripted {
    use super::*;

    dalsegno_testkit::agent_conformance!(ScriptedFixture);
}
