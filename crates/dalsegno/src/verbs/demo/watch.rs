//! Runs the daemon as a child, follows its events, and with `--crash` kills it again and again.

use std::fs::File;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use dalsegno_api::{Client, Event, EventQuery};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::project::Project;
use super::screen::Screen;
use crate::error::CliError;
use crate::story::{self, Facts, Tone};

/// Longest that the demo may take.
const LIMIT: Duration = Duration::from_secs(110);
const LOOK_EVERY: Duration = Duration::from_millis(60);
/// Events in one page.
const PAGE: usize = 500;

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Every event, in order.
    pub(super) events: Vec<Event>,
    /// SIGKILLs that hit a live daemon.
    pub(super) kills: u32,
    /// Time from the first start to the end.
    pub(super) took: Duration,
}

/// When the daemon is killed: after so many further events each time, chosen by a seed.
#[derive(Debug)]
pub(super) struct Kills {
    seed: u64,
    left: u32,
    state: u64,
    after_events: usize,
}

impl Kills {
    pub(super) fn new(left: u32, seed: u64) -> Self {
        let mut kills = Self { seed, left, state: seed, after_events: 0 };
        kills.after_events = kills.next_gap();
        kills
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    fn next_gap(&mut self) -> usize {
        16 + usize::try_from(self.random() % 24).unwrap_or(0)
    }

    /// A moment between two events.
    fn jitter(&mut self) -> Duration {
        Duration::from_millis(self.random() % 250)
    }

    /// SplitMix64: the moments need no better randomness, and the same seed gives the same ones. That of the test kit is
    /// out of reach: the binary ships without it.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Runs daemons until one ends by itself.
pub(super) fn watch(project: &Project, mut kills: Option<Kills>) -> Result<Watched, CliError> {
    let begun = Instant::now();
    let mut watched = Watched::default();
    let mut screen = Screen::new();
    let mut cursor: Option<String> = None;
    let mut daemon = start(project)?;
    let mut since_start = 0;
    loop {
        std::thread::sleep(LOOK_EVERY);
        since_start += follow(project, &mut cursor, &mut watched, &mut screen, begun);
        screen.stand(begun.elapsed());
        if let Some(status) = ended(&mut daemon)? {
            if !status.success() {
                return Err(CliError::new("demo_failed", format!("the daemon ended with {status}"))
                    .hint(format!("look at {}", project.daemon_log().display())));
            }
            break;
        }
        if let Some(kills) = kills.as_mut().filter(|kills| kills.left > 0 && since_start >= kills.after_events) {
            std::thread::sleep(kills.jitter());
            if ended(&mut daemon)?.is_some() {
                continue;
            }
            kill_daemon(&mut daemon)?;
            watched.kills += 1;
            kills.left -= 1;
            kills.after_events = kills.next_gap();
            since_start = 0;
            let text = format!("SIGKILL number {}; the daemon is started again", watched.kills);
            screen.line(begun.elapsed(), "", Tone::Bad, &text);
            daemon = start(project)?;
        }
        if begun.elapsed() > LIMIT {
            kill_daemon(&mut daemon)?;
            return Err(CliError::new("demo_too_slow", format!("not through after {} s", LIMIT.as_secs()))
                .hint(format!("look at {}", project.daemon_log().display())));
        }
    }
    watched.took = begun.elapsed();
    // The daemon is gone; what it said last is in its store.
    let client = crate::reader::open(&project.state_dir())?;
    while let Ok(page) = client.events(&page_after(cursor.as_deref())) {
        let got = page.events.len();
        take(page.events, &mut watched, &mut screen, begun);
        cursor = Some(page.next);
        if got == 0 {
            break;
        }
    }
    Ok(watched)
}

fn follow(
    project: &Project,
    cursor: &mut Option<String>,
    watched: &mut Watched,
    screen: &mut Screen,
    begun: Instant,
) -> usize {
    // A daemon that is starting or was just killed does not answer; the next look finds it.
    let Ok(client) = Client::discover(&project.state_dir()) else { return 0 };
    let Ok(page) = client.events(&page_after(cursor.as_deref())) else { return 0 };
    let got = page.events.len();
    take(page.events, watched, screen, begun);
    *cursor = Some(page.next);
    got
}

fn page_after(cursor: Option<&str>) -> EventQuery {
    EventQuery { after: cursor.map(str::to_owned), limit: Some(PAGE), ..EventQuery::default() }
}

fn take(events: Vec<Event>, watched: &mut Watched, screen: &mut Screen, begun: Instant) {
    for event in events {
        screen.note(&event);
        let told = in_doubt(&event, &watched.events).or_else(|| story::tell(&event));
        let told = told.filter(|(tone, _)| *tone == Tone::Odd || !is_left_out(&event.kind));
        if let Some((tone, text)) = told {
            screen.line(begun.elapsed(), event.issue.as_deref().unwrap_or_default(), tone, &text);
        }
        watched.events.push(event);
    }
}

/// An effect in doubt, by its name: only its intent tells that.
fn in_doubt(event: &Event, before: &[Event]) -> Option<(Tone, String)> {
    let id = event.data.get("effect_id").filter(|_| event.kind == "effect_in_doubt")?;
    let is_its_intent = |intent: &&Event| intent.kind == "effect_intended" && intent.data.get("effect_id") == Some(id);
    let effect = Facts(&before.iter().rev().find(is_its_intent)?.data).inner("effect", "kind").replace('_', " ");
    Some((Tone::Odd, format!("in doubt: {effect}; it was intended, and no outcome is recorded")))
}

/// What the next line says anyway, or the one before: three issues at once fill a screen.
fn is_left_out(kind: &str) -> bool {
    matches!(kind, "session_started" | "turn_ended" | "saga_started" | "run_ended" | "daemon_stopped")
}

fn start(project: &Project) -> Result<Child, CliError> {
    let program = std::env::current_exe().map_err(|error| CliError::io("no_program", &error))?;
    let log = File::options()
        .create(true)
        .append(true)
        .open(project.daemon_log())
        .map_err(|error| CliError::io("demo_dir", &error))?;
    Command::new(program)
        .arg("run")
        .arg(project.workflow())
        .args(["--once", "--port", "0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|error| CliError::io("no_daemon", &error))
}

fn ended(daemon: &mut Child) -> Result<Option<ExitStatus>, CliError> {
    daemon.try_wait().map_err(|error| CliError::io("no_daemon", &error))
}

fn kill_daemon(daemon: &mut Child) -> Result<(), CliError> {
    let pid = Pid::from_raw(i32::try_from(daemon.id()).unwrap_or(i32::MAX));
    // It may have ended by itself a moment ago; waiting tells.
    let _ = kill(pid, Signal::SIGKILL);
    daemon.wait().map_err(|error| CliError::io("no_daemon", &error))?;
    Ok(())
}
