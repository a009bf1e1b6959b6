//! Events of a restore: the newest part of the third version.

use dalsegno_core::{CommitId, Event, IssueId, Timestamp};

/// Each with the shapes that it has.
pub(crate) fn restored() -> Vec<Event> {
    let issue = || IssueId::from("i1");
    vec![
        Event::JournalRestored {
            epoch: 1_000_001,
            journal: "0123456789abcdef0123456789abcdef".to_owned(),
            backup_at: Timestamp(1_790_000_000_123),
            skipped: 1_000_000,
        },
        Event::RestoreProbed { issue: issue(), tip: None, found: None },
        Event::RestoreProbed {
            issue: issue(),
            tip: Some(CommitId::from("c0ff")),
            found: Some("its branch is at c0ff, and the backup knows of no push".to_owned()),
        },
    ]
}
