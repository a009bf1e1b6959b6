//! Lines that scroll by, and on a terminal a line below them that says how things stand.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use dalsegno_api::Event;

use super::project::ISSUES;
use crate::out;
use crate::settings::color;
use crate::story::{Facts, Tone};
use crate::text::{columns, dim, painted, short};

/// Longest line.
const WIDTH: usize = 100;

/// Where the demo is shown.
#[derive(Debug)]
pub(super) struct Screen {
    color: bool,
    /// Standard output is a terminal: a line can be written over.
    live: bool,
    standing: bool,
    /// How each issue stands.
    issues: BTreeMap<String, String>,
}

impl Screen {
    pub(super) fn new() -> Self {
        let issues = ISSUES.iter().map(|(identifier, ..)| ((*identifier).to_owned(), "queued".to_owned())).collect();
        Self { color: color(), live: std::io::stdout().is_terminal(), standing: false, issues }
    }

    pub(super) fn line(&mut self, after: Duration, issue: &str, tone: Tone, text: &str) {
        self.clear();
        let margin = format!("{:>6.1}s  {issue:<7}", after.as_secs_f32());
        let room = columns().min(WIDTH).saturating_sub(margin.chars().count() + 2);
        out::line(&format!("{}  {}", dim(&margin, self.color), tone.paint(&short(text, room), self.color)));
    }

    /// Takes note of what an event changes in how things stand.
    pub(super) fn note(&mut self, event: &Event) {
        let Some(identifier) = &event.issue else { return };
        let facts = Facts(&event.data);
        let word = match event.kind.as_str() {
            "issue_status" => facts.word("to"),
            "run_phase" => facts.inner("phase", "name"),
            _ => return,
        };
        // A run goes on for a moment after its issue is handed off or parked; that stays what matters.
        let over = self.issues.get(identifier).is_some_and(|word| matches!(word.as_str(), "handed_off" | "parked"));
        let keep = word.is_empty() || (over && event.kind == "run_phase");
        if !keep {
            self.issues.insert(identifier.clone(), word.to_owned());
        }
    }

    /// Writes the line below the others anew.
    pub(super) fn stand(&mut self, after: Duration) {
        if !self.live {
            return;
        }
        let width: usize = self.issues.iter().map(|(name, word)| name.len() + word.len() + 4).sum();
        if width + 10 > columns() {
            return;
        }
        let issues: Vec<String> =
            self.issues.iter().map(|(name, word)| format!("{name} {}", painted(word, self.color))).collect();
        let time = format!("{:>6.1}s", after.as_secs_f32());
        out::text(&format!("\r\u{1b}[2K{}  {}", dim(&time, self.color), issues.join("   ")));
        self.standing = true;
    }

    /// Takes that line away.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.standing) {
            out::text("\r\u{1b}[2K");
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.clear();
    }
}
