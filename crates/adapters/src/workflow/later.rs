//! Keys whose feature this version does not have. They are read, checked, and refused when they would
//! change what happens: a setting that is accepted and does nothing is worse than an error.

use dalsegno_core::Failure;
use serde_json::{Map, Value};

use super::section::{Section, invalid, shown};

/// Kinds of agents that there are, by the words of `agent.kind`.
pub const AGENTS: [&str; 3] = ["codex", "acp", "scripted"];
/// Trackers that there are, by the words of `tracker.kind`.
pub const TRACKERS: [&str; 1] = ["local"];
/// Forges that there are, by the words of `handoff.forge`.
pub const FORGES: [&str; 2] = ["git", "github"];

fn refuse(key: &str, value: &Value, instead: &str) -> Failure {
    Failure::permanent("not_available", format!("{key} is {}, and this version cannot do that yet", shown(value)))
        .hint(instead.to_owned())
}

/// Refuses what the front matter asks for and this version does not do.
pub(super) fn refuse_unavailable(config: &Map<String, Value>) -> Result<(), Failure> {
    agent(&Section::of(config, "agent")?)?;
    handoff(config)?;
    let store = Section::of(config, "store")?;
    other_than(&store, "url", &["sqlite".into()], "Remove store.url: the journal is the SQLite file in .dalsegno/.")?;
    let worker = Section::of(config, "worker")?;
    if worker.get("ssh_hosts").is_some_and(|value| !is_nothing(value)) {
        set(&worker, "ssh_hosts", "Remove worker.ssh_hosts: agents run on this machine.")?;
    }
    set(
        &worker,
        "max_concurrent_agents_per_host",
        "Remove worker.max_concurrent_agents_per_host: agents run on this machine, and agent.max_concurrent_agents limits \
         them.",
    )
}

fn agent(agent: &Section<'_>) -> Result<(), Failure> {
    let instead = "Set agent.kind to codex, to acp (with agent.command) or to scripted (with agent.script).";
    let kind = agent.get("kind");
    match kind {
        None => Ok(()),
        Some(Value::String(kind)) if AGENTS.contains(&kind.trim()) => Ok(()),
        Some(value @ Value::String(kind)) if matches!(kind.trim(), "claude" | "opencode" | "openhands") => {
            Err(refuse("agent.kind", value, instead))
        }
        Some(value) => {
            Err(invalid("agent.kind", &shown(value), "codex, acp, scripted (claude, opencode, openhands come later)"))
        }
    }?;
    if kind.and_then(Value::as_str).is_none_or(|kind| kind.trim() == "codex") {
        return Ok(());
    }
    set(agent, "model", "Remove agent.model and choose the model in the agent's own configuration or command.")
}

fn handoff(config: &Map<String, Value>) -> Result<(), Failure> {
    if !matches!(config.get("handoff"), Some(Value::Object(_))) {
        return Ok(());
    }
    let handoff = Section::of(config, "handoff")?;
    handoff.word("forge", &[("github", ()), ("gitlab", ()), ("forgejo", ()), ("git", ())])?;
    other_than(
        &handoff,
        "forge",
        &FORGES.map(Value::from),
        "Set handoff.forge to github, or to git: the branch is pushed and nothing more.",
    )
}

fn set(section: &Section<'_>, key: &str, instead: &str) -> Result<(), Failure> {
    match section.get(key) {
        Some(value) => Err(refuse(&section.path_of(key), value, instead)),
        None => Ok(()),
    }
}

fn other_than(section: &Section<'_>, key: &str, fine: &[Value], instead: &str) -> Result<(), Failure> {
    match section.get(key) {
        Some(value) if !fine.contains(value) => Err(refuse(&section.path_of(key), value, instead)),
        Some(_) | None => Ok(()),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
