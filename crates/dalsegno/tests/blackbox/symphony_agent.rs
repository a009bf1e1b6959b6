//! Bullets of the Symphony specification about the agent's client (§17.5), shown through the Agent Client Protocol on
//! the real binary, with an agent in bash. The conformance suite of agents has each case in detail.

use std::fs;

use serde_json::Value;

use super::judge;
use super::project::Project;

/// Writes down what it hears, and does what `$PROMPT` says when it is prompted.
const AGENT: &str = r#"
echo "$PWD" > ../cwd
answer() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
say() { printf '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s-1","update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"%s"}}}}\n' "$1"; }
hear() { read -r heard; printf '%s\n' "$heard" >> ../wire; }
while read -r line; do
  printf '%s\n' "$line" >> ../wire
  id=; [[ $line =~ \"id\":(\"[^\"]*\"|[0-9]+) ]] && id=${BASH_REMATCH[1]}
  case $line in
    *'"method":"initialize"'*) answer '{"protocolVersion":1,"agentCapabilities":{}}' ;;
    *'"method":"session/new"'*) answer '{"sessionId":"s-1"}' ;;
    *'"method":"session/prompt"'*) work ;;
    *'"method":"session/cancel"'*) id=$asked; answer '{"stopReason":"cancelled"}' ;;
  esac
done
"#;

fn project(work: &str, rest: &str) -> Project {
    let front = format!(
        "polling: {{interval_ms: 100}}\nagent: {{kind: acp, command: \"bash ../../project/agent.sh\", max_retry_backoff_ms: 50}}\nhandoff: {{state: Human Review, comment: done}}\n{rest}"
    );
    let project = Project::new(&front, "");
    fs::write(project.root().join("agent.sh"), format!("work() {{\n{work}\n}}\n{AGENT}")).unwrap();
    project.issue("DS-1", "state: Todo");
    project
}

const COMMIT: &str = "echo work > work.txt; git add -A; git commit -qm work";

/// What the agent heard.
fn wire(project: &Project) -> Vec<Value> {
    let text = fs::read_to_string(project.dir.join("workspaces/wire")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn request<'a>(wire: &'a [Value], method: &str) -> &'a Value {
    &wire.iter().find(|message| message["method"] == method).unwrap()["params"]
}

fn transcript(project: &Project, kind: &str) -> String {
    let page = project.json(&["logs", "DS-1", "--json"]);
    let entries = page["entries"].as_array().unwrap();
    let texts = entries.iter().filter(|entry| entry["kind"] == kind).map(|entry| entry["text"].as_str().unwrap());
    texts.collect::<Vec<_>>().join("\n")
}

#[test]
fn symphony_17_5_an_agent_works_in_its_workspace_after_a_proper_start() {
    let work = format!(
        "{COMMIT}\necho '{{\"jsonrpc\":\"2.0\",\"id\":99,\"error\":{{}}}}' >&2\nsay done\nanswer '{{\"stopReason\":\"end_turn\",\"usage\":{{\"inputTokens\":7,\"outputTokens\":3,\"totalTokens\":10}}}}'"
    );
    let project = project(&work, "");
    let mut daemon = project.once(&[]);
    assert!(daemon.wait().success(), "{}", daemon.log_tail());
    judge_handed_off(&project);

    let workspace = project.workspace("DS-1").canonicalize().unwrap();
    let cwd = fs::read_to_string(project.dir.join("workspaces/cwd")).unwrap();
    assert_eq!(cwd.trim(), workspace.to_str().unwrap());
    let wire = wire(&project);
    let methods: Vec<&str> = wire.iter().filter_map(|message| message["method"].as_str()).collect();
    assert_eq!(methods, ["initialize", "session/new", "session/prompt"]);
    let initialize = request(&wire, "initialize");
    assert_eq!(initialize["protocolVersion"], 1);
    assert_eq!(initialize["clientInfo"]["name"], "dalsegno");
    assert!(initialize["clientInfo"]["version"].is_string() && initialize["clientCapabilities"].is_object());
    assert_eq!(request(&wire, "session/new")["cwd"], workspace.to_str().unwrap());
    let prompt = request(&wire, "session/prompt");
    assert_eq!(prompt["sessionId"], "s-1");
    assert!(prompt["prompt"][0]["text"].as_str().unwrap().starts_with("Work on DS-1: Issue DS-1"), "{prompt}");

    let events = project.events();
    let session = events.iter().find(|event| event.kind == "session_started").unwrap();
    assert_eq!(session.data["session"], "s-1");
    // What looks like the protocol on standard error is none.
    assert!(transcript(&project, "stderr").contains("\"id\":99"));
    assert!(transcript(&project, "malformed").is_empty());
    assert_eq!(project.json(&["issue", "show", "DS-1", "--json"])["usage"]["total_tokens"], 10);
}

#[test]
fn symphony_17_5_permissions_are_granted_by_policy_and_unsupported_requests_are_refused() {
    let ask = r#"printf '{"jsonrpc":"2.0","id":"p","method":"session/request_permission","params":{"sessionId":"s-1","toolCall":{"toolCallId":"t","title":"rm -rf build","kind":"execute"},"options":[{"optionId":"yes","name":"Yes","kind":"allow_once"},{"optionId":"no","name":"No","kind":"reject_once"}]}}\n'
hear
printf '{"jsonrpc":"2.0","id":"t","method":"terminal/create","params":{"sessionId":"s-1","command":"ls"}}\n'
hear"#;
    let work = format!("asked=$id\n{ask}\n{COMMIT}\nanswer '{{\"stopReason\":\"end_turn\"}}'");
    let project = project(&work, "questions: {auto_approve: all}\n");
    let mut daemon = project.once(&[]);
    assert!(daemon.wait().success(), "{}", daemon.log_tail());
    judge_handed_off(&project);
    let wire = wire(&project);
    let answer = |id: &str| wire.iter().find(|message| message["id"] == id && message["method"].is_null()).unwrap();
    assert_eq!(answer("p")["result"]["outcome"]["optionId"], "yes", "{}", answer("p"));
    assert_eq!(answer("t")["error"]["code"], -32601, "{}", answer("t"));
}

#[test]
fn symphony_17_5_a_wish_that_nobody_may_grant_waits_for_a_person_and_stalls_nothing() {
    let work = r#"asked=$id
printf '{"jsonrpc":"2.0","id":"p","method":"session/request_permission","params":{"sessionId":"s-1","toolCall":{"toolCallId":"t","title":"drop the database","kind":"execute"},"options":[{"optionId":"yes","name":"Yes","kind":"allow_once"}]}}\n'"#;
    let project = project(work, "");
    let mut daemon = project.once(&[]);
    assert!(daemon.wait().success(), "{}", daemon.log_tail());
    let (status, reason) = project.status("DS-1").unwrap();
    assert_eq!(status, "waiting_question");
    assert!(reason.contains("question_asked") && reason.contains("drop the database"), "{reason}");
    judge::at_rest(&project);
}

#[test]
fn symphony_17_5_an_agent_that_does_not_answer_in_time_is_ended() {
    for (work, timeouts, code) in [
        ("", "codex: {read_timeout_ms: 400}\n", "response_timeout"),
        ("asked=$id", "codex: {turn_timeout_ms: 400}\n", "turn_timeout"),
    ] {
        let project = project(work, &format!("{timeouts}budget: {{issue: {{runs: 1}}}}\n"));
        if code == "response_timeout" {
            fs::write(project.root().join("agent.sh"), "sleep 1000 & sleep 1000\n").unwrap();
        }
        let mut daemon = project.once(&[]);
        assert!(daemon.wait().success(), "{}", daemon.log_tail());
        let (status, reason) = project.status("DS-1").unwrap();
        assert_eq!(status, "parked");
        assert!(reason.contains(code), "{reason}");
        judge::at_rest(&project);
    }
}

/// [`judge::all_handed_off`] but for the agent's history, which this agent has nowhere.
fn judge_handed_off(project: &Project) {
    let (status, reason) = project.status("DS-1").unwrap();
    assert_eq!(status, "handed_off", "{reason}");
    judge::no_gap(project);
    judge::at_rest(project);
}
