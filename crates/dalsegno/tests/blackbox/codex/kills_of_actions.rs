//! What an operator wants of the real Codex, and a daemon that is killed between the receipt and what follows from it, or before that is
//! on disk: it happens all the same, and ends once.

use std::fs;

use dalsegno_api::{Action, Client, Receipt, Target};
use dalsegno_engine::EventRow;
use dalsegno_testkit::parts;
use serde_json::{Map, Value};

use super::super::http::Api;
use super::super::judge;
use super::super::project::{Daemon, Project};
use super::proxy::{self, At, To, Victim};
use super::scene::{FRONT, Scene, WORK, chosen, side_by_side};

/// A command without a sandbox outlives Codex.
const FREE: &str = "codex: {thread_sandbox: danger-full-access, turn_sandbox_policy: {type: dangerFullAccess}}\n";
const STEERED: &str = "mind the tests";
const ANSWER: &str = "a deep blue";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Cancel,
    Pause,
    Resume,
    Steer,
    Rehydrate,
    Approve,
    Answer,
    /// To a permission that an earlier daemon was asked for.
    ApproveLater,
    /// To a question that an earlier daemon left open.
    AnswerLater,
}

use Deed::{Answer, AnswerLater, Approve, ApproveLater, Cancel, Pause, Rehydrate, Resume, Steer};

/// Where the daemon is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// At a line on its way to Codex: it has not heard.
    Unsaid(&'static str),
    /// At an answer of ours on its way to Codex.
    Unanswered(&'static str),
    /// At the answer of Codex: it has done it, and the daemon does not know.
    Unheard(&'static str),
    /// At something that Codex tells by itself.
    Untold(&'static str),
    /// At a crash point of the daemon.
    Point(&'static str),
}

use Moment::{Point, Unanswered, Unheard, Unsaid, Untold};

#[rustfmt::skip]
const MOMENTS: [(Deed, Moment); 33] = [
    (Cancel, Unsaid("turn/interrupt")), (Cancel, Untold("turn/completed")),
    (Cancel, Point("effect.stop_agent.before")), (Cancel, Point("effect.stop_agent.after")),
    (Pause, Unsaid("turn/interrupt")), (Pause, Untold("turn/completed")),
    (Pause, Point("effect.stop_agent.before")), (Pause, Point("effect.stop_agent.after")),
    (Resume, Unsaid("thread/resume")), (Resume, Unheard("thread/resume")),
    (Resume, Unsaid("turn/start")), (Resume, Unheard("turn/start")),
    (Steer, Unsaid("turn/steer")), (Steer, Unheard("turn/steer")),
    (Steer, Point("effect.steer_turn.before")), (Steer, Point("effect.steer_turn.after")),
    (Rehydrate, Unsaid("thread/start")), (Rehydrate, Unheard("thread/start")),
    (Rehydrate, Unsaid("turn/start")), (Rehydrate, Unheard("turn/start")),
    (Approve, Unanswered("item/commandExecution/requestApproval")), (Approve, Point("effect.answer_agent.before")),
    (Approve, Point("effect.answer_agent.after")),
    (Answer, Unanswered("item/tool/requestUserInput")), (Answer, Point("effect.answer_agent.before")),
    (AnswerLater, Unsaid("thread/resume")), (AnswerLater, Unheard("thread/resume")),
    (AnswerLater, Unsaid("turn/start")), (AnswerLater, Unheard("turn/start")),
    (ApproveLater, Unsaid("thread/resume")), (ApproveLater, Unheard("thread/resume")),
    (ApproveLater, Unsaid("turn/start")), (ApproveLater, Unheard("turn/start")),
];

impl Moment {
    fn line(self) -> Option<At> {
        let at = |to, method, answer| Some(At { to, method, answer });
        match self {
            Unsaid(method) => at(To::Agent, method, false),
            Unanswered(method) => at(To::Agent, method, true),
            Unheard(method) => at(To::Daemon, method, true),
            Untold(method) => at(To::Daemon, method, false),
            Point(_) => None,
        }
    }
}

impl Deed {
    fn kind(self) -> &'static str {
        match self {
            Cancel => "cancel",
            Pause => "pause",
            Resume => "resume",
            Steer => "steer",
            Rehydrate => "rehydrate",
            Approve | ApproveLater => "approve",
            Answer | AnswerLater => "answer",
        }
    }

    /// What the model does.
    fn script(self) -> String {
        // What was cut counts as done for the script; whoever goes on is told it once more, which changes nothing.
        let twice = |step: String| format!("{step}, {step}");
        let run = format!("{{answer: [{{run: \"{WORK}; true\"}}]}}");
        let run = if matches!(self, AnswerLater | ApproveLater) { twice(run) } else { run };
        let work = format!("{run}, {{answer: [{{say: It is done.}}]}}");
        let first = match self {
            Cancel | Pause | Resume | Rehydrate => {
                "{answer: [{run: \"if [ ! -e .git/slept ]; then touch .git/slept; exec sleep 299; fi\"}]}".to_owned()
            }
            Steer => "{answer: [{run: \"true\"}]}".to_owned(),
            Approve | ApproveLater => {
                let ask = "{answer: [{escalate: {command: \"echo C >> .git/did\", justification: \"it has to be\"}}]}";
                // In the same words by whoever was cut, and `ApproveLater` is cut twice.
                if self == ApproveLater { format!("{ask}, {}", twice(ask.to_owned())) } else { twice(ask.to_owned()) }
            }
            Answer | AnswerLater => {
                let options = "[{label: red, description: r}, {label: blue, description: b}]";
                let question = format!("{{id: q, header: Colour, question: \"Which colour?\", options: {options}}}");
                format!("{{answer: [{{call: {{tool: request_user_input, arguments: {{questions: [{question}]}}}}}}]}}")
            }
        };
        format!("issue: [{first}, {work}]")
    }

    fn action(self, key: &str) -> Action {
        let payload = match self {
            Steer => Map::from_iter([("text".to_owned(), Value::from(STEERED))]),
            Answer | AnswerLater => Map::from_iter([("text".to_owned(), Value::from(ANSWER))]),
            Cancel | Pause | Resume | Rehydrate | Approve | ApproveLater => Map::new(),
        };
        Action {
            schema_version: 1,
            action_kind: self.kind().to_owned(),
            target: Target { kind: "issue".to_owned(), id: "DS-1".to_owned() },
            correlation_id: Some("c-1".to_owned()),
            idempotency_key: Some(key.to_owned()),
            on_duplicate: None,
            payload,
        }
    }
}

#[test]
fn an_accepted_action_takes_effect_once_whenever_the_daemon_is_killed() {
    if parts::codex().is_none() {
        return;
    }
    let chosen = chosen(&MOMENTS);
    println!("kills between a receipt and its effect, with the real Codex: {chosen:?}");
    side_by_side(&chosen, |(deed, moment)| {
        println!("{deed:?}, killed at {moment:?}");
        walk(deed, moment);
    });
}

fn walk(deed: Deed, moment: Moment) {
    let who = format!("{deed:?}, killed at {moment:?}");
    let free = if matches!(deed, Cancel | Pause | Resume | Rehydrate) { FREE } else { "" };
    let front = format!("{FRONT}{free}");
    let scene = Scene::new(&front, &deed.script()).unwrap();
    let project = &scene.project;
    let arm = |armed: bool| {
        let rule = moment.line().filter(|_| armed).map(|line| (line, Victim::Daemon));
        proxy::command(&project.dir, &scene.codex, rule)
    };
    // Whatever comes before the action passes the same lines with these two.
    let later = matches!(deed, Resume | Rehydrate | AnswerLater | ApproveLater);
    scene.front(&front, &arm(!later));
    let gate = (deed == Steer).then(|| scene.model.hold("issue", 0));
    let point = if let Point(name) = moment { name } else { "" };
    let mut daemon = project.daemon_with(&[("DALSEGNO_CRASH_AT", point)]);
    match deed {
        Cancel | Pause | Resume | Rehydrate => project.wait_until("the long command", || long_command(project)),
        Steer => gate.as_ref().unwrap().wait_arrived(1),
        Approve | Answer | AnswerLater | ApproveLater => project.wait_for("DS-1", "waiting_question"),
    }
    if matches!(deed, AnswerLater | ApproveLater) {
        daemon.kill();
        daemon = project.daemon();
        Api::of(project, &daemon);
        project.wait_until("the question without its agent", || scene.count("run_ended") > 0);
        arm(true);
    } else if later {
        let before = if deed == Resume { Pause } else { Cancel };
        let receipt = client(project).act(&before.action("before")).unwrap();
        ended(project, &receipt);
        arm(true);
    }

    // The answer may die with the daemon; what was accepted does not.
    let sent = client(project).act(&deed.action("k"));
    project.wait_until("the kill", || project.dir.join("killed").exists() || moment.line().is_none());
    wait_dead(project, &mut daemon, &who);
    let accepted = accepted(project, deed);
    assert_eq!(accepted.len(), 1, "{who}: no receipt is on disk, and {sent:?} was said; {}", daemon.log_tail());
    let ends = ends(project, &accepted[0]).len();
    assert!(ends == 0 || !matches!(deed, Cancel | Pause | Steer), "{who}: it had ended when the daemon was killed");
    if let Ok(receipt) = sent {
        assert_eq!(receipt.action_id, accepted[0], "{who}");
    }

    let mut daemon = project.daemon();
    Api::of(project, &daemon);
    let again = client(project).act(&deed.action("k")).unwrap();
    assert_eq!((again.status.as_str(), again.replayed, &again.action_id), ("accepted", true, &accepted[0]), "{who}");
    ended(project, &again);
    if let Some(gate) = gate {
        gate.wait_arrived(2);
        gate.release();
    }
    judge(&scene, deed, &who);
    let ends = self::ends(project, &accepted[0]);
    assert_eq!(ends, ["action_completed"], "{who}");
    daemon.stop();
}

fn judge(scene: &Scene, deed: Deed, who: &str) {
    let project = &scene.project;
    match deed {
        Cancel => {
            assert_eq!(project.status("DS-1").unwrap().0, "canceled", "{who}");
            judge::at_rest(project);
            let codex = proxy::agent_pid(&project.dir).unwrap();
            assert!(!fs::exists(format!("/proc/{codex}/exe")).unwrap_or(false), "{who}: Codex runs");
            assert_eq!(scene.count("session_resumed"), 0, "{who}: the session goes on");
        }
        Pause => {
            assert_eq!(project.status("DS-1").unwrap().0, "paused", "{who}");
            judge::at_rest(project);
            let resumed = client(project).act(&Resume.action("then")).unwrap();
            ended(project, &resumed);
            goes_on(scene, who);
        }
        Resume => goes_on(scene, who),
        Steer => {
            goes_on(scene, who);
            let heard: Vec<String> = said(scene).into_iter().filter(|text| text.contains(STEERED)).collect();
            let unsure = heard.iter().filter(|text| text.contains("you may have heard this already")).count();
            assert!(!heard.is_empty(), "{who}: nobody told the model");
            assert!(heard.len() - unsure <= 1 && unsure <= 1, "{who}: told again as if for the first time: {heard:?}");
        }
        Rehydrate => {
            project.wait_for("DS-1", "handed_off");
            let events = project.events();
            let sessions = sessions(&events);
            let new = sessions.last().unwrap();
            assert!(sessions.len() >= 2 && *new != sessions[0], "{who}: no new session: {sessions:?}");
            let first = &scene.model.requests().iter().map(|asked| asked.body.to_string()).collect::<Vec<_>>();
            let told = first.iter().filter(|body| body.contains("You take over from an earlier session")).count();
            assert!(told > 0, "{who}: the new session has no account of the old one");
            assert!(said(scene).iter().filter(|text| text.contains("You take over")).count() == 1, "{who}");
            settled(scene);
        }
        Approve | ApproveLater => {
            goes_on(scene, who);
            let did = fs::read_to_string(project.workspace("DS-1").join(".git/did")).unwrap_or_default();
            assert!(did.contains('C'), "{who}: what was permitted was not done");
            assert_eq!(scene.count("question_asked"), 1, "{who}: it is permitted once, by a person");
            assert!(deed == Approve || times_said(scene, "The permission is given") == 1, "{who}: {:?}", said(scene));
        }
        Answer | AnswerLater => {
            goes_on(scene, who);
            let last = scene.model.requests().last().unwrap().body.to_string();
            assert!(last.contains(ANSWER), "{who}: the answer did not reach the model");
            assert_eq!(scene.count("question_asked"), 1, "{who}: it is asked once");
            assert!(deed == Answer || times_said(scene, ANSWER) == 1, "{who}: {:?}", said(scene));
        }
    }
    judge::no_gap(project);
}

/// The issue is handed off by the session that it had.
fn goes_on(scene: &Scene, who: &str) {
    scene.project.wait_for("DS-1", "handed_off");
    let events = scene.project.events();
    let sessions = sessions(&events);
    assert!(sessions.len() >= 2 && sessions.windows(2).all(|pair| pair[0] == pair[1]), "{who}: {sessions:?}");
    settled(scene);
}

fn settled(scene: &Scene) {
    judge::handed_off_once(&scene.project, &["DS-1"]);
    scene.project.wait_until("rest", || scene.project.strays().is_empty());
    let prompts = scene.prompts();
    assert!(prompts.values().all(|count| *count == 1), "prompts that arrived were sent again: {prompts:?}");
}

fn sessions(events: &[EventRow]) -> Vec<&str> {
    events
        .iter()
        .filter(|event| event.kind.starts_with("session_"))
        .filter_map(|event| event.data["session"].as_str())
        .collect()
}

/// What people said to the model, as its last request has it.
fn said(scene: &Scene) -> Vec<String> {
    let requests = scene.model.requests();
    let last = requests.iter().rfind(|asked| !asked.side).unwrap();
    let items = last.body["input"].as_array().cloned().unwrap_or_default();
    items.iter().filter(|item| item["role"] == "user").map(|item| item["content"].to_string()).collect()
}

fn times_said(scene: &Scene, words: &str) -> usize {
    said(scene).iter().map(|text| text.matches(words).count()).sum()
}

fn client(project: &Project) -> Client {
    Client::discover(&project.state_dir()).unwrap()
}

fn ended(project: &Project, receipt: &Receipt) {
    assert_eq!(receipt.status, "accepted", "{receipt:?}");
    project
        .wait_until(&format!("the end of {}", receipt.action_kind), || !ends(project, &receipt.action_id).is_empty());
}

fn accepted(project: &Project, deed: Deed) -> Vec<String> {
    let events = project.events();
    let of_it =
        events.iter().filter(|event| event.kind == "action_accepted" && event.data["action_kind"] == deed.kind());
    of_it.map(|event| event.data["action_id"].as_str().unwrap().to_owned()).collect()
}

/// How the action ended: one kind of event, once it has.
fn ends(project: &Project, action: &str) -> Vec<String> {
    let events = project.events();
    let of_it = events.iter().filter(|event| event.data["action_id"] == action);
    let ends = of_it.filter(|event| matches!(event.kind.as_str(), "action_completed" | "action_failed"));
    ends.inspect(|event| assert_eq!(event.data["correlation_id"], "c-1")).map(|event| event.kind.clone()).collect()
}

fn long_command(project: &Project) -> bool {
    project.events().iter().any(|event| event.kind == "turn_started")
        && project.marked().iter().any(|(_, line)| line.starts_with("sleep 299"))
}

fn wait_dead(project: &Project, daemon: &mut Daemon, who: &str) {
    let daemon = std::cell::RefCell::new(daemon);
    project.wait_until(&format!("the end of the daemon: {who}"), || !daemon.borrow_mut().is_alive());
}
