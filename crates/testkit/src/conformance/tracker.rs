//! What every tracker must do: Symphony §11, §17.3, and the port `dalsegno_engine::Tracker`.
//!
//! An implementation gives a [`TrackerFixture`] and calls [`tracker_conformance!`](crate::tracker_conformance) in its tests.
#![allow(clippy::unwrap_used, reason = "a conformance suite fails by panicking")]

use std::sync::Arc;

use async_trait::async_trait;
use dalsegno_core::{Issue, IssueId};
use dalsegno_engine::Tracker;

/// A tracker with its other side: what people do to issues.
#[async_trait]
pub trait TrackerFixture: Send + Sync {
    /// The tracker under test; always the same one.
    fn tracker(&self) -> Arc<dyn Tracker>;
    /// A second tracker on the same issues that remembers nothing, as after a restart.
    fn reopened(&self) -> Arc<dyn Tracker>;
    /// Makes the issue, or replaces it by this.
    async fn put(&self, seed: &Seed);
    /// Takes the issue out of the tracker's scope.
    async fn remove(&self, identifier: &str);
    /// Leaves the issue in place, malformed.
    async fn damage(&self, identifier: &str);
    /// Makes every request to the provider fail in transport.
    async fn cut(&self);
    /// Ends [`TrackerFixture::cut`].
    async fn mend(&self);
    /// Bodies of the issue's comments as people see them, oldest first.
    async fn comments(&self, identifier: &str) -> Vec<String>;
    /// Three active states, as the tracker spells them.
    fn active_states(&self) -> [String; 3];
    /// Two terminal states, as the tracker spells them.
    fn terminal_states(&self) -> [String; 2];
}

/// What people put into a tracker; fields as they would type them.
#[derive(Debug, Clone, Default)]
pub struct Seed {
    /// What people call it.
    pub identifier: String,
    /// Its id where the fixture can choose one.
    pub id: Option<String>,
    /// One line.
    pub title: String,
    /// State, as the tracker spells it.
    pub state: String,
    /// The body.
    pub description: String,
    /// Priority as text; may be unusable.
    pub priority: String,
    /// Labels as typed.
    pub labels: Vec<String>,
    /// Identifiers of blocking issues.
    pub blocked_by: Vec<String>,
    /// Identifier of the parent.
    pub parent: Option<String>,
    /// RFC 3339, or something unusable.
    pub created_at: String,
    /// Who works on it.
    pub assignee: Option<String>,
}

impl Seed {
    /// An issue with a title and a state.
    #[must_use]
    pub fn new(identifier: &str, state: &str) -> Self {
        Self {
            identifier: identifier.to_owned(),
            title: format!("Title of {identifier}"),
            state: state.to_owned(),
            ..Self::default()
        }
    }
}

/// Runs every case on a fixture of its own: `tracker_conformance!(async_expression_that_makes_one)`.
#[macro_export]
macro_rules! tracker_conformance {
    ($make:expr) => {
        $crate::tracker_conformance!(@cases $make,
            empty_inputs_ask_nothing,
            fetches_by_state_ignoring_case,
            many_issues_come_whole,
            labels_are_normalised,
            optional_fields_fall_back,
            required_fields_are_there,
            refresh_by_id_answers_full_snapshots,
            unknown_ids_are_left_out,
            ids_are_stable_over_a_restart,
            malformed_records_are_omitted_from_lists_and_fail_refreshes,
            blockers_make_an_issue_undispatchable,
            open_children_make_a_parent_undispatchable,
            transitions_are_seen_and_keep_the_spelling,
            transitions_obey_unless,
            comments_are_idempotent_by_marker,
            issues_are_made_once_by_marker,
            comments_cannot_forge_markers,
            comments_stay_out_of_the_description,
            writes_to_unknown_issues_fail,
            transport_failures_are_retryable_and_categorised,
        );
    };
    (@cases $make:expr, $($case:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $case() {
                let fixture = $make;
                $crate::conformance::tracker::$case(&fixture).await;
            }
        )+
    };
}

async fn one(fixture: &dyn TrackerFixture, identifier: &str) -> Issue {
    let mut states = fixture.active_states().to_vec();
    states.extend(fixture.terminal_states());
    let issues = fixture.tracker().fetch_issues_by_states(&states).await.unwrap();
    issues.into_iter().find(|issue| issue.identifier == identifier).unwrap()
}

async fn identifiers(tracker: &dyn Tracker, states: &[String]) -> Vec<String> {
    let mut found: Vec<_> =
        tracker.fetch_issues_by_states(states).await.unwrap().into_iter().map(|issue| issue.identifier).collect();
    found.sort();
    found
}

/// §17.3: empty lists answer empty without a provider call; the provider is out of reach here.
pub async fn empty_inputs_ask_nothing(fixture: &dyn TrackerFixture) {
    fixture.cut().await;
    assert_eq!(fixture.tracker().fetch_issues_by_states(&[]).await.unwrap(), vec![]);
    assert_eq!(fixture.tracker().fetch_issues_by_ids(&[]).await.unwrap(), vec![]);
}

/// §17.3, §4.2: state names compare trimmed and lowercased; other states stay out; spelling is kept.
pub async fn fetches_by_state_ignoring_case(fixture: &dyn TrackerFixture) {
    let [first, second, _] = fixture.active_states();
    let [done, _] = fixture.terminal_states();
    for (name, state) in [("DS-1", &first), ("DS-2", &second), ("DS-3", &done)] {
        fixture.put(&Seed::new(name, state)).await;
    }
    let tracker = fixture.tracker();
    let asked = format!("  {} ", first.to_uppercase());
    assert_eq!(identifiers(&*tracker, &[asked]).await, ["DS-1"]);
    assert_eq!(identifiers(&*tracker, &[first.clone(), second]).await, ["DS-1", "DS-2"]);
    assert_eq!(identifiers(&*tracker, &[done]).await, ["DS-3"]);
    assert_eq!(identifiers(&*tracker, &["No Such State".to_owned()]).await, Vec::<String>::new());
    assert_eq!(one(fixture, "DS-1").await.state, first);
}

/// §17.3: paging loses nothing and repeats nothing.
pub async fn many_issues_come_whole(fixture: &dyn TrackerFixture) {
    let [state, ..] = fixture.active_states();
    for number in 1..=230 {
        fixture.put(&Seed::new(&format!("DS-{number}"), &state)).await;
    }
    let mut found = identifiers(&*fixture.tracker(), &[state]).await;
    assert_eq!(found.len(), 230);
    found.dedup();
    assert_eq!(found.len(), 230);
}

/// §11.3: labels are trimmed and lowercase, blank ones and repeats are dropped.
pub async fn labels_are_normalised(fixture: &dyn TrackerFixture) {
    let [state, ..] = fixture.active_states();
    let labels = ["  Bug ", "bug", "URGENT", " "].map(str::to_owned).to_vec();
    fixture.put(&Seed { labels, ..Seed::new("DS-1", &state) }).await;
    let mut labels = one(fixture, "DS-1").await.labels;
    labels.sort();
    assert_eq!(labels, ["bug", "urgent"]);
}

/// §17.3: unusable optional metadata becomes null or empty and hides nothing else.
pub async fn optional_fields_fall_back(fixture: &dyn TrackerFixture) {
    let [state, ..] = fixture.active_states();
    let bad = Seed { priority: "very".to_owned(), created_at: "yesterday".to_owned(), ..Seed::new("DS-1", &state) };
    fixture.put(&bad).await;
    let issue = one(fixture, "DS-1").await;
    assert_eq!((issue.priority, issue.created_at), (None, None));
    assert_eq!((issue.description, issue.assignee_id, issue.parent), (None, None, None));
    assert_eq!(issue.labels, Vec::<String>::new());
    assert_eq!(issue.blocked_by, vec![]);
    let good = Seed { priority: "2".to_owned(), created_at: "2026-01-02T03:04:05+02:00".to_owned(), ..bad };
    fixture.put(&good).await;
    let issue = one(fixture, "DS-1").await;
    assert_eq!(issue.priority, Some(2));
    assert_eq!(issue.created_at.unwrap().0, 1_767_315_845_000);
}

/// §11.3: required fields are there and not empty; `dispatchable` is explicit.
pub async fn required_fields_are_there(fixture: &dyn TrackerFixture) {
    let [state, ..] = fixture.active_states();
    let description = "First line.\n\nSecond.".to_owned();
    fixture.put(&Seed { description: description.clone(), ..Seed::new("DS-1", &state) }).await;
    let issue = one(fixture, "DS-1").await;
    assert!(!issue.id.as_str().is_empty());
    assert_eq!(issue.title, "Title of DS-1");
    assert_eq!(issue.description, Some(description));
    assert!(issue.dispatchable);
    assert_eq!(issue.undispatchable_reason, None);
    assert!(issue.native_ref.is_none_or(|native| native.is_object()));
}

/// §17.3: a refresh by id is a full snapshot; ids are a set; each comes once.
pub async fn refresh_by_id_answers_full_snapshots(fixture: &dyn TrackerFixture) {
    let [first, second, _] = fixture.active_states();
    let labels = vec!["bug".to_owned()];
    fixture.put(&Seed { labels, ..Seed::new("DS-1", &first) }).await;
    let before = one(fixture, "DS-1").await;
    fixture.put(&Seed { id: Some(before.id.0.clone()), ..Seed::new("DS-1", &second) }).await;
    let twice = [before.id.clone(), before.id.clone()];
    let found = fixture.tracker().fetch_issues_by_ids(&twice).await.unwrap();
    let [after] = found.as_slice() else { panic!("{} snapshots for one id", found.len()) };
    assert_eq!((&after.id, after.state.as_str(), after.labels.len()), (&before.id, second.as_str(), 0));
}

/// §11.1: ids that are not visible any more are left out, whatever their state was.
pub async fn unknown_ids_are_left_out(fixture: &dyn TrackerFixture) {
    let [state, ..] = fixture.active_states();
    fixture.put(&Seed::new("DS-1", &state)).await;
    fixture.put(&Seed::new("DS-2", &state)).await;
    let (one_id, two_id) = (one(fixture, "DS-1").await.id, one(fixture, "DS-2").await.id);
    fixture.remove("DS-2").await;
    let asked = [one_id.clone(), two_id, IssueId::from("no such id")];
    let found = fixture.tracker().fetch_issues_by_ids(&asked).await.unwrap();
    assert_eq!(found.into_iter().map(|issue| issue.id).collect::<Vec<_>>(), [one_id]);
}

/// The identity of an issue survives a restart of the daemon.
pub async fn ids_are_stable_over_a_restart(fixture: &dyn TrackerFixture) {
    let [state, ..] = fixture.active_states();
    fixture.put(&Seed { id: Some("kept".to_owned()), ..Seed::new("DS-1", &state) }).await;
    let before = one(fixture, "DS-1").await;
    let reopened = fixture.reopened();
    reopened.remember(&[(before.id.clone(), before.identifier.clone())]);
    let after = reopened.fetch_issues_by_ids(std::slice::from_ref(&before.id)).await.unwrap();
    assert_eq!(after, [before]);
}

/// §11.1, §17.3: a malformed record is left out of lists, and fails the refresh that asks for it.
pub async fn malformed_records_are_omitted_from_lists_and_fail_refreshes(fixture: &dyn TrackerFixture) {
    let [state, ..] = fixture.active_states();
    fixture.put(&Seed::new("DS-1", &state)).await;
    fixture.put(&Seed::new("DS-2", &state)).await;
    let (fine, bad) = (one(fixture, "DS-1").await.id, one(fixture, "DS-2").await.id);
    fixture.damage("DS-2").await;
    let tracker = fixture.tracker();
    assert_eq!(identifiers(&*tracker, &[state]).await, ["DS-1"]);
    let failure = tracker.fetch_issues_by_ids(&[fine.clone(), bad]).await.unwrap_err();
    assert_eq!(failure.code, "tracker_response");
    assert!(failure.hint.is_some());
    assert_eq!(tracker.fetch_issues_by_ids(&[fine]).await.unwrap().len(), 1, "others are not held up");
}

/// §17.3: blockers become an explicit verdict, with a reason, until they are terminal.
pub async fn blockers_make_an_issue_undispatchable(fixture: &dyn TrackerFixture) {
    let [state, ..] = fixture.active_states();
    let [done, _] = fixture.terminal_states();
    let blocked_by = vec!["DS-1".to_owned()];
    fixture.put(&Seed::new("DS-1", &state)).await;
    fixture.put(&Seed { blocked_by, ..Seed::new("DS-2", &state) }).await;
    let issue = one(fixture, "DS-2").await;
    assert!(!issue.dispatchable);
    assert!(issue.undispatchable_reason.unwrap().contains("DS-1"));
    let [blocker] = issue.blocked_by.as_slice() else { panic!("one blocker") };
    assert_eq!((blocker.identifier.as_deref(), blocker.state.as_deref()), (Some("DS-1"), Some(state.as_str())));
    assert!(blocker.id.is_some());
    fixture.put(&Seed::new("DS-1", &done)).await;
    let issue = one(fixture, "DS-2").await;
    assert!(issue.dispatchable, "{:?}", issue.undispatchable_reason);
}

/// Children before parents, where the tracker has a hierarchy.
pub async fn open_children_make_a_parent_undispatchable(fixture: &dyn TrackerFixture) {
    let [state, ..] = fixture.active_states();
    let [done, _] = fixture.terminal_states();
    let parent = Some("DS-1".to_owned());
    fixture.put(&Seed::new("DS-1", &state)).await;
    fixture.put(&Seed { parent: parent.clone(), ..Seed::new("DS-2", &state) }).await;
    let issue = one(fixture, "DS-1").await;
    assert!(!issue.dispatchable);
    assert!(issue.undispatchable_reason.unwrap().contains("DS-2"));
    assert!(one(fixture, "DS-2").await.dispatchable);
    fixture.put(&Seed { parent, ..Seed::new("DS-2", &done) }).await;
    assert!(one(fixture, "DS-1").await.dispatchable);
}

/// A move is seen by the next fetch; a state that is already there keeps its spelling.
pub async fn transitions_are_seen_and_keep_the_spelling(fixture: &dyn TrackerFixture) {
    let [first, second, _] = fixture.active_states();
    fixture.put(&Seed::new("DS-1", &first)).await;
    let id = one(fixture, "DS-1").await.id;
    let tracker = fixture.tracker();
    assert_eq!(tracker.transition(&id, &second, &[]).await.unwrap(), second);
    assert_eq!(one(fixture, "DS-1").await.state, second);
    assert_eq!(tracker.transition(&id, &second.to_uppercase(), &[]).await.unwrap(), second);
    assert_eq!(one(fixture, "DS-1").await.state, second);
    assert_eq!(one(fixture, "DS-1").await.id, id);
}

/// A state that somebody else chose is not overwritten.
pub async fn transitions_obey_unless(fixture: &dyn TrackerFixture) {
    let [first, ..] = fixture.active_states();
    let [done, _] = fixture.terminal_states();
    fixture.put(&Seed::new("DS-1", &done)).await;
    let id = one(fixture, "DS-1").await.id;
    let unless = [done.to_lowercase()];
    assert_eq!(fixture.tracker().transition(&id, &first, &unless).await.unwrap(), done);
    assert_eq!(one(fixture, "DS-1").await.state, done);
}

/// A comment with the same marker is written once, also after a restart.
pub async fn comments_are_idempotent_by_marker(fixture: &dyn TrackerFixture) {
    let [state, ..] = fixture.active_states();
    fixture.put(&Seed { id: Some("kept".to_owned()), ..Seed::new("DS-1", &state) }).await;
    let id = one(fixture, "DS-1").await.id;
    let tracker = fixture.tracker();
    let odd = "a marker -- with <odd> text";
    for marker in ["run-1/comment", odd] {
        assert!(!tracker.has_comment(&id, marker).await.unwrap());
        tracker.comment(&id, &format!("Body for {marker}."), marker).await.unwrap();
        assert!(tracker.has_comment(&id, marker).await.unwrap());
        tracker.comment(&id, "Another body.", marker).await.unwrap();
        let reopened = fixture.reopened();
        reopened.comment(&id, "Another body.", marker).await.unwrap();
        assert!(reopened.has_comment(&id, marker).await.unwrap());
    }
    let bodies = fixture.comments("DS-1").await;
    assert_eq!(bodies.len(), 2, "{bodies:?}");
    assert!(bodies.iter().any(|body| body.contains("Body for run-1/comment.")));
    assert!(!tracker.has_comment(&id, "run-1").await.unwrap());
}

/// An issue with the same marker is made once, also after a restart, and is an issue like any other.
pub async fn issues_are_made_once_by_marker(fixture: &dyn TrackerFixture) {
    let [state, ..] = fixture.active_states();
    let tracker = fixture.tracker();
    let made = tracker.create("What follows", "More of it.", "issue/1/act-1").await.unwrap();
    let other = tracker.create("What follows", "More of it.", "issue/1/act-2").await.unwrap();
    assert_ne!(made, other);
    assert_eq!(tracker.create("What follows", "Again.", "issue/1/act-1").await.unwrap(), made);
    assert_eq!(fixture.reopened().create("What follows", "Again.", "issue/1/act-1").await.unwrap(), made);
    let issue = one(fixture, &made).await;
    assert_eq!((issue.title.as_str(), issue.state.as_str()), ("What follows", state.as_str()));
    assert!(issue.description.unwrap().contains("More of it."));
    assert_eq!(tracker.fetch_issues_by_states(&[state]).await.unwrap().len(), 2);
}

/// Text of a comment that looks like a marker is none.
pub async fn comments_cannot_forge_markers(fixture: &dyn TrackerFixture) {
    let [state, ..] = fixture.active_states();
    fixture.put(&Seed::new("DS-1", &state)).await;
    let id = one(fixture, "DS-1").await.id;
    let tracker = fixture.tracker();
    let body = "Look:\n<!-- dalsegno:forged -->\n<!--Dalsegno:forged -->\n### 2026 · me\n<!-- dalsegno:forged -->\nend";
    tracker.comment(&id, body, "real").await.unwrap();
    assert!(tracker.has_comment(&id, "real").await.unwrap());
    assert!(!tracker.has_comment(&id, "forged").await.unwrap());
    assert_eq!(fixture.comments("DS-1").await.len(), 1);
}

/// Comments never become part of the description: our own would make an issue look changed by somebody else.
pub async fn comments_stay_out_of_the_description(fixture: &dyn TrackerFixture) {
    let [state, ..] = fixture.active_states();
    for (name, description) in [
        ("DS-1", ""),
        ("DS-2", "Text."),
        ("DS-3", "A fence:\n```\n## Comments\nnot yet\n```\nafter"),
        ("DS-4", "A fence that is never closed:\n```sh\ntrue"),
    ] {
        fixture.put(&Seed { description: description.to_owned(), ..Seed::new(name, &state) }).await;
        let before = one(fixture, name).await;
        fixture.tracker().comment(&before.id, "One\n```\nfenced\n```", "m1").await.unwrap();
        fixture.tracker().comment(&before.id, "## Comments\nTwo", "m2").await.unwrap();
        let after = one(fixture, name).await;
        assert_eq!(after.description, before.description, "{name}");
        assert_eq!(after.fingerprint(), before.fingerprint(), "{name}");
        assert!(fixture.tracker().has_comment(&before.id, "m2").await.unwrap(), "{name}");
        assert_eq!(fixture.comments(name).await.len(), 2, "{name}");
    }
}

/// Writes to an issue that is not there fail, and make none.
pub async fn writes_to_unknown_issues_fail(fixture: &dyn TrackerFixture) {
    let [state, ..] = fixture.active_states();
    let tracker = fixture.tracker();
    let id = IssueId::from("nobody");
    assert_eq!(tracker.comment(&id, "x", "m").await.unwrap_err().code, "tracker_status");
    assert_eq!(tracker.transition(&id, &state, &[]).await.unwrap_err().code, "tracker_status");
    assert!(tracker.has_comment(&id, "m").await.is_err());
    assert_eq!(identifiers(&*tracker, &[state]).await, Vec::<String>::new());
}

/// §11.4: transport failures have their category, may be tried again, and pass.
pub async fn transport_failures_are_retryable_and_categorised(fixture: &dyn TrackerFixture) {
    let [state, ..] = fixture.active_states();
    fixture.put(&Seed::new("DS-1", &state)).await;
    let id = one(fixture, "DS-1").await.id;
    let tracker = fixture.tracker();
    fixture.cut().await;
    let failures = [
        tracker.fetch_issues_by_states(std::slice::from_ref(&state)).await.unwrap_err(),
        tracker.fetch_issues_by_ids(std::slice::from_ref(&id)).await.unwrap_err(),
        tracker.comment(&id, "x", "m").await.unwrap_err(),
        tracker.transition(&id, &state, &[]).await.unwrap_err(),
    ];
    for failure in failures {
        assert_eq!((failure.code.as_str(), failure.retryable), ("tracker_request", true), "{failure}");
        assert!(failure.hint.is_some(), "{failure}");
    }
    fixture.mend().await;
    assert_eq!(tracker.fetch_issues_by_ids(&[id]).await.unwrap().len(), 1);
}
