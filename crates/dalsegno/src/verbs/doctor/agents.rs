//! The agent of the policy, and others on this machine.

use dalsegno_core::{AgentKind, AgentPolicy};

use super::{Finding, Patient};
use crate::survey::{self, AGENTS, KnownAgent};

/// The version of Codex that the adapter was tested with.
const CODEX_TESTED: &str = "0.169.0";

pub(super) async fn examine(patient: &Patient) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(loaded) = &patient.loaded {
        findings.extend(of_policy(&loaded.policy.agent).await);
    }
    let mut there = Vec::new();
    for agent in AGENTS {
        if let Some(path) = survey::on_path(agent.program) {
            let version = survey::version(&path).await;
            there.push(if version.ok {
                format!("{} ({})", agent.program, version.text)
            } else {
                agent.program.to_owned()
            });
        }
    }
    findings.push(Finding::note(
        "agents",
        match there.len() {
            0 => "no known agent is on PATH".to_owned(),
            _ => format!("on PATH: {}", there.join(", ")),
        },
    ));
    findings
}

async fn of_policy(policy: &AgentPolicy) -> Vec<Finding> {
    let command = match (policy.kind, policy.command.as_deref()) {
        (AgentKind::Scripted, _) => return vec![script(policy)],
        (AgentKind::Codex, None) => "codex app-server",
        (AgentKind::Codex | AgentKind::Acp, Some(command)) => command,
        (AgentKind::Acp, None) => return Vec::new(),
    };
    // A shell command: its first word that sets no variable names the program, as far as it can be told.
    let program = command.split_whitespace().find(|word| !word.contains('=')).unwrap_or_default();
    let known = AGENTS.into_iter().find(|agent| program.rsplit('/').next() == Some(agent.program));
    let Some(path) = survey::on_path(program) else {
        let remedy = match known.map(|agent| agent.program) {
            Some("codex") => "npm install -g @openai/codex".to_owned(),
            _ => format!("install {program}, or correct agent.command"),
        };
        // A login shell may have a PATH of its own.
        return vec![Finding::warning(
            "agent",
            format!("`{program}`, which agent.command begins with, is not on PATH"),
            "no session can be started, unless the login shell finds it",
            remedy,
        )];
    };
    let version = survey::version(&path).await;
    let mut findings = vec![match (policy.kind, version.ok) {
        (AgentKind::Codex, true) if !version.text.contains(CODEX_TESTED) => Finding::note(
            "agent",
            format!("{} is {}; this program was tested with {CODEX_TESTED}", path.display(), version.text),
        ),
        (_, true) => Finding::ok("agent", format!("{} is {}", path.display(), version.text)),
        (_, false) => Finding::warning(
            "agent",
            format!("{} does not tell its version: {}", path.display(), version.text),
            "it may not start either",
            format!("run `{program} --version` and see to what it says"),
        ),
    }];
    findings.extend(known.and_then(credentials));
    findings
}

fn script(policy: &AgentPolicy) -> Finding {
    match &policy.script {
        Some(script) if std::path::Path::new(script).is_file() => {
            Finding::ok("agent", format!("the scripted agent plays {script}"))
        }
        Some(script) => Finding::error(
            "agent",
            format!("the scripted agent's file {script} is not there"),
            "no session can be started",
            "write it, or correct agent.script",
        ),
        None => Finding::note("agent", "the scripted agent has no file"),
    }
}

/// Whether the agent has a login or a key; neither is read.
fn credentials(agent: KnownAgent) -> Option<Finding> {
    if agent.credentials.is_empty() && agent.login.is_none() {
        return None;
    }
    let home = std::env::var_os("HOME").map(std::path::PathBuf::from).unwrap_or_default();
    let codex_home = std::env::var_os("CODEX_HOME").filter(|_| agent.program == "codex");
    let login = match (codex_home, agent.login) {
        (Some(dir), _) => Some(std::path::Path::new(&dir).join("auth.json")),
        (None, login) => login.map(|login| home.join(login)),
    };
    let set = survey::set_variables(agent.credentials);
    if login.as_ref().is_some_and(|login| login.is_file()) {
        return Some(Finding::ok("credentials", format!("{} is logged in", agent.name)));
    }
    if let Some(name) = set.first() {
        return Some(Finding::ok("credentials", format!("{name} is set for {}", agent.name)));
    }
    Some(Finding::warning(
        "credentials",
        format!("{} has no login, and none of {} is set", agent.name, agent.credentials.join(", ")),
        "its first turn fails, unless its own configuration names another provider",
        format!("log in with `{}`, or set one of them", agent.program),
    ))
}
