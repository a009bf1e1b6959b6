//! Asks the daemon, on threads of its own. A daemon that ended or was restarted is found again: it may have another
//! port, and another token.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dalsegno_api::{Action, Client, ClientError, EventQuery, code};

use super::model::{Ask, Said, Wanted};

/// Answers that wait to be shown; a thread that is ahead waits.
const ANSWERS: usize = 64;
/// Actions that wait to be sent.
const ACTIONS: usize = 4;
/// Entries of a transcript in one answer.
const ENTRIES: usize = 200;
/// Between two looks when the journal moves, and when it does not.
const SOON: Duration = Duration::from_millis(300);
const LATE: Duration = Duration::from_secs(5);
/// Between two looks for a daemon that is gone.
const AGAIN: Duration = Duration::from_millis(500);
/// How long the end of an action is waited for.
const END: Duration = Duration::from_secs(60);

/// The daemon, as the model hears it.
pub(super) struct Feed {
    answers: Receiver<Said>,
    actions: SyncSender<Action>,
    shared: Arc<Shared>,
}

/// What the threads share.
struct Shared {
    state_dir: PathBuf,
    wanted: Mutex<(Wanted, bool)>,
}

impl Shared {
    /// What is wanted, and whether something moved since the last call.
    fn take(&self) -> (Wanted, bool) {
        let mut held = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        (held.0.clone(), std::mem::take(&mut held.1))
    }

    fn moved(&self) {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
    }
}

impl Feed {
    pub(super) fn start(state_dir: &Path) -> Self {
        let (tell, answers) = sync_channel(ANSWERS);
        let (actions, to_send) = sync_channel(ACTIONS);
        let shared = Arc::new(Shared { state_dir: state_dir.to_owned(), wanted: Mutex::default() });
        let (reader, watcher, actor) = (Arc::clone(&shared), Arc::clone(&shared), Arc::clone(&shared));
        let acted = tell.clone();
        thread::spawn(move || read(&reader, &tell));
        thread::spawn(move || watch(&watcher));
        thread::spawn(move || act(&actor, &to_send, &acted));
        Self { answers, actions, shared }
    }

    /// What came since the last call.
    pub(super) fn heard(&self) -> Vec<Said> {
        let mut heard = Vec::new();
        while heard.len() < ANSWERS {
            match self.answers.try_recv() {
                Ok(said) => heard.push(said),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        heard
    }

    /// Asks; hands it back when too much is asked already.
    pub(super) fn ask(&self, ask: Ask) -> Result<(), Ask> {
        match ask {
            Ask::Refresh => {
                self.shared.moved();
                Ok(())
            }
            Ask::Act(action) => self.actions.try_send((*action).clone()).map_err(|_| Ask::Act(action)),
        }
    }

    /// Says what the open page needs.
    pub(super) fn look_at(&self, wanted: Wanted) {
        let mut held = self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let other = held.0.issue != wanted.issue
            || held.0.transcript.as_ref().map(|(run, _)| run) != wanted.transcript.as_ref().map(|(run, _)| run);
        held.1 |= other;
        held.0 = wanted;
    }
}

/// Tells what is wanted, when something moved or some time passed. Ends with the screen.
fn read(shared: &Shared, tell: &SyncSender<Said>) {
    let mut last = None::<Instant>;
    loop {
        let (wanted, moved) = shared.take();
        let due = last.is_none_or(|last| last.elapsed() >= if moved { SOON } else { LATE });
        let (mut pause, mut said) = (Duration::from_millis(50), Vec::new());
        if due {
            match look(shared, &wanted) {
                Ok(told) => {
                    said = told;
                    last = Some(Instant::now());
                }
                Err(error) => {
                    said.push(Said::Lost(error.detail.message.clone()));
                    (last, pause) = (None, AGAIN);
                }
            }
        } else if moved {
            shared.moved();
        }
        for said in said {
            if tell.send(said).is_err() {
                return;
            }
        }
        thread::sleep(pause);
    }
}

fn look(shared: &Shared, wanted: &Wanted) -> Result<Vec<Said>, ClientError> {
    let client = Client::discover(&shared.state_dir)?;
    let state = Box::new(client.state()?);
    let (issues, readiness) = (client.issues(None)?.issues, client.readiness().ok());
    // None before a policy was loaded, and while the daemon ends.
    let day = client.budget().ok().and_then(|budget| budget.day).map(Box::new);
    let mut said = vec![Said::Overview { state, issues, readiness, day }];
    if let Some(issue) = &wanted.issue {
        let found = match client.issue(issue) {
            Ok(detail) => Some(Box::new(detail)),
            Err(error) if error.code() == "issue_not_found" => None,
            Err(error) => return Err(error),
        };
        said.push(Said::Detail(issue.clone(), found));
    }
    if let Some((run, after)) = &wanted.transcript {
        // A restored journal has other cursors: then it is read from its beginning.
        let (page, fresh) = match client.transcript(run, after.as_deref(), Some(ENTRIES)) {
            Err(error) if error.code() == code::CURSOR_GONE => (client.transcript(run, None, Some(ENTRIES))?, true),
            page => (page?, after.is_none()),
        };
        if !page.entries.is_empty() {
            // There may be more at once.
            shared.moved();
        }
        said.push(Said::Transcript { run: run.clone(), entries: page.entries, next: page.next, fresh });
    }
    Ok(said)
}

/// Hears the journal move. What is in the events does not matter: everything is read anew.
fn watch(shared: &Shared) {
    loop {
        if let Ok(client) = Client::discover(&shared.state_dir) {
            let after = client.state().map(|state| state.head).ok();
            for event in client.stream(&EventQuery { after, ..EventQuery::default() }) {
                if event.is_err() {
                    break;
                }
                shared.moved();
            }
        }
        shared.moved();
        thread::sleep(AGAIN);
    }
}

/// Sends actions, one after the other, and waits for their end.
fn act(shared: &Shared, to_send: &Receiver<Action>, tell: &SyncSender<Said>) {
    while let Ok(action) = to_send.recv() {
        let (kind, target) = (action.action_kind.clone(), action.target.id.clone());
        let sent = Client::discover(&shared.state_dir).and_then(|client| client.act(&action));
        let receipt = match sent {
            Ok(receipt) => receipt,
            Err(error) => {
                let unsure = matches!(error.code(), code::DAEMON_UNREACHABLE | code::DAEMON_NOT_RUNNING);
                let why = format!("{kind} {target}: {}", error.detail.message);
                if tell.send(Said::Failed { action: Box::new(action), unsure, why }).is_err() {
                    return;
                }
                continue;
            }
        };
        let (accepted, id) = (receipt.status == "accepted", receipt.action_id.clone());
        if tell.send(Said::Receipt(receipt)).is_err() {
            return;
        }
        let begun = Instant::now();
        while accepted && begun.elapsed() < END {
            // A daemon that is away comes back, and knows the action.
            let found = Client::discover(&shared.state_dir).and_then(|client| client.action(&id));
            if let Some(completion) = found.ok().and_then(|found| found.completion) {
                if tell.send(Said::Ended { kind, target, completion }).is_err() {
                    return;
                }
                break;
            }
            thread::sleep(Duration::from_millis(200));
        }
    }
}
