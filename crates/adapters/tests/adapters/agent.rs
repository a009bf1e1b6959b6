//! The ACP client against the scripted agent.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at the first surprise")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dalsegno_adapters::agent::LocalAgents;
use dalsegno_adapters::process::Sweeper;
use dalsegno_engine::core::{
    AgentKind, AgentPolicy, Failure, Sandbox, SandboxNetwork, SessionId, SessionStart, TurnOutcome, Usage,
};
use dalsegno_engine::{Agents, Processes, TranscriptKind, TurnEnd};
use dalsegno_testkit::conformance::agent::{AgentFixture, Behaviour, Heard, World, agent_policy};
use tokio_util::sync::CancellationToken;

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
            if behaviour == Behaviour::Missing {
                // Through the login shell, which is what finds out.
                return (agents, agent_policy(AgentKind::Acp, Some("no-such-agent-program".to_owned()), None));
            }
            return in_bash(place, "sleep 1000 & sleep 1000");
        };
        let script = place.join("script.yaml");
        std::fs::write(&script, format!("default:\n{}\n", indent(turns))).unwrap();
        (agents, agent_policy(AgentKind::Scripted, None, Some(script.display().to_string())))
    }

    fn processes(&self) -> Arc<dyn Processes> {
        Arc::new(Sweeper)
    }
}

/// An agent that is this script in bash. Not through the login shell: that reads the profile of whoever runs the test,
/// and one that is killed in the midst of it may leave lock files behind. So the program is `bash`, and its first
/// argument, `agent`, is the name of the script in the workspace.
fn in_bash(place: &Path, script: &str) -> (Arc<dyn Agents>, AgentPolicy) {
    std::fs::write(place.join("workspace").join("agent"), script).unwrap();
    let policy = agent_policy(AgentKind::Scripted, None, Some("none".to_owned()));
    (Arc::new(LocalAgents::new(PathBuf::from("bash"))), policy)
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

mod scripted {
    use super::*;

    dalsegno_testkit::agent_conformance!(ScriptedFixture);
}

/// The same agents in the sandbox; without one, cases are skipped by name.
struct ShutIn;

impl AgentFixture for ShutIn {
    fn agent(&self, behaviour: Behaviour, place: &Path) -> (Arc<dyn Agents>, AgentPolicy) {
        let (agents, policy) = ScriptedFixture.agent(behaviour, place);
        (agents, AgentPolicy { sandbox: Sandbox::Bubblewrap, sandbox_network: SandboxNetwork::None, ..policy })
    }

    fn processes(&self) -> Arc<dyn Processes> {
        Arc::new(Sweeper)
    }
}

/// The cases in which the sandbox stands between: pipes, kills, files of the agent's own.
mod in_the_sandbox {
    use super::*;

    macro_rules! cases {
        ($($case:ident),* $(,)?) => {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    if crate::sandbox::there().await {
                        let case = dalsegno_testkit::conformance::agent::$case(&ShutIn);
                        let limit = dalsegno_testkit::conformance::agent::CASE_LIMIT;
                        tokio::time::timeout(limit, case).await.expect("the case hangs");
                    }
                }
            )*
        };
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_agent_is_where_it_may_write_its_workspace_alone() {
        struct Tries;
        impl AgentFixture for Tries {
            fn agent(&self, behaviour: Behaviour, place: &Path) -> (Arc<dyn Agents>, AgentPolicy) {
                let tries = Plays("default: [ [ {sh: 'echo x > mine; echo x > ../theirs; ls ..'} ] ]");
                let (agents, policy) = tries.agent(behaviour, place);
                (agents, AgentPolicy { sandbox: Sandbox::Bubblewrap, ..policy })
            }

            fn processes(&self) -> Arc<dyn Processes> {
                Arc::new(Sweeper)
            }
        }
        if crate::sandbox::there().await {
            let world = World::new(&Tries);
            let (agent, end) = world.one_turn(Behaviour::Speaks).await;
            assert_eq!(end.unwrap().turn, TurnOutcome::Completed);
            agent.close().await;
            assert!(world.workspace().join("mine").exists());
            assert!(!world.workspace().join("../theirs").exists());
            let seen = world.heard.text(TranscriptKind::Tool);
            assert!(seen.contains("script.yaml\nstate\nworkspace\n") && !seen.contains("theirs\n"), "{seen}");
        }
    }

    cases! {
        start, launch_timeout, launch_canceled, prompt, stream, interrupt, resume_after_kill_with_the_prompt,
        resume_after_kill_without_the_prompt, resume_of_a_session_that_is_gone, exit, silence, flood, secrets, close,
        drop_ends_it,
    }
}

/// Plays this script, whatever behaviour is asked for.
struct Plays(&'static str);

impl AgentFixture for Plays {
    fn agent(&self, _: Behaviour, place: &Path) -> (Arc<dyn Agents>, AgentPolicy) {
        let script = place.join("script.yaml");
        std::fs::write(&script, self.0).unwrap();
        let policy = agent_policy(AgentKind::Scripted, None, Some(script.display().to_string()));
        (Arc::new(LocalAgents::new(program())), policy)
    }

    fn processes(&self) -> Arc<dyn Processes> {
        Arc::new(Sweeper)
    }
}

mod script {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_list_of_the_issue_is_played_and_past_its_end_turns_end_at_once() {
        let fixture = Plays("ds-1: [ [ {say: mine} ] ]\ndefault: [ [ {say: default} ] ]\n");
        let world = World::new(&fixture);
        let mut agent = world.start(Behaviour::Speaks).await.agent;
        let cancel = CancellationToken::new();
        for (turn, words) in [(1, "mine"), (2, ""), (3, "")] {
            let end = agent.prompt(turn, "go", &cancel).await.unwrap();
            assert_eq!((end.turn, end.summary.as_str()), (TurnOutcome::Completed, words));
        }
        agent.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn steps_work_in_the_workspace_and_a_failing_command_fails_no_turn() {
        let fixture = Plays(
            "default:\n  - [ {write: {path: a/b.txt, content: text}}, {sh: 'cat a/b.txt; exit 3'}, \
             {tool: {name: tracker_comment, args: {body: halfway}}}, {sh: 'echo $answer-done > c.txt'} ]\n",
        );
        let world = World::new(&fixture);
        let (agent, end) = world.one_turn(Behaviour::Speaks).await;
        assert_eq!(end.unwrap().turn, TurnOutcome::Completed);
        let tools = world.heard.text(TranscriptKind::Tool);
        assert!(tools.contains("text\n(exit code 3)"), "{tools}");
        assert!(tools.contains("tracker_comment: failed\nno tool server in this session"), "{tools}");
        assert_eq!(std::fs::read_to_string(world.workspace().join("a/b.txt")).unwrap(), "text");
        assert_eq!(std::fs::read_to_string(world.workspace().join("c.txt")).unwrap(), "-done\n");
        agent.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_script_that_is_wrong_is_told_at_the_start() {
        let fixture = Plays("default: [ [ {say: a}, {shout: b} ] ]");
        let world = World::new(&fixture);
        let failure = world.refused(Behaviour::Speaks).await;
        assert_eq!(failure.code, "agent_exit");
        assert!(failure.message.contains("turn 1, step 2: there is no step `shout`"), "{failure}");
        world.assert_nothing_runs().await;
    }
}

/// A small agent in bash. Variables hold what it does when it is prompted, when a session is to be loaded, and when the
/// turn is canceled.
const BASH_AGENT: &str = r#"
answer() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
refuse() { printf '{"jsonrpc":"2.0","id":%s,"error":{"code":%s,"message":"%s"}}\n' "$id" "$1" "$2"; }
update() { printf '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s","update":%s}}\n' "$1"; }
say() { update '{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"'"$1"'"}}'; }
heard() { update '{"sessionUpdate":"user_message_chunk","content":{"type":"text","text":"'"$1"'"}}'; }
while read -r line; do
  id=; [[ $line =~ \"id\":(\"[^\"]*\"|[0-9]+) ]] && id=${BASH_REMATCH[1]}
  case $line in
    *'"method":"initialize"'*) answer "{\"protocolVersion\":1,\"agentCapabilities\":{$INIT}}" ;;
    *'"method":"session/new"'*) answer '{"sessionId":"s"}' ;;
    *'"method":"session/load"'*) eval "$LOAD" ;;
    *'"method":"session/prompt"'*) eval "$PROMPT" ;;
    *'"method":"session/cancel"'*) eval "$CANCEL" ;;
  esac
done
"#;

/// The agent in bash.
#[derive(Default)]
struct Bash {
    init: &'static str,
    load: &'static str,
    prompt: &'static str,
    cancel: &'static str,
}

impl AgentFixture for Bash {
    fn agent(&self, _: Behaviour, place: &Path) -> (Arc<dyn Agents>, AgentPolicy) {
        let Self { init, load, prompt, cancel } = self;
        let quote = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
        let head =
            format!("INIT={}\nLOAD={}\nPROMPT={}\nCANCEL={}\n", quote(init), quote(load), quote(prompt), quote(cancel));
        in_bash(place, &(head + BASH_AGENT))
    }

    fn processes(&self) -> Arc<dyn Processes> {
        Arc::new(Sweeper)
    }
}

mod acp {
    use super::*;

    const LOADS: &str = r#""loadSession":true"#;

    async fn turn(fixture: Bash) -> (TurnEnd, Arc<Heard>) {
        let world = World::new(&fixture);
        let (agent, end) = world.one_turn(Behaviour::Speaks).await;
        agent.close().await;
        world.assert_nothing_runs().await;
        (end.unwrap(), world.heard.clone())
    }

    async fn broken(fixture: Bash) -> Failure {
        let world = World::new(&fixture);
        let (agent, end) = world.one_turn(Behaviour::Speaks).await;
        agent.close().await;
        world.assert_nothing_runs().await;
        end.unwrap_err()
    }

    async fn resume(fixture: Bash, seek: Option<&str>) -> Result<SessionStart, Failure> {
        let world = World::new(&fixture);
        let started = world.launch(Behaviour::Speaks, Some(&SessionId::from("old")), seek).await?;
        started.agent.close().await;
        Ok(started.how)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn usage_of_the_answer_counts_and_the_fill_of_the_context_does_not() {
        let prompt = r#"update '{"sessionUpdate":"usage_update","used":100,"size":100000}'
            answer '{"stopReason":"end_turn","usage":{"inputTokens":100,"outputTokens":10,"totalTokens":120}}'"#;
        let (end, _) = turn(Bash { prompt, ..Bash::default() }).await;
        assert_eq!(end.usage, Usage { total_tokens: 120, ..Usage::new(100, 10) });
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn figures_that_cannot_be_do_not_count_and_are_told_once() {
        let prompt = r#"update '{"sessionUpdate":"usage_update","_meta":{"usage":{"inputTokens":7,"outputTokens":1}}}'
            update '{"sessionUpdate":"usage_update","_meta":{"usage":{"inputTokens":18446744073709551615}}}'
            answer '{"stopReason":"end_turn","usage":{"inputTokens":1000000000001,"outputTokens":10}}'"#;
        let (end, heard) = turn(Bash { prompt, ..Bash::default() }).await;
        assert_eq!(end.usage, Usage::new(7, 1));
        assert_eq!(heard.text(TranscriptKind::Note).matches("figures that cannot be").count(), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn responses_to_nothing_are_not_gathered() {
        let prompt = r#"for n in $(seq 5); do printf '{"jsonrpc":"2.0","id":"none-%s","result":{}}\n' $n; done
            answer '{"stopReason":"end_turn"}'"#;
        let (end, heard) = turn(Bash { prompt, ..Bash::default() }).await;
        assert_eq!(end.turn, TurnOutcome::Completed);
        assert_eq!(heard.text(TranscriptKind::Malformed).matches("none-").count(), 5);
        let flood = r#"for n in $(seq 200); do printf '{"jsonrpc":"2.0","id":"none-%s","result":{}}\n' $n; done"#;
        assert_eq!(broken(Bash { prompt: flood, ..Bash::default() }).await.code, "agent_protocol");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn chunks_become_lines_and_the_last_message_is_the_summary() {
        let prompt = r#"say 'Let '; say 'me look.'
            update '{"sessionUpdate":"tool_call","toolCallId":"1","title":"ls","status":"in_progress"}'
            update '{"sessionUpdate":"tool_call_update","toolCallId":"1","status":"completed","content":[{"type":"content","content":{"type":"text","text":"a b"}}]}'
            update '{"sessionUpdate":"agent_thought_chunk","content":{"type":"text","text":"hm"}}'
            update '{"sessionUpdate":"something_of_a_later_version"}'
            say 'All '; say 'done.'
            answer '{"stopReason":"end_turn"}'"#;
        let (end, heard) = turn(Bash { prompt, ..Bash::default() }).await;
        assert_eq!(end.summary, "All done.");
        assert_eq!(heard.text(TranscriptKind::Message), "Let me look.\nAll done.\n");
        assert_eq!(heard.text(TranscriptKind::Tool), "ls\n1: completed\na b\n");
        assert_eq!(heard.text(TranscriptKind::Thought), "hm\n");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_refusal_is_no_success() {
        let (end, _) = turn(Bash { prompt: r#"answer '{"stopReason":"refusal"}'"#, ..Bash::default() }).await;
        assert!(matches!(end.turn, TurnOutcome::Failed { failure } if failure.code == "turn_refused"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn requests_that_we_do_not_serve_are_refused_and_the_turn_goes_on() {
        let prompt = r#"printf '{"jsonrpc":"2.0","id":"r","method":"fs/read_text_file","params":{"sessionId":"s","path":"/etc/passwd"}}\n'
            read -r reply; case $reply in *-32601*) say refused ;; *) say "other" ;; esac
            answer '{"stopReason":"end_turn"}'"#;
        let (end, _) = turn(Bash { prompt, ..Bash::default() }).await;
        assert_eq!(end.summary, "refused");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_end_of_standard_error_is_told() {
        let failure =
            broken(Bash { prompt: "echo first >&2; echo 'out of memory' >&2; exit 4", ..Bash::default() }).await;
        assert_eq!(failure.code, "agent_exit");
        assert!(failure.message.contains("exit code 4") && failure.message.contains("out of memory"), "{failure}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_agent_that_ends_is_noticed_although_its_child_holds_the_pipes() {
        let failure = broken(Bash { prompt: "setsid sleep 1000 & exit 5", ..Bash::default() }).await;
        assert_eq!(failure.code, "agent_exit");
        assert!(failure.message.contains("exit code 5"), "{failure}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_endless_line_ends_the_session() {
        let failure = broken(Bash { prompt: "head -c 20000000 /dev/zero | tr '\\0' x", ..Bash::default() }).await;
        assert_eq!(failure.code, "agent_protocol");
        assert!(failure.message.contains("a line of more than"), "{failure}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_interrupt_that_is_ignored_ends_in_a_timeout() {
        let fixture = Bash { prompt: "say working", ..Bash::default() };
        let world = World::new(&fixture);
        let mut agent = world.start(Behaviour::Speaks).await.agent;
        let cancel = CancellationToken::new();
        cancel.cancel();
        let failure = agent.prompt(1, "go", &cancel).await.unwrap_err();
        assert_eq!(failure.code, "response_timeout");
        agent.close().await;
        world.assert_nothing_runs().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whatever_an_interrupted_turn_answers_it_was_interrupted() {
        let cancel = r#"id=$prompt_id; refuse -32603 "aborted""#;
        let fixture = Bash { prompt: "prompt_id=$id", cancel, ..Bash::default() };
        let world = World::new(&fixture);
        let mut agent = world.start(Behaviour::Speaks).await.agent;
        let token = CancellationToken::new();
        token.cancel();
        assert_eq!(agent.prompt(1, "go", &token).await.unwrap().turn, TurnOutcome::Interrupted);
        agent.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_marker_is_found_in_a_message_that_is_replayed_in_chunks() {
        let load = "heard 'do it dalsegno:pro'; heard 'mpt-1'; answer '{}'";
        let how = resume(Bash { init: LOADS, load, ..Bash::default() }, Some("dalsegno:prompt-1")).await.unwrap();
        assert_eq!(how, SessionStart::ResumedPromptFound);
        // Another message in between: these are two messages, and the marker is in neither.
        let load = "heard 'do it dalsegno:pro'; say ok; heard 'mpt-1'; answer '{}'";
        let how = resume(Bash { init: LOADS, load, ..Bash::default() }, Some("dalsegno:prompt-1")).await.unwrap();
        assert_eq!(how, SessionStart::ResumedPromptMissing);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn only_an_unknown_session_is_given_up() {
        let gone = resume(Bash::default(), Some("x")).await.unwrap();
        assert_eq!(gone, SessionStart::Gone, "the agent cannot load sessions");
        for load in [r#"refuse -32603 "Session not found: old""#, r#"refuse -32002 "Resource""#] {
            let gone = resume(Bash { init: LOADS, load, ..Bash::default() }, Some("x")).await.unwrap();
            assert_eq!(gone, SessionStart::Gone);
        }
        let load = r#"refuse -32603 "disk I/O error""#;
        let failure = resume(Bash { init: LOADS, load, ..Bash::default() }, Some("x")).await.unwrap_err();
        assert_eq!(failure.code, "agent_start_failed");
        assert!(failure.retryable && failure.message.contains("disk I/O error"), "{failure}");
    }
}
