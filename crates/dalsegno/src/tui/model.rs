//! What is shown, and what keys and answers make of it. Pure: no clock, no daemon.

use std::collections::VecDeque;

use dalsegno_api::{
    Action, BudgetLine, Completion, Issue, IssueDetail, Readiness, Receipt, State, Target, TranscriptEntry,
};
use serde_json::{Map, Value};

use super::keys::Key;

/// Entries of a transcript that are kept; older ones are read with `dalsegno logs`.
pub(super) const ENTRIES: usize = 1_000;
/// Characters that can be typed.
const TYPED: usize = 4_000;
/// Rows that a page key moves.
const PAGE: usize = 10;

/// What comes in.
#[derive(Debug, Clone)]
pub(super) enum Said {
    /// The person pressed a key.
    Key(Key),
    /// The person pasted a text.
    Pasted(String),
    /// The daemon told how everything stands, and what the day has used.
    Overview { state: Box<State>, issues: Vec<Issue>, readiness: Option<Readiness>, day: Option<Box<BudgetLine>> },
    /// The daemon told of one issue; `None`: there is none by this name.
    Detail(String, Option<Box<IssueDetail>>),
    /// The daemon told what comes after the entries that are there.
    Transcript { run: String, entries: Vec<TranscriptEntry>, next: String, fresh: bool },
    /// Nobody answers.
    Lost(String),
    /// An action was answered.
    Receipt(Receipt),
    /// An action ended.
    Ended { kind: String, target: String, completion: Completion },
    /// An action could not be sent, or was refused as such; whether it was accepted may be unknown.
    Failed { action: Box<Action>, unsure: bool, why: String },
}

/// What is to be asked of the daemon.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ask {
    /// Send this; its key is in it.
    Act(Box<Action>),
    /// Look at everything now.
    Refresh,
}

/// What the daemon is asked again and again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Details of this issue.
    pub(super) issue: Option<String>,
    /// The transcript of this run, from this cursor on.
    pub(super) transcript: Option<(String, Option<String>)>,
}

/// Which page is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    List,
    Issue,
    Transcript,
}

/// What lies over the page.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Over {
    Help,
    /// Which action?
    Actions {
        at: usize,
    },
    /// What of it?
    Typing {
        kind: String,
        text: String,
    },
    /// Really?
    Confirm {
        action: Box<Action>,
    },
}

/// A line at the bottom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) text: String,
    pub(super) bad: bool,
}

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) state: Option<State>,
    pub(super) readiness: Option<Readiness>,
    /// Use and limits of this UTC day.
    pub(super) day: Option<BudgetLine>,
    pub(super) issues: Vec<Issue>,
    pub(super) detail: Option<IssueDetail>,
    pub(super) transcript: VecDeque<TranscriptEntry>,
    /// Of which run, and where it goes on.
    pub(super) of_run: Option<(String, Option<String>)>,
    /// Older entries were left out.
    pub(super) cut: bool,
    /// Why nobody answers; everything that is shown is as it was then.
    pub(super) lost: Option<String>,
    pub(super) page: Page,
    pub(super) over: Option<Over>,
    pub(super) note: Option<Note>,
    pub(super) filter: String,
    pub(super) filtering: bool,
    /// Identifier of the chosen issue: rows come and go.
    pub(super) chosen: Option<String>,
    /// Rows that are scrolled away from the end (transcript) or the beginning (issue).
    pub(super) scroll: usize,
    pub(super) left: bool,
    pub(super) colour: bool,
    pub(super) now_ms: i64,
    by: String,
    actions: u64,
    seed: String,
}

/// Actions whose end cannot be taken back.
const GRAVE: [&str; 5] = ["cancel", "deny", "retry", "rehydrate", "drain"];

/// What an action asks the person for: the field of its payload, and the words for it.
pub(super) fn field_of(kind: &str) -> Option<(&'static str, &'static str)> {
    match kind {
        "steer" => Some(("text", "Say to the agent")),
        "answer" => Some(("text", "Answer")),
        "comment" => Some(("body", "Comment")),
        "transition_issue" => Some(("state", "Move to the state")),
        "create_followup" => Some(("title", "Title of the new issue")),
        "set_budget" => Some(("limits", "Limits, such as tokens=500000 cost_usd=5")),
        "settle" => Some(("settle", "Step and verb, such as `push retry` (applied, not_applied, retry, undone, skip)")),
        "deny" => Some(("why", "Why (may be empty)")),
        _ => None,
    }
}

/// What can be done to the daemon itself.
const OF_DAEMON: [&str; 4] = ["refresh", "drain", "undrain", "reload"];

impl Model {
    /// Nothing is known yet. `by`: who acts.
    pub(super) fn new(by: String, colour: bool) -> Self {
        Self {
            state: None,
            readiness: None,
            day: None,
            issues: Vec::new(),
            detail: None,
            transcript: VecDeque::new(),
            of_run: None,
            cut: false,
            lost: None,
            page: Page::List,
            over: None,
            note: None,
            filter: String::new(),
            filtering: false,
            chosen: None,
            scroll: 0,
            left: false,
            colour,
            now_ms: 0,
            by,
            actions: 0,
            seed: crate::presence::random::<12>().unwrap_or_else(|_| std::process::id().to_string()),
        }
    }

    /// The issues that the filter lets through, those that need somebody first.
    pub(super) fn rows(&self) -> Vec<&Issue> {
        let sought = self.filter.to_lowercase();
        let fits = |issue: &&Issue| {
            let texts = [&issue.identifier, &issue.title, &issue.status, &issue.tracker_state];
            sought.is_empty() || texts.iter().any(|text| text.to_lowercase().contains(&sought))
        };
        let mut rows: Vec<&Issue> = self.issues.iter().filter(fits).collect();
        rows.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| natural(&a.identifier).cmp(&natural(&b.identifier))));
        rows
    }

    /// Where the chosen issue is among the rows.
    pub(super) fn at(&self) -> usize {
        let chosen = self.chosen.as_deref();
        self.rows().iter().position(|issue| Some(issue.identifier.as_str()) == chosen).unwrap_or(0)
    }

    /// The issue that actions are for.
    pub(super) fn issue(&self) -> Option<&Issue> {
        self.rows().get(self.at()).copied()
    }

    /// What can be done now: to the issue, then to the daemon.
    pub(super) fn allowed(&self) -> Vec<String> {
        let detailed = self.detail.as_ref().filter(|_| self.page != Page::List).map(|detail| &detail.issue);
        let of_issue = detailed.or_else(|| self.issue()).map(|issue| issue.allowed_actions.clone()).unwrap_or_default();
        of_issue.into_iter().chain(OF_DAEMON.map(str::to_owned)).collect()
    }

    /// What the daemon is to be asked for the open page.
    pub(super) fn wanted(&self) -> Wanted {
        match self.page {
            Page::List => Wanted::default(),
            Page::Issue => Wanted { issue: self.chosen.clone(), transcript: None },
            Page::Transcript => Wanted { issue: self.chosen.clone(), transcript: self.of_run.clone() },
        }
    }

    /// The daemon is asked too much already.
    pub(super) fn busy(&mut self, _: &Ask) {
        self.tell("the last action is still under way; try again in a moment", true);
    }

    fn tell(&mut self, text: impl Into<String>, bad: bool) {
        self.note = Some(Note { text: text.into(), bad });
    }

    /// Takes in what happened; answers what is to be asked.
    pub(super) fn update(&mut self, said: Said) -> Vec<Ask> {
        match said {
            Said::Key(Key::Interrupt) => self.left = true,
            Said::Key(key) => return self.key(key),
            Said::Pasted(text) => {
                text.chars().for_each(|letter| self.typed(if letter.is_control() { ' ' } else { letter }))
            }
            Said::Overview { state, issues, readiness, day } => {
                self.lost = None;
                (self.state, self.issues, self.readiness) = (Some(*state), issues, readiness);
                self.day = day.map(|day| *day);
                if self.chosen.is_none() {
                    self.chosen = self.rows().first().map(|issue| issue.identifier.clone());
                }
            }
            Said::Detail(identifier, detail) => {
                if self.chosen.as_ref() == Some(&identifier) {
                    self.detail = detail.map(|detail| *detail);
                    if self.detail.is_none() {
                        self.tell(format!("{identifier} is not there any more"), true);
                    }
                }
            }
            Said::Transcript { run, entries, next, fresh } => self.heard(run, entries, next, fresh),
            Said::Lost(why) => self.lost = Some(why),
            Said::Receipt(receipt) => {
                let (kind, id) = (&receipt.action_kind, &receipt.target.id);
                match (receipt.status.as_str(), receipt.reason) {
                    ("accepted", _) => self.tell(format!("{kind} {id}: accepted ({})", receipt.action_id), false),
                    (_, reason) => self.tell(format!("{kind} {id}: refused: {}", reason.unwrap_or_default()), true),
                }
                return vec![Ask::Refresh];
            }
            Said::Ended { kind, target, completion } => {
                match (completion.code, completion.reason) {
                    (None, _) => self.tell(format!("{kind} {target}: done"), false),
                    (Some(code), reason) => {
                        self.tell(format!("{kind} {target}: failed: {}", reason.unwrap_or(code)), true);
                    }
                }
                return vec![Ask::Refresh];
            }
            Said::Failed { action, unsure, why } => {
                self.tell(why, true);
                if unsure {
                    // Sent again as it is, it does nothing twice.
                    self.over = Some(Over::Confirm { action });
                }
            }
        }
        Vec::new()
    }

    fn heard(&mut self, run: String, entries: Vec<TranscriptEntry>, next: String, fresh: bool) {
        if self.of_run.as_ref().is_none_or(|(known, _)| *known != run) {
            return;
        }
        if fresh {
            self.transcript.clear();
            self.cut = false;
        }
        // What is looked at stays where it is.
        if self.scroll > 0 {
            self.scroll += entries.len();
        }
        self.transcript.extend(entries);
        while self.transcript.len() > ENTRIES {
            self.transcript.pop_front();
            self.cut = true;
        }
        self.of_run = Some((run, Some(next)));
    }

    fn key(&mut self, key: Key) -> Vec<Ask> {
        match self.over.take() {
            Some(over) => self.key_over(over, key),
            None if self.filtering => self.key_filter(key),
            None => self.key_page(key),
        }
    }

    fn key_filter(&mut self, key: Key) -> Vec<Ask> {
        match key {
            Key::Enter => self.filtering = false,
            Key::Esc => {
                self.filtering = false;
                self.filter.clear();
            }
            Key::Backspace => drop(self.filter.pop()),
            Key::Char(letter) => self.typed(letter),
            Key::Up | Key::Down | Key::PageUp | Key::PageDown | Key::Home | Key::End => self.walk(key),
            Key::Left | Key::Interrupt | Key::Other => {}
        }
        Vec::new()
    }

    fn typed(&mut self, letter: char) {
        let text = match &mut self.over {
            Some(Over::Typing { text, .. }) => text,
            Some(_) => return,
            None if self.filtering => &mut self.filter,
            None => return,
        };
        if text.chars().count() < TYPED {
            text.push(letter);
        }
        if self.filtering {
            self.chosen = self.rows().first().map(|issue| issue.identifier.clone());
        }
    }

    fn key_page(&mut self, key: Key) -> Vec<Ask> {
        self.note = None;
        match (self.page, key) {
            (_, Key::Char('?')) => self.over = Some(Over::Help),
            (_, Key::Char('a')) => self.over = Some(Over::Actions { at: 0 }),
            (_, Key::Char('q')) | (Page::List, Key::Esc) if self.page == Page::List => {
                // Esc takes the filter away before it leaves.
                if key == Key::Esc && !self.filter.is_empty() {
                    self.filter.clear()
                } else {
                    self.left = key == Key::Char('q')
                }
            }
            (_, Key::Char('q')) => self.left = true,
            (Page::List, Key::Char('/')) => self.filtering = true,
            (Page::List, Key::Enter) if self.issue().is_some() => {
                self.chosen = self.issue().map(|issue| issue.identifier.clone());
                (self.page, self.scroll, self.detail) = (Page::Issue, 0, None);
            }
            (Page::Issue, Key::Char('t') | Key::Enter) => self.open_transcript(),
            (Page::Issue, Key::Esc | Key::Left | Key::Backspace) => self.page = Page::List,
            (Page::Transcript, Key::Esc | Key::Left | Key::Backspace) => (self.page, self.scroll) = (Page::Issue, 0),
            (_, Key::Char('r')) => return vec![Ask::Refresh],
            (_, key) => self.walk(key),
        }
        Vec::new()
    }

    fn open_transcript(&mut self) {
        let run = self.detail.as_ref().and_then(|detail| detail.last_run.as_ref()).map(|run| run.id.clone());
        match run {
            Some(run) => {
                if self.of_run.as_ref().is_none_or(|(known, _)| *known != run) {
                    self.transcript.clear();
                    (self.of_run, self.cut) = (Some((run, None)), false);
                }
                (self.page, self.scroll) = (Page::Transcript, 0);
            }
            None => self.tell("no run of it yet", true),
        }
    }

    /// Moves: the choice in the list, the text elsewhere.
    fn walk(&mut self, key: Key) {
        let key = key.as_arrow();
        if self.page == Page::List {
            let (at, last) = (self.at(), self.rows().len().saturating_sub(1));
            let to = moved(key, at, last);
            self.chosen = self.rows().get(to).map(|issue| issue.identifier.clone());
            return;
        }
        // A transcript is seen from its end.
        let upside_down = self.page == Page::Transcript;
        let key = if upside_down { key.turned() } else { key };
        self.scroll = moved(key, self.scroll, if upside_down { self.transcript.len() } else { 200 });
    }

    fn key_over(&mut self, over: Over, key: Key) -> Vec<Ask> {
        match (over, key) {
            (Over::Help, _) => {}
            (Over::Actions { .. } | Over::Confirm { .. } | Over::Typing { .. }, Key::Esc) => {}
            (Over::Actions { at }, Key::Enter) => {
                if let Some(kind) = self.allowed().get(at).cloned() {
                    return self.begin(kind);
                }
            }
            (Over::Actions { at }, key) => {
                let at = moved(key.as_arrow(), at, self.allowed().len().saturating_sub(1));
                self.over = Some(Over::Actions { at });
            }
            (Over::Typing { kind, text }, Key::Enter) => match self.payload(&kind, &text) {
                Ok(payload) => return self.made(&kind, payload),
                Err(why) => {
                    self.tell(why, true);
                    self.over = Some(Over::Typing { kind, text });
                }
            },
            (Over::Typing { kind, mut text }, key) => {
                if key == Key::Backspace {
                    text.pop();
                }
                self.over = Some(Over::Typing { kind, text });
                if let Key::Char(letter) = key {
                    self.typed(letter);
                }
            }
            (Over::Confirm { action }, Key::Char('y' | 'Y') | Key::Enter) => return vec![Ask::Act(action)],
            (Over::Confirm { .. }, Key::Char('n' | 'N')) => {}
            (over @ Over::Confirm { .. }, _) => self.over = Some(over),
        }
        Vec::new()
    }

    fn begin(&mut self, kind: String) -> Vec<Ask> {
        if field_of(&kind).is_some() {
            self.over = Some(Over::Typing { kind, text: String::new() });
            return Vec::new();
        }
        self.made(&kind, Map::new())
    }

    /// What was typed, as the payload of the action.
    fn payload(&self, kind: &str, text: &str) -> Result<Map<String, Value>, String> {
        let text = text.trim();
        let Some((field, _)) = field_of(kind) else { return Ok(Map::new()) };
        let mut payload = Map::new();
        match field {
            "limits" => {
                for part in text.split_whitespace() {
                    let (name, number) =
                        part.split_once('=').ok_or_else(|| format!("`{part}` is no limit: write tokens=500000"))?;
                    let number: serde_json::Number = number.parse().map_err(|_| format!("`{number}` is no number"))?;
                    payload.insert(name.to_owned(), Value::Number(number));
                }
            }
            "settle" => {
                let (step, verb) =
                    text.split_once(char::is_whitespace).ok_or("write a step and a verb: `push retry`")?;
                payload.insert("step".to_owned(), step.into());
                payload.insert("verb".to_owned(), verb.trim().replace('-', "_").into());
            }
            "why" if text.is_empty() => {}
            _ if text.is_empty() => return Err("there is nothing to say".to_owned()),
            field => drop(payload.insert(field.to_owned(), text.into())),
        }
        Ok(payload)
    }

    /// The action with its key: whatever becomes of its sending, it is one.
    fn made(&mut self, kind: &str, mut payload: Map<String, Value>) -> Vec<Ask> {
        // Limits are all that a budget takes.
        if kind != "set_budget" {
            payload.insert("by".to_owned(), self.by.clone().into());
        }
        let of_daemon = OF_DAEMON.contains(&kind);
        let target = match (of_daemon, self.chosen.clone()) {
            (false, Some(id)) => Target { kind: "issue".to_owned(), id },
            (true, _) | (false, None) => Target { kind: "daemon".to_owned(), id: String::new() },
        };
        self.actions += 1;
        let action = Box::new(Action {
            schema_version: 1,
            action_kind: kind.to_owned(),
            target,
            correlation_id: None,
            idempotency_key: Some(format!("tui-{}-{}", self.seed, self.actions)),
            on_duplicate: None,
            payload,
        });
        if GRAVE.contains(&kind) {
            self.over = Some(Over::Confirm { action });
            return Vec::new();
        }
        vec![Ask::Act(action)]
    }
}

fn moved(key: Key, at: usize, last: usize) -> usize {
    let to = match key {
        Key::Up => at.saturating_sub(1),
        Key::Down => at + 1,
        Key::PageUp => at.saturating_sub(PAGE),
        Key::PageDown => at + PAGE,
        Key::Home => 0,
        Key::End => last,
        Key::Char(_) | Key::Enter | Key::Esc | Key::Backspace | Key::Left | Key::Interrupt | Key::Other => at,
    };
    to.min(last)
}

/// What a person has to see first.
pub(super) fn rank(issue: &Issue) -> u8 {
    match issue.status.as_str() {
        "waiting_question" | "waiting_approval" | "parked" => 0,
        "running" | "handing_off" => 1,
        "paused" => 2,
        "waiting_retry" | "waiting_quota" => 3,
        "queued" => 4,
        "failed" | "canceled" => 5,
        "handed_off" | "completed" => 6,
        _ => 7,
    }
}

/// DS-9 comes before DS-10.
fn natural(identifier: &str) -> (String, u64) {
    let digits = identifier.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    let (name, number) = identifier.split_at_checked(digits).unwrap_or((identifier, ""));
    (name.to_owned(), number.parse().unwrap_or(0))
}
