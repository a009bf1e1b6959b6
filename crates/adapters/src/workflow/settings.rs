//! From front matter to [`Policy`]: defaults, coercion, validation (Symphony §5.3, §6.1, §6.4).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use dalsegno_core::{
    AgentKind, AgentPolicy, AutoApprove, CodexPolicy, CommitMode, Failure, ForgePolicy, HandoffPolicy, HooksPolicy,
    Policy, QuestionPolicy, Sandbox, SandboxNetwork, TrackerPolicy, WorkspacePolicy, WorkspaceStrategy,
    normalized_state,
};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::later::TRACKERS;
use super::paths::{self, Environment};
use super::secrets;
use super::section::{Section, invalid, shown};
use super::{ServerSettings, governance, notify, webhooks};

/// Where the file is, and the environment that its `$VAR`s mean.
pub(super) struct Place<'a> {
    pub(super) project_dir: &'a Path,
    pub(super) env: &'a Environment,
}

/// The policy that the front matter and the body describe.
pub(super) fn policy(config: &Map<String, Value>, body: &str, place: &Place<'_>) -> Result<Policy, Failure> {
    let project_dir = place.project_dir.to_str().ok_or_else(|| {
        Failure::permanent("invalid_config", "the path of the project's directory is not valid UTF-8")
            .hint("Move the project to a directory with a plain name.")
    })?;
    let defaults = Policy::of(project_dir, workspace(config, place)?, agent(config, place)?);
    protected(Policy {
        tracker: tracker(config)?,
        poll_interval_ms: Section::of(config, "polling")?.millis("interval_ms", defaults.poll_interval_ms)?,
        hooks: hooks(&Section::of(config, "hooks")?)?,
        handoff: handoff(config)?,
        budget: governance::budget(config)?,
        breaker: governance::breaker(config)?,
        quota: governance::quota(config)?,
        auto_approve: Section::of(config, "questions")?
            .word(
                "auto_approve",
                &[("none", AutoApprove::None), ("workspace", AutoApprove::Workspace), ("all", AutoApprove::All)],
            )?
            .unwrap_or_default(),
        questions: questions(&Section::of(config, "questions")?)?,
        notify: notify::notify(config)?,
        webhooks: webhooks::webhooks(config)?,
        prompt_template: if body.is_empty() { defaults.prompt_template } else { body.to_owned() },
        ..defaults
    })
}

fn questions(section: &Section<'_>) -> Result<QuestionPolicy, Failure> {
    let defaults = QuestionPolicy::default();
    Ok(QuestionPolicy { expire_ms: section.duration_ms("expire")?.unwrap_or(defaults.expire_ms) })
}

/// Most names in `server.hosts`.
const MAX_HOSTS: usize = 50;

/// The section `server`, which the program needs and a policy does not.
pub(super) fn server(config: &Map<String, Value>) -> Result<ServerSettings, Failure> {
    let section = Section::of(config, "server")?;
    let host = match section.text("host")? {
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(host) => {
            let found = host.trim().parse::<IpAddr>();
            found.map_err(|_| {
                invalid(
                    "server.host",
                    &shown(&Value::String(host)),
                    "an address of this machine, such as 127.0.0.1 or 0.0.0.0",
                )
            })?
        }
    };
    let hosts = section.texts("hosts", false)?.unwrap_or_default();
    let plain = |host: &String| {
        let name = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_name = |host: &str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        name.map_or_else(|| is_name(host), |address| address.parse::<Ipv6Addr>().is_ok())
    };
    if hosts.len() > MAX_HOSTS || !hosts.iter().all(plain) {
        let allowed = "up to 50 names or addresses without scheme and port";
        return Err(invalid("server.hosts", &shown(&Value::String(hosts.join(", "))), allowed));
    }
    let port = section.integer("port", 0, i64::from(u16::MAX))?;
    let auth_required = section.word("auth", &[("open", false), ("required", true)])?.unwrap_or(false);
    Ok(ServerSettings { host, port: port.and_then(|port| u16::try_from(port).ok()), hosts, auth_required })
}

fn tracker(config: &Map<String, Value>) -> Result<TrackerPolicy, Failure> {
    let section = Section::of(config, "tracker")?;
    let kind = match section.text("kind")? {
        Some(kind) if TRACKERS.contains(&kind.trim()) => kind.trim().to_owned(),
        Some(kind) => {
            let kind: String = kind.chars().take(60).collect();
            return Err(Failure::permanent(
                "unsupported_tracker_kind",
                format!("tracker.kind is `{kind}`; this version knows local"),
            )
            .hint("Set tracker.kind to local."));
        }
        None => {
            return Err(Failure::permanent("unsupported_tracker_kind", "tracker.kind is not set")
                .hint("Set tracker.kind to local: one Markdown file per issue in issues/."));
        }
    };
    let provider = section.map("provider")?;
    secrets::refuse_literal(&section.path_of("provider"), &provider)?;
    let defaults = TrackerPolicy::default();
    let trimmed = |list: Vec<String>| list.into_iter().map(|name| name.trim().to_owned()).collect::<Vec<_>>();
    Ok(TrackerPolicy {
        kind,
        provider,
        required_labels: section
            .texts("required_labels", true)?
            .unwrap_or_default()
            .iter()
            .map(|label| label.trim().to_lowercase())
            .collect(),
        active_states: section.texts("active_states", false)?.map_or(defaults.active_states, trimmed),
        terminal_states: section.texts("terminal_states", false)?.map_or(defaults.terminal_states, trimmed),
    })
}

fn workspace(config: &Map<String, Value>, place: &Place<'_>) -> Result<WorkspacePolicy, Failure> {
    let section = Section::of(config, "workspace")?;
    let root = match section.text("root")? {
        Some(root) => paths::resolve("workspace.root", &root, place.project_dir, place.env)?,
        None => Path::new(&paths::home("workspace.root", place.env)?)
            .join(".dalsegno/workspaces")
            .join(project_name(place.project_dir)),
    };
    let strategy = section.word(
        "strategy",
        &[
            ("clone", WorkspaceStrategy::Clone),
            ("worktree", WorkspaceStrategy::Worktree),
            ("empty", WorkspaceStrategy::Empty),
        ],
    )?;
    let given = section.text("repo")?;
    let (repo, found) = match &given {
        Some(url) if paths::is_url(url) => {
            secrets::refuse_in_url("workspace.repo", url)?;
            (url.clone(), true)
        }
        Some(path) => {
            let path = paths::resolve("workspace.repo", path, place.project_dir, place.env)?;
            let repo = paths::enclosing_repository(&path);
            (utf8("workspace.repo", repo.as_deref().unwrap_or(&path))?, repo.is_some())
        }
        None => {
            let repo = paths::enclosing_repository(place.project_dir);
            (utf8("workspace.repo", repo.as_deref().unwrap_or(place.project_dir))?, repo.is_some())
        }
    };
    let wants_repo = given.is_some() || handoff_section(config);
    let defaults = WorkspacePolicy::of(utf8("workspace.root", &root)?, repo);
    Ok(WorkspacePolicy {
        strategy: strategy.unwrap_or(if found || wants_repo { defaults.strategy } else { WorkspaceStrategy::Empty }),
        base: section.text("base")?.map(|base| base.trim().to_owned()),
        branch: section.text("branch")?.unwrap_or(defaults.branch),
        disk_limit_bytes: gigabytes(&section, "disk_limit_gb")?,
        ..defaults
    })
}

/// Bytes of a number of gigabytes (10⁹ bytes), fractions included.
fn gigabytes(section: &Section<'_>, key: &str) -> Result<Option<u64>, Failure> {
    let Some(value) = section.get(key) else { return Ok(None) };
    let bytes = value.as_f64().map(|gigabytes| gigabytes * 1e9).filter(|bytes| *bytes >= 1.0 && *bytes < 1e18);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is positive and below 10^18")]
    let bytes = bytes.map(|bytes| bytes as u64);
    let allowed = || invalid(&section.path_of(key), &shown(value), "a number of gigabytes above 0");
    Ok(Some(bytes.ok_or_else(allowed)?))
}

fn utf8(key: &str, path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| invalid(key, "no valid UTF-8", "a path in UTF-8"))
}

/// Name of the directory and the start of a hash of its whole path: two projects of one name stay apart.
fn project_name(project_dir: &Path) -> String {
    let name = project_dir.file_name().and_then(|name| name.to_str()).unwrap_or("project");
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    let hash = Sha256::digest(project_dir.as_os_str().as_encoded_bytes());
    format!("{name}-{}", hex::encode(&hash[..4]))
}

fn hooks(section: &Section<'_>) -> Result<HooksPolicy, Failure> {
    Ok(HooksPolicy {
        after_create: section.text("after_create")?,
        before_run: section.text("before_run")?,
        after_run: section.text("after_run")?,
        before_remove: section.text("before_remove")?,
        timeout_ms: section.millis("timeout_ms", HooksPolicy::default().timeout_ms)?,
    })
}

fn agent(config: &Map<String, Value>, place: &Place<'_>) -> Result<AgentPolicy, Failure> {
    let section = Section::of(config, "agent")?;
    let codex = Section::of(config, "codex")?;
    // `later` has refused every other kind.
    let kinds = [("codex", AgentKind::Codex), ("acp", AgentKind::Acp), ("scripted", AgentKind::Scripted)];
    let kind = section.word("kind", &kinds)?.unwrap_or(AgentKind::Codex);
    // A command is a shell command and stays as it is (Symphony §6.1). The specification has Codex's in `codex`.
    let command = match (section.text("command")?, kind) {
        (None, AgentKind::Codex) => codex.text("command")?,
        (command, _) => command,
    };
    let script = section
        .text("script")?
        .map(|path| {
            let path = paths::resolve("agent.script", &path, place.project_dir, place.env)?;
            utf8("agent.script", &path)
        })
        .transpose()?;
    match kind {
        AgentKind::Acp if command.is_none() => {
            return Err(invalid("agent.command", "not set", "a shell command that starts an ACP agent on stdio"));
        }
        AgentKind::Scripted if script.is_none() => {
            return Err(invalid("agent.script", "not set", "the path of the scripted agent's YAML file"));
        }
        AgentKind::Codex | AgentKind::Acp | AgentKind::Scripted => {}
    }
    let defaults = AgentPolicy::of(kind);
    Ok(AgentPolicy {
        kind,
        command,
        script,
        max_concurrent_agents: section.count("max_concurrent_agents", defaults.max_concurrent_agents)?,
        max_turns: section.count("max_turns", defaults.max_turns)?,
        max_retry_backoff_ms: section.millis("max_retry_backoff_ms", defaults.max_retry_backoff_ms)?,
        max_concurrent_agents_by_state: by_state(&section.map("max_concurrent_agents_by_state")?),
        turn_timeout_ms: codex.millis("turn_timeout_ms", defaults.turn_timeout_ms)?,
        read_timeout_ms: codex.millis("read_timeout_ms", defaults.read_timeout_ms)?,
        stall_timeout_ms: codex.integer("stall_timeout_ms", i64::MIN, i64::MAX)?.unwrap_or(defaults.stall_timeout_ms),
        sandbox: sandbox(section.text("sandbox")?.as_deref())?,
        sandbox_network: section
            .word(
                "sandbox_network",
                &[("all", SandboxNetwork::All), ("agent", SandboxNetwork::Agent), ("none", SandboxNetwork::None)],
            )?
            .unwrap_or_default(),
        sandbox_write: section
            .texts("sandbox_write", false)?
            .unwrap_or_default()
            .iter()
            .map(|path| {
                let path = paths::resolve("agent.sandbox_write", path, place.project_dir, place.env)?;
                utf8("agent.sandbox_write", &path)
            })
            .collect::<Result<_, _>>()?,
        model: section.text("model")?.map(|model| model.trim().to_owned()),
        codex: CodexPolicy {
            approval_policy: codex.get("approval_policy").cloned(),
            thread_sandbox: codex.get("thread_sandbox").cloned(),
            turn_sandbox_policy: codex.get("turn_sandbox_policy").cloned(),
        },
    })
}

/// `none`, `bubblewrap`, or `command` and a shell command.
fn sandbox(text: Option<&str>) -> Result<Sandbox, Failure> {
    match text.map(str::trim) {
        None | Some("none") => Ok(Sandbox::None),
        Some("bubblewrap") => Ok(Sandbox::Bubblewrap),
        Some(text) => match text.strip_prefix("command ").map(str::trim).filter(|command| !command.is_empty()) {
            Some(command) => Ok(Sandbox::Command(command.to_owned())),
            None => Err(invalid("agent.sandbox", text, "none, bubblewrap, or `command` and a command that contains")),
        },
    }
}

// Entries that are no positive number are ignored (Symphony §5.3.5).
fn by_state(map: &Map<String, Value>) -> BTreeMap<String, u32> {
    map.iter()
        .filter_map(|(state, limit)| {
            let limit = limit.as_u64().and_then(|limit| u32::try_from(limit).ok()).filter(|limit| *limit > 0)?;
            let state = normalized_state(state);
            (!state.is_empty()).then_some((state, limit))
        })
        .collect()
}

/// The section counts when it is there, even with nothing in it.
fn handoff_section(config: &Map<String, Value>) -> bool {
    config.get("handoff").is_some_and(|value| *value != Value::Bool(false))
}

fn handoff(config: &Map<String, Value>) -> Result<Option<HandoffPolicy>, Failure> {
    if !handoff_section(config) {
        return Ok(None);
    }
    let section = Section::of(config, "handoff")?;
    let defaults = HandoffPolicy::default();
    let comment = match section.raw("comment") {
        None => defaults.comment,
        Some(Value::Null | Value::Bool(false)) => None,
        Some(Value::String(text)) => Some(text.clone()).filter(|text| !text.trim().is_empty()),
        Some(other) => return Err(invalid("handoff.comment", &shown(other), "a template, or false for no comment")),
    };
    let trimmed = |text: Option<String>| text.map(|text| text.trim().to_owned());
    let expires = section.duration_ms("approval_expires")?.unwrap_or(HandoffPolicy::APPROVAL_MS);
    if expires == 0 {
        return Err(invalid("handoff.approval_expires", "0", "a duration like 30m or 24h, longer than nothing"));
    }
    Ok(Some(HandoffPolicy {
        remote: trimmed(section.text("remote")?).unwrap_or(defaults.remote),
        checks: section.texts("checks", false)?.unwrap_or_default(),
        check_timeout_ms: section.millis("check_timeout_ms", defaults.check_timeout_ms)?,
        commit: section
            .word("commit", &[("auto", CommitMode::Auto), ("require", CommitMode::Require)])?
            .unwrap_or_default(),
        claim_state: trimmed(section.text("claim_state")?),
        state: trimmed(section.text("state")?),
        comment,
        approval_ms: section
            .word("approval", &[("none", None), ("required", Some(expires))])?
            .unwrap_or(defaults.approval_ms),
        forge: forge(&section)?,
    }))
}

/// `later` has refused what this version does not know; the adapter looks at its own keys.
fn forge(section: &Section<'_>) -> Result<Option<ForgePolicy>, Failure> {
    let provider = section.map("provider")?;
    let path = section.path_of("provider");
    secrets::refuse_literal(&path, &provider)?;
    match section.text("forge")?.as_deref().map(str::trim) {
        Some(kind @ "github") => Ok(Some(ForgePolicy { kind: kind.to_owned(), provider })),
        Some(_) | None if provider.is_empty() => Ok(None),
        Some(_) | None => {
            Err(invalid(&path, "set without a forge that would read it", "only with handoff.forge: github"))
        }
    }
}

/// An agent that can read the operator's token could approve what it made itself.
fn protected(policy: Policy) -> Result<Policy, Failure> {
    let asks = policy.handoff.as_ref().is_some_and(|handoff| handoff.approval_ms.is_some());
    if asks && policy.agent.sandbox == Sandbox::None {
        let why = "handoff.approval is required, and the agent runs without a sandbox: it could read the operator's token and \
                   approve what it made";
        return Err(Failure::permanent("approval_unprotected", why).hint(
            "Set agent.sandbox to bubblewrap or to a command that contains the agent, or handoff.approval to none.",
        ));
    }
    Ok(policy)
}
