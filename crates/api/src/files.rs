//! Files that were kept for a run, on the wire: what its checks said.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::types::Event;

/// `GET /api/v1/runs/{id}/files`: what was kept for a run, each with its receipt.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct FileList {
    /// Oldest first; at most 10,000.
    pub files: Vec<KeptFile>,
}

/// A file that was kept, and what it was when it was written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct KeptFile {
    /// Names it in `/api/v1/runs/{id}/files/{file}`, and in the event `check_ended`. No other file ever has this name.
    pub file: String,
    /// What it is: `check-2.log` is what the second of `handoff.checks` said.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of its content, in hex.
    pub sha256: String,
    /// Why there is nothing to read any more: its receipt was taken back. Null: it is there.
    pub lost: Option<String>,
}

/// A check of a run: how it ended, and what is kept of what it said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Check {
    /// Its place among the checks of the run, from 1.
    pub number: usize,
    /// The command; null where its end is not told: it was cut with the daemon, or is older than the events that are kept.
    pub command: Option<String>,
    /// Whether it passed; null as above.
    pub passed: Option<bool>,
    /// The commit that it looked at; null as above.
    pub commit: Option<String>,
    /// When it ended; null as above.
    pub at: Option<String>,
    /// What it said; null where it said nothing, or that could not be kept.
    pub said: Option<KeptFile>,
}

impl Check {
    /// The checks that these events and files of one run tell of, oldest first. Both are in order.
    #[must_use]
    pub fn of_run(events: &[Event], files: Vec<KeptFile>) -> Vec<Self> {
        let mut files: Vec<KeptFile> = files.into_iter().filter(|file| file.name.starts_with("check-")).collect();
        let untold = |said: KeptFile| Self { said: Some(said), ..Self::default() };
        let mut checks = Vec::new();
        for event in events.iter().filter(|event| event.kind == "check_ended") {
            let text = |name: &str| event.data.get(name).and_then(Value::as_str).map(str::to_owned);
            let kept = event.data.get("kept").and_then(|kept| kept.get("file")?.as_str());
            let place = kept.and_then(|kept| files.iter().position(|file| file.file == kept));
            // What was kept before it, and no event tells of.
            let mut until: Vec<KeptFile> = files.drain(..place.map_or(0, |place| place + 1)).collect();
            let said = place.and_then(|_| until.pop());
            checks.extend(until.into_iter().map(untold));
            let passed = event.data.get("passed").and_then(Value::as_bool);
            let (command, commit, at) = (text("command"), text("commit"), Some(event.at.clone()));
            checks.push(Self { number: 0, command, passed, commit, at, said });
        }
        checks.extend(files.into_iter().map(untold));
        for (number, check) in (1..).zip(&mut checks) {
            check.number = number;
        }
        checks
    }

    /// The command, or what its file is called.
    #[must_use]
    pub fn title(&self) -> &str {
        self.command.as_deref().or_else(|| self.said.as_ref().map(|said| said.name.as_str())).unwrap_or("a check")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ended(command: &str, kept: Option<&str>) -> Event {
        let data = json!({"command": command, "passed": true, "commit": "c0ffee", "kept": {"file": kept}});
        let (cursor, at, kind) = (String::new(), "2026-01-01T00:00:00.000Z".to_owned(), "check_ended".to_owned());
        let (issue, run, action_id, correlation_id) = (None, None, None, None);
        let (caused_by, content_withheld) = (None, false);
        Event { cursor, seq: 1, at, kind, issue, run, action_id, correlation_id, caused_by, data, content_withheld }
    }

    fn file(file: &str, name: &str) -> KeptFile {
        KeptFile { file: file.to_owned(), name: name.to_owned(), ..KeptFile::default() }
    }

    #[test]
    fn checks_are_in_order_whether_their_end_is_told_or_what_they_said_is_kept() {
        let events =
            [ended("one", Some("3-0-check-1.log")), ended("silent", None), ended("two", Some("9-0-check-3.log"))];
        let names = ["1-0-check-1.log", "3-0-check-1.log", "5-0-check-3.log", "9-0-check-3.log", "10-0-check-1.log"];
        let mut files: Vec<KeptFile> = names.iter().map(|name| file(name, &name[name.len() - 11..])).collect();
        files.insert(2, file("4-0-notes.txt", "notes.txt"));
        let checks = Check::of_run(&events, files.clone());
        let told: Vec<(usize, &str, Option<&str>)> = checks
            .iter()
            .map(|check| (check.number, check.title(), check.said.as_ref().map(|said| said.file.as_str())))
            .collect();
        assert_eq!(
            told,
            [
                (1, "check-1.log", Some("1-0-check-1.log")),
                (2, "one", Some("3-0-check-1.log")),
                (3, "silent", None),
                (4, "check-3.log", Some("5-0-check-3.log")),
                (5, "two", Some("9-0-check-3.log")),
                (6, "check-1.log", Some("10-0-check-1.log")),
            ]
        );
        assert_eq!((checks[1].passed, checks[1].commit.as_deref()), (Some(true), Some("c0ffee")));
        assert_eq!((checks[0].passed, &checks[0].at), (None, &None));
        assert_eq!(Check::of_run(&[], Vec::new()), []);
        let forgotten = Check::of_run(&events[..1], files.split_off(4));
        assert_eq!(forgotten.iter().map(|check| check.said.is_some()).collect::<Vec<_>>(), [false, true, true]);
    }
}
