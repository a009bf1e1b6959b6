//! WORKFLOW.md: Symphony §5, §6 and §17.1, and our own keys.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use dalsegno_adapters::workflow::{Environment, WorkflowFile};
use dalsegno_core::{
    AgentKind, AutoApprove, BlockerRef, CodexPolicy, CommitMode, Failure, Issue, Policy, Sandbox, SandboxNetwork,
    Timestamp, WorkspaceStrategy,
};
use dalsegno_engine::{Workflow, policy_hash};

const MINIMAL: &str = "tracker: {kind: local}\nagent: {kind: acp, command: my-agent}\n";

struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        fs::canonicalize(self.dir.path()).unwrap()
    }

    fn write(&self, text: &str) -> WorkflowFile {
        fs::write(self.dir.path().join("WORKFLOW.md"), text).unwrap();
        self.file()
    }

    fn file(&self) -> WorkflowFile {
        let env: Environment = Arc::new(|name| match name {
            "HOME" => Some("/home/ada".to_owned()),
            "SPACE" => Some("/big".to_owned()),
            "TOKEN" => Some("sesame".to_owned()),
            _ => None,
        });
        WorkflowFile::with_environment(self.dir.path().join("WORKFLOW.md"), env)
    }
}

fn load(front: &str) -> Result<Policy, Failure> {
    Project::new().write(&format!("---\n{front}---\nDo it.\n")).load()
}

fn minimal_and(more: &str) -> Result<Policy, Failure> {
    load(&format!("{MINIMAL}{more}"))
}

fn issue() -> Issue {
    Issue {
        priority: Some(2),
        labels: vec!["bug".to_owned(), "ui".to_owned()],
        blocked_by: vec![BlockerRef { id: None, identifier: Some("DS-0".to_owned()), state: None }],
        created_at: Some(Timestamp(1_767_315_845_000)),
        ..Issue::new("i1", "DS-1", "{{ attempt }} {% if %}", "Todo")
    }
}

fn render(template: &str, attempt: Option<u32>) -> Result<String, Failure> {
    Project::new().file().render(template, &issue(), attempt)
}

#[test]
fn s17_1_missing_file_is_a_typed_error() {
    let failure = Project::new().file().load().unwrap_err();
    assert_eq!(failure.code, "missing_workflow_file");
    assert!(failure.hint.is_some());
}

#[test]
fn s17_1_invalid_yaml_is_a_typed_error_with_its_line() {
    let failure = load("tracker:\n  kind: local\n bad indent: [\n").unwrap_err();
    assert_eq!(failure.code, "workflow_parse_error");
    assert!(failure.message.contains("line 4") || failure.message.contains("line 5"), "{failure}");
    let failure = Project::new().write("---\ntracker: {kind: local}\n").load().unwrap_err();
    assert_eq!(failure.code, "workflow_parse_error");
    assert!(failure.message.contains("line 1"), "{failure}");
    let project = Project::new();
    fs::write(project.dir.path().join("WORKFLOW.md"), b"---\n\n\xff\n---\n").unwrap();
    let failure = project.file().load().unwrap_err();
    assert_eq!(failure.code, "workflow_parse_error");
    assert!(failure.message.contains("line 3"), "{failure}");
}

#[test]
fn s17_1_front_matter_that_is_no_map_is_a_typed_error() {
    for front in ["- a\n", "just text\n", "7\n"] {
        assert_eq!(load(front).unwrap_err().code, "workflow_front_matter_not_a_map", "{front}");
    }
}

#[test]
fn s17_1_defaults_apply() {
    let project = Project::new();
    let policy = project.write(&format!("---\n{MINIMAL}---\n\n  Do it.\n\n")).load().unwrap();
    assert_eq!(policy.project_dir, project.path().to_str().unwrap());
    assert_eq!(policy.prompt_template, "Do it.");
    assert_eq!(policy.poll_interval_ms, 30_000);
    assert_eq!(policy.tracker.active_states, ["Todo", "In Progress", "Rework"]);
    assert_eq!(policy.tracker.terminal_states, ["Done", "Closed", "Canceled", "Duplicate"]);
    assert!(policy.tracker.required_labels.is_empty());
    assert_eq!(policy.hooks.timeout_ms, 60_000);
    let agent = &policy.agent;
    assert_eq!((agent.max_concurrent_agents, agent.max_turns, agent.max_retry_backoff_ms), (10, 20, 300_000));
    assert_eq!((agent.turn_timeout_ms, agent.read_timeout_ms, agent.stall_timeout_ms), (3_600_000, 5_000, 300_000));
    assert!(agent.max_concurrent_agents_by_state.is_empty());
    assert_eq!(policy.workspace.branch, "dalsegno/{{ issue.identifier }}");
    assert_eq!(policy.workspace.base.as_deref(), None);
    let name = project.path().file_name().unwrap().to_str().unwrap().to_owned();
    assert!(policy.workspace.root.starts_with("/home/ada/.dalsegno/workspaces/"), "{}", policy.workspace.root);
    assert!(policy.workspace.root.contains(name.trim_start_matches('.')), "{}", policy.workspace.root);
    assert_eq!(policy.budget.issue_runs, 20);
    assert_eq!(policy.auto_approve, AutoApprove::None);
    assert_eq!(policy.handoff, None);
}

#[test]
fn s5_2_without_front_matter_the_whole_file_is_prompt() {
    let failure = Project::new().write("Just a prompt.\n").load().unwrap_err();
    assert_eq!(failure.code, "unsupported_tracker_kind", "the specification has no default for it: {failure}");
}

#[test]
fn s5_4_an_empty_body_is_the_default_prompt() {
    let policy = Project::new().write(&format!("---\n{MINIMAL}---\n")).load().unwrap();
    assert_eq!(policy.prompt_template, "You are working on an issue from the configured tracker.");
}

#[test]
fn s17_1_tracker_kind_is_checked() {
    let agent = "agent: {kind: acp, command: a}\n";
    for front in [agent.to_owned(), format!("tracker: {{kind: linear}}\n{agent}")] {
        assert_eq!(load(&front).unwrap_err().code, "unsupported_tracker_kind");
    }
}

#[test]
fn s17_1_provider_keys_and_secret_references_are_kept() {
    let front = "tracker:\n  kind: local\n  provider: {path: x, api_key: $TOKEN, own: {deep: [1]}}\nagent: {kind: acp, command: a}\n";
    let policy = load(front).unwrap();
    let provider = serde_json::to_value(&policy.tracker.provider).unwrap();
    assert_eq!(provider, serde_json::json!({"path": "x", "api_key": "$TOKEN", "own": {"deep": [1]}}));
    assert!(!serde_json::to_string(&policy).unwrap().contains("sesame"));
}

#[test]
fn s17_1_home_and_variables_expand_in_paths() {
    for (root, expected) in [("~/w", "/home/ada/w"), ("$SPACE/w", "/big/w"), ("/abs", "/abs")] {
        let policy = minimal_and(&format!("workspace: {{root: {root}}}\n")).unwrap();
        assert_eq!(policy.workspace.root, expected);
    }
    let project = Project::new();
    let policy = project.write(&format!("---\n{MINIMAL}workspace: {{root: ../w}}\n---\n")).load().unwrap();
    assert_eq!(PathBuf::from(policy.workspace.root), project.path().parent().unwrap().join("w"));
    assert_eq!(minimal_and("workspace: {root: $UNSET/w}\n").unwrap_err().code, "invalid_config");
}

#[test]
fn s17_1_commands_stay_shell_commands() {
    let front = "tracker: {kind: local}\nagent: {kind: acp, command: \"~/bin/agent --key $TOKEN | tee log\"}\n";
    let policy = load(front).unwrap();
    assert_eq!(policy.agent.command.as_deref(), Some("~/bin/agent --key $TOKEN | tee log"));
    assert_eq!(policy.agent.kind, AgentKind::Acp);
}

#[test]
fn codex_is_the_default_and_its_own_keys_are_kept_as_they_are() {
    let front = |agent: &str| load(&format!("tracker: {{kind: local}}\n{agent}")).unwrap().agent;
    let agent = front("");
    assert_eq!((agent.kind, agent.command, agent.codex), (AgentKind::Codex, None, CodexPolicy::default()));
    let agent = front("codex: {command: 'codex -p work app-server'}\n");
    assert_eq!(agent.command.as_deref(), Some("codex -p work app-server"));
    let agent = front(
        "agent: {kind: codex, command: a, model: m}\ncodex: {command: b, approval_policy: never, thread_sandbox: read-only, turn_sandbox_policy: {type: readOnly}}\n",
    );
    assert_eq!((agent.command.as_deref(), agent.model.as_deref()), (Some("a"), Some("m")));
    assert_eq!(agent.codex.approval_policy, Some("never".into()));
    assert_eq!(agent.codex.thread_sandbox, Some("read-only".into()));
    assert_eq!(agent.codex.turn_sandbox_policy, Some(serde_json::json!({"type": "readOnly"})));
    let agent = front("agent: {kind: acp, command: a}\ncodex: {command: b}\n");
    assert_eq!(agent.command.as_deref(), Some("a"));
}

#[test]
fn s17_1_per_state_limits_are_normalised_and_bad_entries_ignored() {
    let front = "tracker: {kind: local}\nagent:\n  kind: acp\n  command: a\n  max_concurrent_agents_by_state: {' In Progress ': 2, Todo: 0, Rework: -1, x: many, y: 1.5, z: null}\n";
    let limits = load(front).unwrap().agent.max_concurrent_agents_by_state;
    assert_eq!(limits.into_iter().collect::<Vec<_>>(), [("in progress".to_owned(), 2)]);
}

#[test]
fn s5_3_invalid_values_name_key_and_what_is_allowed() {
    for (front, key, allowed) in [
        ("polling: {interval_ms: soon}\n", "polling.interval_ms", "whole number"),
        ("polling: 5\n", "polling", "a map"),
        ("hooks: {timeout_ms: 0}\n", "hooks.timeout_ms", "1 or more"),
        ("workspace: {strategy: magic}\n", "workspace.strategy", "clone, worktree, empty"),
        ("handoff: {commit: maybe}\n", "handoff.commit", "auto, require"),
        ("handoff: {checks: cargo test}\n", "handoff.checks", "list"),
        ("questions: {auto_approve: yes please}\n", "questions.auto_approve", "none, workspace, all"),
        ("server: {port: 70000}\n", "server.port", "65535"),
        ("questions: {expire: soon}\n", "questions.expire", "24h"),
    ] {
        let failure = minimal_and(front).unwrap_err();
        assert_eq!(failure.code, "invalid_config", "{front}");
        assert!(failure.message.contains(key) && failure.message.contains(allowed), "{failure}");
    }
    for agent in ["{kind: acp}", "{kind: scripted}", "{kind: acp, command: a, max_turns: 0}", "{kind: emacs}"] {
        let failure = load(&format!("tracker: {{kind: local}}\nagent: {agent}\n")).unwrap_err();
        assert_eq!(failure.code, "invalid_config", "{agent}");
    }
}

#[test]
fn a_forge_keeps_the_keys_of_its_provider_and_no_secret() {
    let front = "handoff: {forge: github, provider: {token: $FORGE, repository: acme/widgets}}\n";
    let forge = minimal_and(front).unwrap().handoff.unwrap().forge.unwrap();
    assert_eq!(forge.kind, "github");
    assert_eq!(forge.provider.get("repository").and_then(serde_json::Value::as_str), Some("acme/widgets"));
    assert_eq!(minimal_and("handoff: {forge: git}\n").unwrap().handoff.unwrap().forge, None);
    for (front, code, key) in [
        ("handoff: {forge: github, provider: {token: ghp_123}}\n", "literal_secret", "handoff.provider.token"),
        ("workspace: {repo: 'https://ada:ghp_123@host/r.git'}\n", "literal_secret", "workspace.repo"),
        ("workspace: {repo: 'https://ghp_123@host/r.git'}\n", "literal_secret", "workspace.repo"),
        ("handoff: {provider: {repository: a/b}}\n", "invalid_config", "handoff.provider"),
        ("handoff: {forge: git, provider: {repository: a/b}}\n", "invalid_config", "handoff.provider"),
        ("handoff: {forge: github, provider: seven}\n", "invalid_config", "handoff.provider"),
        ("handoff: {forge: githup}\n", "invalid_config", "handoff.forge"),
    ] {
        let failure = minimal_and(front).unwrap_err();
        assert_eq!(failure.code, code, "{front}: {failure}");
        assert!(failure.message.contains(key) && !failure.message.contains("ghp_123"), "{failure}");
    }
    let project = Project::new();
    let file = project.write(&format!("---\n{MINIMAL}handoff: {{forge: github, provider: {{anything: 1}}}}\n---\n"));
    assert_eq!(file.load_full().unwrap().unknown_keys, []);
}

#[test]
fn later_features_are_refused_by_name_with_a_remedy() {
    for (front, key) in [
        ("handoff: {forge: gitlab}\n", "handoff.forge"),
        ("handoff: {forge: forgejo}\n", "handoff.forge"),
        ("store: {url: 'postgres://db'}\n", "store.url"),
        ("worker: {ssh_hosts: [a]}\n", "worker.ssh_hosts"),
        ("worker: {max_concurrent_agents_per_host: 2}\n", "worker.max_concurrent_agents_per_host"),
    ] {
        let failure = minimal_and(front).unwrap_err();
        assert_eq!(failure.code, "not_available", "{front}: {failure}");
        assert!(failure.message.contains(key) && failure.hint.is_some(), "{failure}");
    }
    for agent in ["agent: {kind: claude}\n", "agent: {kind: acp, command: a, model: b}\n"] {
        let failure = load(&format!("tracker: {{kind: local}}\n{agent}")).unwrap_err();
        assert_eq!(failure.code, "not_available", "{agent}");
        assert!(failure.message.contains("agent."), "{failure}");
    }
    let harmless = "workspace: {strategy: clone}\nhandoff: {forge: git, approval: none}\nbudget: {issue: {runs: 3}}\nbreaker: {}\nquota: {resume_at_reset: true}\nnotify: []\nstore: {url: sqlite}\nworker: {ssh_hosts: []}\n";
    assert_eq!(minimal_and(harmless).unwrap().budget.issue_runs, 3);
}

#[test]
fn an_approval_wants_an_agent_that_cannot_give_it() {
    let handoff = |agent: &str, handoff: &str| {
        load(&format!("tracker: {{kind: local}}\nagent: {{kind: acp, command: a{agent}}}\nhandoff: {handoff}\n"))
    };
    let approval = |agent: &str, keys: &str| handoff(agent, keys).map(|policy| policy.handoff.unwrap().approval_ms);
    assert_eq!(approval("", "{}"), Ok(None));
    assert_eq!(approval("", "{approval: none}"), Ok(None));
    assert_eq!(approval("", "{approval: required}").unwrap_err().code, "approval_unprotected");
    let contained = ", sandbox: bubblewrap";
    assert_eq!(approval(contained, "{approval: required}"), Ok(Some(86_400_000)));
    assert_eq!(approval(contained, "{approval: required, approval_expires: 30m}"), Ok(Some(1_800_000)));
    for wrong in ["{approval: maybe}", "{approval: required, approval_expires: 5}", "{approval_expires: 0s}"] {
        assert_eq!(approval(contained, wrong).unwrap_err().code, "invalid_config", "{wrong}");
    }
}

#[test]
fn a_literal_secret_of_a_tracker_is_refused_without_being_told_and_a_reference_is_kept() {
    for provider in [
        "token: s3cr3t",
        "Api-Key: s3cr3t",
        "apiKey: s3cr3t",
        "key: s3cr3t",
        "client_secret: s3cr3t",
        "password: 53",
        "auth: {user: me, password: s3cr3t}",
        "tokens: [$FIRST, s3cr3t]",
        "credentials: {main: s3cr3t}",
        "token: Bearer $TOKEN",
    ] {
        let failure =
            load(&format!("tracker: {{kind: local, provider: {{{provider}}}}}\nagent: {{kind: acp, command: a}}\n"))
                .unwrap_err();
        assert_eq!(failure.code, "literal_secret", "{provider}: {failure}");
        assert!(failure.message.contains("tracker.provider."), "{failure}");
        let told = format!("{failure:?}");
        assert!(!told.contains("s3cr3t") && !told.contains("53"), "{told}");
    }
    for provider in
        ["token: $TRACKER_TOKEN", "api_key: '${TRACKER_KEY}'", "project_key: DS", "token: ''", "secret: null"]
    {
        let loaded =
            load(&format!("tracker: {{kind: local, provider: {{{provider}}}}}\nagent: {{kind: acp, command: a}}\n"));
        assert!(loaded.is_ok(), "{provider}: {loaded:?}");
    }
}

#[test]
fn the_sandbox_is_read_with_its_paths_and_its_network() {
    let agent = |keys: &str| {
        load(&format!("tracker: {kind}\nagent: {{kind: acp, command: a{keys}}}\n", kind = "{kind: local}"))
    };
    let none = agent("").unwrap().agent;
    assert_eq!((none.sandbox, none.sandbox_network), (Sandbox::None, SandboxNetwork::All));
    let policy = agent(", sandbox: bubblewrap, sandbox_network: agent, sandbox_write: [cache, /opt/x]").unwrap();
    assert_eq!((policy.agent.sandbox, policy.agent.sandbox_network), (Sandbox::Bubblewrap, SandboxNetwork::Agent));
    assert_eq!(policy.agent.sandbox_write, [format!("{}/cache", policy.project_dir), "/opt/x".to_owned()]);
    let wrapped = agent(", sandbox: 'command firejail --quiet'").unwrap().agent.sandbox;
    assert_eq!(wrapped, Sandbox::Command("firejail --quiet".to_owned()));
    for wrong in [", sandbox: docker", ", sandbox: command", ", sandbox_network: some", ", sandbox_write: 3"] {
        assert_eq!(agent(wrong).unwrap_err().code, "invalid_config", "{wrong}");
    }
}

#[test]
fn handoff_counts_when_the_section_is_there() {
    for front in ["handoff:\n", "handoff: {}\n"] {
        let handoff = minimal_and(front).unwrap().handoff.unwrap();
        assert_eq!((handoff.remote.as_str(), handoff.check_timeout_ms), ("origin", 600_000));
        assert_eq!((handoff.checks.len(), handoff.commit), (0, CommitMode::Auto));
        assert_eq!((handoff.claim_state, handoff.state), (None, None));
        assert!(handoff.comment.unwrap().contains("issue.identifier"));
    }
    for front in ["handoff: {comment: false}\n", "handoff: {comment: null}\n"] {
        assert_eq!(minimal_and(front).unwrap().handoff.unwrap().comment, None);
    }
}

#[test]
fn strategy_depends_on_what_is_around() {
    assert_eq!(minimal_and("").unwrap().workspace.strategy, WorkspaceStrategy::Empty);
    assert_eq!(minimal_and("handoff:\n").unwrap().workspace.strategy, WorkspaceStrategy::Clone);
    let policy = minimal_and("workspace: {repo: 'https://example.org/a.git'}\n").unwrap();
    assert_eq!(policy.workspace.strategy, WorkspaceStrategy::Clone);
    assert_eq!(policy.workspace.repo, "https://example.org/a.git");
    let project = Project::new();
    let git = project.dir.path().join(".git");
    fs::create_dir(&git).unwrap();
    fs::write(project.dir.path().join("WORKFLOW.md"), format!("---\n{MINIMAL}workspace: {{root: /w}}\n---\n")).unwrap();
    let policy = WorkflowFile::new(project.dir.path().join("WORKFLOW.md")).load().unwrap();
    assert_eq!(policy.workspace.strategy, WorkspaceStrategy::Empty, "an empty .git is no repository");
    fs::write(git.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    let sub = project.dir.path().join("ops");
    fs::create_dir(&sub).unwrap();
    fs::write(sub.join("WORKFLOW.md"), format!("---\n{MINIMAL}workspace: {{root: /w}}\n---\n")).unwrap();
    let policy = WorkflowFile::new(sub.join("WORKFLOW.md")).load().unwrap();
    assert_eq!(policy.workspace.strategy, WorkspaceStrategy::Clone);
    assert_eq!(PathBuf::from(policy.workspace.repo), project.path());
}

#[test]
fn s5_3_unknown_keys_are_ignored_and_listed() {
    let project = Project::new();
    let file =
        project.write(&format!("---\n{MINIMAL}polling: {{intervall_ms: 5}}\nserver: {{port: 0}}\n---\n{{{{ broken"));
    let loaded = file.load_full().unwrap();
    assert_eq!(loaded.server.port, Some(0));
    assert_eq!(loaded.unknown_keys.len(), 1);
    assert_eq!(loaded.unknown_keys[0].nearest.as_deref(), Some("polling.interval_ms"));
    assert_eq!(loaded.template_problems.len(), 1, "a broken template fails runs, not the load (§5.5)");
}

#[test]
fn s17_1_changes_are_detected_and_bad_reloads_fail() {
    let project = Project::new();
    let text = format!("---\n{MINIMAL}---\nOne.\n");
    let file = project.write(&text);
    assert!(file.changed(), "nothing was loaded yet");
    let first = file.load().unwrap();
    assert!(!file.changed());
    project.write(&text);
    assert!(!file.changed(), "touched, and the same");
    project.write(&text.replace("One.", "Two."));
    assert!(file.changed(), "same size, within the same tick of the clock");
    let second = file.load().unwrap();
    assert!(!file.changed());
    assert_ne!(policy_hash(&first), policy_hash(&second));
    assert_eq!(policy_hash(&second), policy_hash(&file.load().unwrap()));
    fs::remove_file(file.path()).unwrap();
    assert!(file.changed());
    assert_eq!(file.load().unwrap_err().code, "missing_workflow_file");
    assert!(!file.changed(), "the same error is not found twice");
}

#[test]
fn s17_1_prompts_render_issue_and_attempt() {
    let template = "{{ issue.identifier }}|{{ issue.title }}|{{ issue.description }}|{{ attempt }}|{% if attempt %}again{% else %}first{% endif %}|{% for label in issue.labels %}{{ label }},{% endfor %}|{% for b in issue.blocked_by %}{{ b.identifier }}:{{ b.state }}{% endfor %}|{{ issue.created_at }}";
    let expected = "DS-1|{{ attempt }} {% if %}|||first|bug,ui,|DS-0:|2026-01-02T01:04:05Z";
    assert_eq!(render(template, None).unwrap(), expected);
    assert_eq!(render("{{ attempt }}{% if attempt %}!{% endif %}", Some(3)).unwrap(), "3!");
    for field in [
        "id",
        "native_ref",
        "identifier",
        "title",
        "description",
        "priority",
        "state",
        "branch_name",
        "url",
        "assignee_id",
        "labels",
        "blocked_by",
        "parent",
        "dispatchable",
        "undispatchable_reason",
        "created_at",
        "updated_at",
    ] {
        assert!(
            render(&format!("{{{{ issue.{field} }}}}{{% if issue.{field} %}}{{% endif %}}"), None).is_ok(),
            "{field}"
        );
    }
}

#[test]
fn s17_1_unknown_variables_and_filters_fail() {
    for template in [
        "{{ nobody }}",
        "{{ issue.nothing }}",
        "{% if nobody %}x{% endif %}",
        "{% if issue.nothing %}x{% endif %}",
        "{% unless issue.nothing == 1 %}x{% endunless %}",
        "{% for x in nobody %}{% endfor %}",
        "{{ issue.title | shout }}",
        "{{ issue.title | append: nobody }}",
    ] {
        let failure = render(template, None).unwrap_err();
        assert_eq!(failure.code, "template_render_error", "{template}: {failure}");
    }
    for template in ["{{ issue.title", "{% if attempt %}", "{% nonsense %}"] {
        let failure = render(template, None).unwrap_err();
        assert_eq!(failure.code, "template_parse_error", "{template}: {failure}");
    }
}

#[test]
fn local_variables_are_known() {
    let template = "{% assign a = issue.labels | size %}{% if a %}{{ a }}{% endif %}{% for l in issue.labels %}{% if forloop.last %}{{ l }}{% endif %}{% endfor %}{% if issue.labels.size == 2 %}!{% endif %}";
    assert_eq!(render(template, None).unwrap(), "2ui!");
}

#[test]
fn output_is_bounded() {
    let failure = render("{% for i in (1..300000) %}0123456789{% endfor %}", None).unwrap_err();
    assert_eq!(failure.code, "template_render_error");
}

#[test]
fn a_template_takes_neither_the_memory_nor_the_stack_of_the_daemon() {
    let deep = |times: usize, open: &str, close: &str| format!("{}x{}", open.repeat(times), close.repeat(times));
    for fine in [
        "{% for i in (1..1000) %}{% endfor %}{% for i in (1..1000) %}{% endfor %}x".to_owned(),
        "{%-for i in( -3 .. +2 )-%}{% endfor %}x (1..4294967296)".to_owned(),
        deep(50, "{% if attempt %}", "{% endif %}"),
        format!("{}x", "{% if attempt %}{% endif %}".repeat(2_000)),
    ] {
        assert_eq!(render(&fine, Some(1)).unwrap().trim().chars().next(), Some('x'), "{fine}");
    }
    for bad in [
        "{% for i in (1..1000000000000) %}{% endfor %}".to_owned(),
        "{%- for i in\n(-9223372036854775808..9223372036854775807) %}{% endfor %}".to_owned(),
        "{% tablerow i in(1..2000000) %}{% endtablerow %}".to_owned(),
        "{% for i in (1..2000) %}{% for j in (1..2000) %}{% endfor %}{% endfor %}".to_owned(),
        "{% for i in (1..attempt) %}{% endfor %}".to_owned(),
        deep(51, "{% if attempt %}", "{% endif %}"),
        deep(100_000, "{%if attempt%}", "{%endif%}"),
        format!("{{{{ a{} }}}}", deep(100_000, "[a", "]")),
    ] {
        let failure = render(&bad, Some(1)).unwrap_err();
        assert_eq!(failure.code, "template_parse_error", "{failure}");
    }
}

#[test]
fn s5_1_a_linked_file_belongs_to_the_directory_that_was_named() {
    let (project, elsewhere) = (Project::new(), Project::new());
    elsewhere.write(&format!("---\n{MINIMAL}---\n"));
    std::os::unix::fs::symlink(elsewhere.path().join("WORKFLOW.md"), project.dir.path().join("WORKFLOW.md")).unwrap();
    assert_eq!(project.file().load().unwrap().project_dir, project.path().to_str().unwrap());
}

#[test]
fn bad_input_never_panics() {
    let whole = format!(
        "\u{feff}---\r\n{MINIMAL}handoff: {{comment: \"{{{{ issue.title }}}}\"}}\n---\n{{% if attempt %}}é{{% endif %}}"
    );
    let project = Project::new();
    for end in 0..whole.len() {
        fs::write(project.dir.path().join("WORKFLOW.md"), &whole.as_bytes()[..end]).unwrap();
        if let Err(failure) = project.file().load_full() {
            assert!(failure.hint.is_some(), "{failure}");
        }
        if let Some(template) = whole.get(end..) {
            let _either_way = render(template, Some(1));
        }
    }
}

#[test]
fn the_server_is_on_loopback_until_the_file_says_where_and_for_whom() {
    let project = Project::new();
    let of = |server: &str| {
        let file = project.write(&format!("---\n{MINIMAL}server: {server}\n---\n"));
        file.load_full().map(|loaded| loaded.server)
    };
    let usual = of("{}").unwrap();
    assert!(usual.host.is_loopback() && usual.hosts.is_empty() && !usual.auth_required);
    let wide = of("{host: 0.0.0.0, hosts: [dash.example, '[fd00::1]'], auth: required}").unwrap();
    assert!(wide.host.is_unspecified() && wide.hosts.len() == 2 && wide.auth_required);
    for bad in
        ["{host: dash.example}", "{hosts: ['http://x']}", "{hosts: ['x:80']}", "{hosts: ['[x]']}", "{auth: maybe}"]
    {
        assert_eq!(of(bad).unwrap_err().code, "invalid_config", "{bad}");
    }
}
