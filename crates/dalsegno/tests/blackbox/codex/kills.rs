//! The kill matrix: who is killed, and when, with the real Codex at work; what survived, what was done again, and what
//! it cost.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::Mutex;

use dalsegno_engine::EventRow;
use dalsegno_testkit::parts;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::super::project::Project;
use super::proxy::{self, At, To, Victim};
use super::scene::{Scene, chosen, side_by_side};

/// File that gets the table.
const TABLE_VARIABLE: &str = "DALSEGNO_REAL_TABLE";

const FRONT: &str = r#"polling: {interval_ms: 100}
agent: {kind: codex, command: '@CODEX@', max_retry_backoff_ms: 200}
questions: {auto_approve: all}
handoff: {checks: ["./test"], claim_state: In Progress, state: Human Review, comment: "done"}
"#;

/// What the model wants: two commits, between them a command that can be made long, and one that leaves the sandbox.
/// Each writes down that it ran.
const SCRIPT: &str = r#"
issue:
  - answer: [{run: "echo A >> .git/did; echo one > one.txt; git add -A; git commit -qm one; true"}]
  - answer: [{run: "echo B >> .git/did; if [ -e .git/slow ]; then rm .git/slow; exec sleep 299; fi"}]
  - answer: [{escalate: {command: "echo C >> .git/did", justification: "it has to be outside"}}]
  - answer: [{run: "echo D >> .git/did; echo work > work.txt; git add -A; git commit -qm two; true"}]
  - answer: [{say: "It is done."}]
"#;
/// Model calls and tokens of a run that nobody disturbs.
const CLEAN: (usize, u64) = (5, 550);

/// When.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// The session is made, and the daemon has not heard of it.
    SessionUnheard,
    /// The session is journaled, and no turn began.
    BeforeFirstTurn,
    /// Codex took the turn, and nothing of it is done.
    TurnBegun,
    /// Codex said that it works on the turn, and the daemon has not heard of it.
    TurnSaid,
    ModelCall,
    /// In Codex's sandbox.
    Command,
    /// Without a sandbox: such a command outlives Codex.
    FreeCommand,
    /// The permission is given, and Codex has not heard of it.
    Approval,
    /// Codex said that the turn is over, and the daemon has not heard of it.
    TurnEnd,
    BeforePush,
    AfterPush,
}

use Moment::{
    AfterPush, Approval, BeforeFirstTurn, BeforePush, Command, FreeCommand, ModelCall, SessionUnheard, TurnBegun,
    TurnEnd, TurnSaid,
};

use Victim::{Agent, Both, Daemon};

#[rustfmt::skip]
const MATRIX: [(Moment, Victim); 29] = [
    (SessionUnheard, Agent), (SessionUnheard, Daemon), (SessionUnheard, Both),
    (BeforeFirstTurn, Agent), (BeforeFirstTurn, Daemon), (BeforeFirstTurn, Both),
    (TurnBegun, Agent), (TurnBegun, Daemon), (TurnBegun, Both),
    (TurnSaid, Agent), (TurnSaid, Daemon), (TurnSaid, Both),
    (ModelCall, Agent), (ModelCall, Daemon), (ModelCall, Both),
    (Command, Agent), (Command, Daemon), (Command, Both),
    (FreeCommand, Agent), (FreeCommand, Daemon), (FreeCommand, Both),
    (Approval, Agent), (Approval, Daemon), (Approval, Both),
    (TurnEnd, Agent), (TurnEnd, Daemon), (TurnEnd, Both),
    // Codex is closed by then.
    (BeforePush, Daemon), (AfterPush, Daemon),
];

impl Moment {
    fn text(self) -> &'static str {
        match self {
            SessionUnheard => "session made, its answer under way",
            BeforeFirstTurn => "session journaled, before its first turn",
            TurnBegun => "turn taken, nothing of it done",
            TurnSaid => "turn begun, not heard",
            ModelCall => "model call",
            Command => "command, in Codex's sandbox",
            FreeCommand => "command, without a sandbox",
            Approval => "permission given, not heard",
            TurnEnd => "turn over, not heard",
            BeforePush => "handoff, before the push",
            AfterPush => "handoff, after the push",
        }
    }

    fn in_handoff(self) -> bool {
        matches!(self, BeforePush | AfterPush)
    }

    /// The line at which the proxy kills.
    fn line(self) -> Option<At> {
        let at = |to, method, answer| Some(At { to, method, answer });
        match self {
            SessionUnheard => at(To::Daemon, "thread/start", true),
            BeforeFirstTurn => at(To::Agent, "turn/start", false),
            TurnBegun => at(To::Daemon, "turn/start", true),
            TurnSaid => at(To::Daemon, "turn/started", false),
            Approval => at(To::Agent, "item/commandExecution/requestApproval", true),
            TurnEnd => at(To::Daemon, "turn/completed", false),
            ModelCall | Command | FreeCommand | BeforePush | AfterPush => None,
        }
    }
}

fn name(victim: Victim) -> &'static str {
    match victim {
        Agent => "Codex",
        Daemon => "daemon",
        Both => "both",
    }
}

/// What came of a kill.
#[derive(Debug)]
struct Row {
    moment: Moment,
    victim: Victim,
    session: &'static str,
    done: String,
    again: String,
    calls: usize,
    tokens: u64,
    journal: u64,
}

#[test]
fn whoever_is_killed_whenever_the_issue_is_handed_off_once() {
    if parts::codex().is_none() {
        return;
    }
    let chosen = chosen(&MATRIX);
    println!("kills with the real Codex: {chosen:?}");
    let rows = Mutex::new(Vec::new());
    side_by_side(&chosen, |(moment, victim)| {
        let row = walk(moment, victim);
        println!("{}", line(&row));
        rows.lock().unwrap().push(row);
    });
    let mut rows = rows.into_inner().unwrap();
    rows.sort_by_key(|row| MATRIX.iter().position(|known| *known == (row.moment, row.victim)));
    let table = table(&rows);
    println!("{table}");
    if let Some(file) = std::env::var_os(TABLE_VARIABLE) {
        fs::write(file, table).unwrap();
    }
}

/// One scene: kill, restart, rest, judgement.
fn walk(moment: Moment, victim: Victim) -> Row {
    let scene = scene(moment, victim);
    let project = &scene.project;
    let gate = (moment == ModelCall).then(|| scene.model.hold("issue", 1));
    let mut daemon = project.once(&[]);
    match moment {
        ModelCall => gate.as_ref().unwrap().wait_arrived(1),
        Command | FreeCommand => {
            project.wait_for_event("turn_started");
            project.wait_until("the long command", || long_command(project).is_some());
            fs::write(project.dir.join("command.pid"), long_command(project).unwrap().to_string()).unwrap();
        }
        SessionUnheard | BeforeFirstTurn | TurnBegun | TurnSaid | Approval | TurnEnd | BeforePush | AfterPush => {
            project.wait_until("the kill", || proxy::note(&project.dir).exists());
        }
    }
    let agent = proxy::agent_pid(&project.dir).unwrap();
    let done = did(project);
    if moment.line().is_none() && !moment.in_handoff() {
        victim.kill(agent, i32::try_from(daemon.pid()).unwrap());
    }
    if victim != Agent {
        let status = daemon.wait();
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "{status}; {}", daemon.log_tail());
        // Without its daemon Codex ends by itself, and writes what it has.
        project.wait_until("the end of Codex", || !lives(agent));
        daemon = project.once(&[]);
    }
    if let Some(gate) = gate {
        // Nobody waits any more for the first answer, or the model would count it as told.
        gate.wait_arrived(2);
        gate.release();
    }
    assert!(daemon.wait().success(), "{}", daemon.log_tail());
    // At a line, the proxy looked before it killed.
    let done = fs::read_to_string(proxy::note(&project.dir)).map_or(done, |text| letters(&text));
    judge(&scene, moment, victim, done)
}

fn scene(moment: Moment, victim: Victim) -> Scene {
    let mut front = FRONT.to_owned();
    if moment == FreeCommand {
        front.push_str("codex: {thread_sandbox: danger-full-access, turn_sandbox_policy: {type: dangerFullAccess}}\n");
    }
    if matches!(moment, Command | FreeCommand) {
        front.push_str("hooks: {after_create: touch .git/slow}\n");
    }
    let scene = Scene::new(&front, SCRIPT).unwrap();
    let rule = moment.line().map(|line| (line, victim));
    scene.front(&front, &proxy::command(&scene.project.dir, &scene.codex, rule));
    if moment.in_handoff() {
        hook(&scene.project, moment);
    }
    scene
}

/// Kills the daemon when the remote has the push before it, or has taken it.
fn hook(project: &Project, moment: Moment) {
    let (name, then) = if moment == BeforePush { ("pre-receive", "sleep 299") } else { ("post-receive", "true") };
    let text = format!(
        "#!/bin/sh\n[ \"$(mkdir {dir}/killed && echo made)\" ] || exit 0\n\
         kill -9 $(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p' {dir}/project/.dalsegno/daemon.json)\n{then}\n",
        dir = project.dir.display()
    );
    let file = project.remote().join("hooks").join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The commands that ran, each as a letter.
fn did(project: &Project) -> String {
    let text = fs::read_to_string(project.workspace("DS-1").join(".git/did")).unwrap_or_default();
    letters(&text)
}

fn letters(text: &str) -> String {
    text.split_whitespace().collect()
}

fn long_command(project: &Project) -> Option<i32> {
    project.marked().into_iter().find(|(_, line)| line.starts_with("sleep 299")).map(|(pid, _)| pid)
}

fn lives(pid: i32) -> bool {
    // One that nobody collected has no command line.
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

fn judge(scene: &Scene, moment: Moment, victim: Victim, before: String) -> Row {
    let (project, who) = (&scene.project, format!("{moment:?}, {victim:?} killed"));
    scene.handed_off();
    let overlap = fs::read_to_string(project.dir.join("overlap")).unwrap_or_default();
    assert_eq!(overlap, "", "{who}: Codex was started while an old command ran");

    let events = project.events();
    let of = |kind: &str| events.iter().filter(|event| event.kind == kind).collect::<Vec<_>>();
    let repeated = of("turn_started").iter().filter(|event| event.data["repeated"] == true).count();
    sweep_goes_first(&events, victim, &who);
    let arrived = fs::read_to_string(proxy::arrived(&project.dir)).unwrap();
    assert!(repeated == 0 || arrived == "{}", "{who}: sent again although it had arrived: {arrived}");
    let runs: Vec<&Value> = of("run_ended").iter().map(|event| &event.data["reason"]).collect();
    assert_eq!(runs.len(), if dies_at_its_start(moment, victim) { 2 } else { 1 }, "{who}: runs ended with {runs:?}");
    let sessions: Vec<&str> = events
        .iter()
        .filter(|event| event.kind.starts_with("session_"))
        .map(|event| event.data["session"].as_str().unwrap())
        .collect();
    let session = match (sessions.as_slice(), victim) {
        ([_], _) if moment == SessionUnheard || moment.in_handoff() => "–",
        (all, _) if all.windows(2).all(|pair| pair[0] == pair[1]) => "the same",
        _ => "new",
    };
    let expected = sessions_that_may_follow(moment, victim);
    assert!(expected.contains(&session), "{who}: sessions {sessions:?}");

    let told = scene.told();
    let (input, output) = scene.journaled();
    let (tokens, journal) = (told.input + told.output, input + output);
    let missing = tokens.checked_sub(journal).unwrap();
    assert!(unreported(moment, victim).contains(&missing), "{who}: of {tokens} tokens the journal has {journal}");
    let done = did(project);
    let again: String = "ABCD".chars().filter(|letter| done.matches(*letter).count() > 1).collect();
    let again = match (repeated, again.as_str()) {
        (0, "") => "nothing".to_owned(),
        (0, commands) => format!("commands {commands}"),
        (_, "") => "the prompt".to_owned(),
        (_, commands) => format!("the prompt; commands {commands}"),
    };
    Row { moment, victim, session, done: before, again, calls: scene.model.requests().len(), tokens, journal }
}

/// A start that failed ends its run, and the next one tries again: nothing is lost with it.
fn dies_at_its_start(moment: Moment, victim: Victim) -> bool {
    moment == SessionUnheard && victim == Agent
}

/// What was left running was ended before any session went on: by the sweep, or by the end of the run.
fn sweep_goes_first(events: &[EventRow], victim: Victim, who: &str) {
    let kill = events.iter().rposition(|event| match victim {
        Agent => {
            event.kind == "effect_in_doubt" || event.kind == "run_ending" && event.data["ending"]["outcome"] == "failed"
        }
        Daemon | Both => event.kind == "daemon_started",
    });
    let after = &events[kill.unwrap_or_else(|| panic!("{who}: nobody noticed"))..];
    let sweeps: Vec<u64> = after
        .iter()
        .filter(|event| event.kind == "effect_intended")
        .filter(|event| matches!(event.data["effect"]["kind"].as_str(), Some("sweep" | "stop_agent")))
        .map(|event| event.data["effect_id"].as_u64().unwrap())
        .collect();
    assert!(!sweeps.is_empty(), "{who}: nothing was swept");
    let swept = after.iter().position(|event| {
        event.kind == "effect_ended" && event.data["effect_id"].as_u64().is_some_and(|id| sweeps.contains(&id))
    });
    let session = after.iter().position(|event| event.kind.starts_with("session_"));
    assert!(
        session.is_none_or(|session| swept.is_some_and(|swept| swept < session)),
        "{who}: a session before the sweep"
    );
}

/// Whoever died, the old session goes on, where Codex has one.
fn sessions_that_may_follow(moment: Moment, victim: Victim) -> &'static [&'static str] {
    match (moment, victim) {
        (SessionUnheard | BeforePush | AfterPush, _) => &["–"],
        // It is on disk from the first turn on.
        (BeforeFirstTurn, _) => &["new"],
        // Codex takes the turn before anything of it is on disk; alone, it comes to write it.
        (TurnBegun | TurnSaid, Agent | Both) => &["the same", "new"],
        (_, _) => &["the same"],
    }
}

/// Tokens that nobody but the model knows of. Codex tells those of an answer when the commands of the answer have
/// ended, and writes them down then.
fn unreported(moment: Moment, victim: Victim) -> &'static [u64] {
    match (moment, victim) {
        (Command | FreeCommand | Approval, Agent | Both) => &[110],
        // Whether the model was asked already is chance.
        (TurnBegun | TurnSaid, _) => &[0, 110],
        _ => &[0],
    }
}

fn line(row: &Row) -> String {
    let share = |figure: u64| format!("{:+}", i64::try_from(figure).unwrap() - i64::try_from(CLEAN.1).unwrap());
    let missing = row.tokens - row.journal;
    let journal = if missing == 0 { "all".to_owned() } else { format!("without {missing} of the turn that was cut") };
    let done = if row.done.is_empty() { "nothing" } else { &row.done };
    format!(
        "| {} | {} | {} | {done} | {} | {} | {} ({}) | {journal} |",
        row.moment.text(),
        name(row.victim),
        row.session,
        row.again,
        row.calls,
        row.tokens,
        share(row.tokens),
    )
}

fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "| moment | killed | survived: session | survived: commands | repeated | cost: model calls ({} undisturbed) | cost: tokens told by the model ({} undisturbed) | of them in the journal |\n|---|---|---|---|---|---|---|---|\n",
        CLEAN.0, CLEAN.1
    );
    for row in rows {
        let _ = writeln!(text, "{}", line(row));
    }
    text
}
