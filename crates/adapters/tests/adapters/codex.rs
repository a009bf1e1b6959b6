//! The Codex client against the real Codex, whose model is scripted. What a real one does not do (dying, writing
//! garbage) a few lines of bash do in its place; each behaviour says which of the two it is.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at the first surprise")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use dalsegno_adapters::agent::CodexAgents;
use dalsegno_adapters::process::Sweeper;
use dalsegno_engine::core::{AgentKind, AgentPolicy, Sandbox};
use dalsegno_engine::{Agents, Processes};
use dalsegno_testkit::conformance::agent::{AgentFixture, Behaviour, agent_policy};
use dalsegno_testkit::model::{ModelServer, Script};
use dalsegno_testkit::parts;
use serde_json::{Value, json};

/// Model servers, by the address that they are at; they live as long as the tests.
static MODELS: Mutex<Vec<ModelServer>> = Mutex::new(Vec::new());

/// Steps of a model with `again` for the prompt that follows a cut turn.
pub(crate) fn model(steps: &Value) -> String {
    let script = json!({"default": steps, "again": [{"answer": [{"say": "again"}]}]});
    let script = Script::parse(&script.to_string()).unwrap();
    let server = ModelServer::start(script).unwrap();
    let url = server.url();
    MODELS.lock().unwrap_or_else(PoisonError::into_inner).push(server);
    url
}

/// Where Codex may have its home: not below the system's temporary folder.
pub(crate) fn place() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// Codex in a home of its own below `place`, with a model at `url`.
pub(crate) fn codex(place: &Path, url: &str, switches: &str) -> (Arc<dyn Agents>, AgentPolicy) {
    let home = place.join("home");
    std::fs::create_dir_all(&home).unwrap();
    let config = format!(
        r#"model = "scripted"
model_provider = "scripted"
check_for_update_on_startup = false
[analytics]
enabled = false
[feedback]
enabled = false
[model_providers.scripted]
name = "scripted"
base_url = "{url}/v1"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 1
"#
    );
    std::fs::write(home.join("config.toml"), config).unwrap();
    let program = parts::codex().unwrap().program;
    let command = format!("'{}' --disable plugins {switches} app-server", program.display());
    let mut policy = agent_policy(AgentKind::Codex, Some(command), None);
    // For a sandbox of ours, which knows the home of the daemon alone.
    policy.sandbox_write = vec![home.display().to_string()];
    (at_home(&home), policy)
}

/// The client, whose children have their home there.
pub(crate) fn at_home(home: &Path) -> Arc<dyn Agents> {
    let variables = ["HOME", "CODEX_HOME"].map(|name| (OsString::from(name), home.as_os_str().to_owned()));
    Arc::new(CodexAgents::with_variables(variables.to_vec()))
}

/// A Codex that is this script in bash. `$turn` and `$CASE` say where it is.
pub(crate) fn in_bash(place: &Path, on_turn: &str) -> (Arc<dyn Agents>, AgentPolicy) {
    let home = place.join("home");
    std::fs::create_dir_all(&home).unwrap();
    let script = format!("on_turn() {{\n{on_turn}\n}}\n{FAKE}");
    std::fs::write(place.join("fake"), script).unwrap();
    let command = format!("exec bash '{}'", place.join("fake").display());
    (at_home(&home), agent_policy(AgentKind::Codex, Some(command), None))
}

/// The protocol of a Codex with one thread and one turn, as far as the client needs it.
const FAKE: &str = r#"
answer() { printf '{"id":%s,"result":%s}\n' "$id" "$1"; }
tell() { printf '{"method":"%s","params":{"threadId":"t","turnId":"u",%s}}\n' "$1" "$2"; }
say() { tell item/agentMessage/delta '"itemId":"m","delta":"'"$1"'"'; }
ends() { tell turn/completed '"turn":{"id":"u","items":[],"status":"'"$1"'","error":null}'; }
while read -r line; do
  id=; [[ $line =~ \"id\":([0-9]+) ]] && id=${BASH_REMATCH[1]}
  case $line in
    *'"method":"initialize"'*) answer '{"userAgent":"fake"}' ;;
    *'"method":"thread/start"'*) answer '{"thread":{"id":"t"},"model":"fake"}' ;;
    *'"method":"turn/start"'*) answer '{"turn":{"id":"u","items":[],"status":"inProgress"}}'; on_turn ;;
    *'"method":"turn/interrupt"'*) answer '{}'; ends interrupted ;;
    *'"method":'*) [ -n "$id" ] && answer '{}' ;;
  esac
done
"#;

/// A patch, as models send it to Codex through their shell.
fn patch(path: &str) -> String {
    format!("apply_patch <<'EOF'\n*** Begin Patch\n*** Add File: {path}\n+hello\n*** End Patch\nEOF\n")
}

pub(crate) fn run(command: &str) -> Value {
    json!([{"answer": [{"run": command}]}, {"answer": [{"say": "went on"}]}])
}

/// The argument says where things of an agent are that works in this case's directory.
struct CodexFixture(fn(&Path) -> PathBuf);

const BESIDE: CodexFixture = CodexFixture(Path::to_path_buf);

impl AgentFixture for CodexFixture {
    fn agent(&self, behaviour: Behaviour, dir: &Path) -> (Arc<dyn Agents>, AgentPolicy) {
        let dir = &(self.0)(dir);
        let asks = |(agents, mut policy): (Arc<dyn Agents>, AgentPolicy)| {
            policy.codex.approval_policy = Some(json!("untrusted"));
            policy.codex.thread_sandbox = Some(json!("read-only"));
            (agents, policy)
        };
        match behaviour {
            // The real one.
            Behaviour::Speaks => {
                let steps = json!([{"answer": [{"say": "one"}, {"say": "two"}, {"say": "three"}],
                    "tokens": {"input": 12, "output": 3}}]);
                codex(dir, &model(&steps), "")
            }
            Behaviour::RunsCommand => codex(dir, &model(&run("echo $$ > pid; sleep 1000; true")), ""),
            Behaviour::AsksPermissionForCommand => asks(codex(dir, &model(&run("rm -rf build")), "")),
            Behaviour::AsksPermissionInside => asks(codex(dir, &model(&run(&patch("inside.txt"))), "")),
            Behaviour::AsksPermissionOutside => asks(codex(dir, &model(&run(&patch("../outside.txt"))), "")),
            Behaviour::AsksQuestion => {
                let options = json!([{"label": "red", "description": "r"}, {"label": "blue", "description": "b"}]);
                let question = json!({"id": "q", "header": "Colour", "question": "Which colour?", "options": options});
                let call = json!({"tool": "request_user_input", "arguments": {"questions": [question]}});
                let steps = json!([{"answer": [{"call": call}]}, {"answer": [{"say": "went on"}]}]);
                codex(dir, &model(&steps), "--enable default_mode_request_user_input")
            }
            Behaviour::Fails => {
                let body = json!({"error": {"message": "out of ideas", "type": "invalid_request_error"}});
                codex(dir, &model(&json!([{"fail": {"status": 400, "body": body}}])), "")
            }
            Behaviour::RateLimited => {
                let reset_at = jiff::Timestamp::now().as_second() + 3600;
                let limit = json!({"used_percent": 100.0, "window_minutes": 300, "reset_at": reset_at});
                // As the provider of ChatGPT accounts says it.
                let error = json!({"type": "usage_limit_reached", "message": "no more", "plan_type": "pro",
                    "resets_at": reset_at});
                let fail = json!({"status": 429, "body": {"error": error}});
                let steps = json!([{"answer": [{"say": "x"}], "rate_limit": limit, "fail": fail}]);
                codex(dir, &model(&steps), "")
            }
            Behaviour::Silent => codex(dir, &model(&json!([{"answer": [{"say": "x"}], "end": "hang"}])), ""),
            Behaviour::Floods => {
                let text: String = (0..10_000).map(|number| format!("flood {number}\n")).collect();
                codex(dir, &model(&json!([{"answer": [{"say": text}]}])), "")
            }
            // In its place.
            Behaviour::Exits => in_bash(dir, "exit 7"),
            Behaviour::Garbage => {
                in_bash(dir, "echo 'not json'; echo '[1]'; echo '{\"id\":true}'; say $'caf\\xe9'; ends completed")
            }
            Behaviour::EndlessGarbage => in_bash(dir, "for i in {1..1000}; do echo \"garbage $i\"; done"),
            Behaviour::NeverAnswers => {
                let (agents, policy) = in_bash(dir, "");
                std::fs::write(dir.join("fake"), "sleep 1000 & sleep 1000").unwrap();
                (agents, policy)
            }
            Behaviour::Missing => {
                let home = dir.join("home");
                std::fs::create_dir_all(&home).unwrap();
                let command = Some("no-such-codex app-server".to_owned());
                (at_home(&home), agent_policy(AgentKind::Codex, command, None))
            }
        }
    }

    fn place(&self) -> PathBuf {
        place()
    }

    fn processes(&self) -> Arc<dyn Processes> {
        Arc::new(Sweeper)
    }
}

/// Every case of the suite; skipped by name where there is no Codex.
mod conformance {
    use super::*;

    macro_rules! cases {
        ($($case:ident),* $(,)?) => {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    if parts::codex().is_some() {
                        let case = dalsegno_testkit::conformance::agent::$case(&BESIDE);
                        let limit = dalsegno_testkit::conformance::agent::CASE_LIMIT;
                        tokio::time::timeout(limit, case).await.expect("the case hangs");
                    }
                }
            )*
        };
    }

    cases! {
        start, launch_timeout, missing_program, missing_workspace, launch_canceled, prompt, stream, usage,
        permission_granted, permission_refused, permission_by_place, permission_by_a_person, question, question_by_a_person,
        model_failure, rate_limit, interrupt,
        resume_after_kill_with_the_prompt, resume_after_kill_without_the_prompt, resume_of_a_session_that_is_gone,
        exit, malformed_output, endless_malformed_output, silence, flood, not_utf8, secrets, close, drop_ends_it,
    }
}

/// The real one in the sandbox of `agent.sandbox`, which takes the place of its own.
struct ShutIn;

/// The sandbox hides what lies where the workspaces are. So there is a place for each test, and the next run of the
/// test takes it over.
fn elsewhere(dir: &Path) -> PathBuf {
    let test = std::thread::current().name().unwrap_or("test").replace(':', "_");
    let place = place().join("codex").join(test);
    let owner = place.join("owner");
    if std::fs::read_to_string(&owner).ok().as_deref() != dir.to_str() {
        let _ = std::fs::remove_dir_all(&place);
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(&owner, dir.to_str().unwrap()).unwrap();
    }
    place
}

impl AgentFixture for ShutIn {
    fn agent(&self, behaviour: Behaviour, dir: &Path) -> (Arc<dyn Agents>, AgentPolicy) {
        let (agents, policy) = CodexFixture(elsewhere).agent(behaviour, dir);
        (agents, AgentPolicy { sandbox: Sandbox::Bubblewrap, ..policy })
    }

    fn place(&self) -> PathBuf {
        place()
    }

    fn processes(&self) -> Arc<dyn Processes> {
        Arc::new(Sweeper)
    }
}

mod in_the_sandbox {
    use super::*;

    macro_rules! cases {
        ($($case:ident),* $(,)?) => {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    if parts::codex().is_some() && crate::sandbox::there().await {
                        let case = dalsegno_testkit::conformance::agent::$case(&ShutIn);
                        let limit = dalsegno_testkit::conformance::agent::CASE_LIMIT;
                        tokio::time::timeout(limit, case).await.expect("the case hangs");
                    }
                }
            )*
        };
    }

    cases! { prompt, interrupt, resume_after_kill_with_the_prompt, close, drop_ends_it }
}
