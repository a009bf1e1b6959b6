//! What every forge must do: the port `dalsegno_engine::Forge`, with what can go wrong on the way.
//!
//! An implementation gives a [`ForgeFixture`] and calls [`forge_conformance!`](crate::forge_conformance) in its tests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a conformance suite fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::Failure;
use dalsegno_engine::{Draft, Forge, ForgeError, Pull, PullState};

use crate::doubles::ForgeCall;
use crate::forge::{Lie, Opened, STRANGER, StoredPull};

/// A forge with its other side: what people do to pull requests, and what goes wrong. Its repository has the default branch `main`.
pub trait ForgeFixture: Send + Sync {
    /// The forge under test, empty at first; always the same one.
    fn forge(&self) -> Arc<dyn Forge>;
    /// The same one, whose calls give up after at most a few seconds.
    fn impatient(&self) -> Arc<dyn Forge>;
    /// All pull requests as people see them, oldest first.
    fn pulls(&self) -> Vec<StoredPull>;
    /// Somebody opens a pull request. Answers its number.
    fn open(&self, opened: &Opened) -> u64;
    /// Somebody closes it.
    fn close(&self, number: u64);
    /// Somebody merges it.
    fn merge(&self, number: u64);
    /// What the next call of this kind asks for gets this lie.
    fn lie(&self, call: ForgeCall, lie: Lie);
}

/// Runs every case on a fixture of its own: `forge_conformance!(expression_that_makes_one)`.
#[macro_export]
macro_rules! forge_conformance {
    ($make:expr) => {
        $crate::forge_conformance!(@cases $make,
            a_draft_is_ours_and_is_found,
            it_goes_into_the_base_that_was_said,
            it_is_found_in_every_state,
            it_is_not_found_by_another_marker_or_head,
            a_copied_marker_makes_nothing_ours,
            it_is_found_among_many,
            the_newest_is_found,
            a_second_open_is_refused,
            ready_is_ready_however_often,
            ready_is_refused,
            closed_is_closed_however_often,
            close_is_refused,
            there_is_nothing_under_an_unknown_number,
            done_and_unanswered_is_unknown,
            answered_and_undone_is_unknown,
            broken_answers_are_never_taken_for_a_refusal,
            errors_of_the_server_leave_writes_unknown,
            limits_are_waited_for_by_the_caller,
            moved_is_neither_done_nor_absent,
            too_slow_is_unknown,
            nonsense_is_an_error_and_not_an_absence,
            markers_cannot_be_forged,
            long_texts_are_cut_and_keep_their_marker,
        );
    };
    (@cases $make:expr, $($case:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $case() {
                let fixture = $make;
                $crate::conformance::forge::$case(&fixture).await;
            }
        )+
    };
}

/// With letters that mean something in URLs.
const HEAD: &str = "work/DS-1#a&b=c";
const MARKER: &str = "0123456789abcdef";
/// Longer than any impatient call.
const SLOW: Duration = Duration::from_secs(60);

fn draft() -> Draft {
    Draft {
        head: HEAD.to_owned(),
        base: Some("main".to_owned()),
        title: "DS-1: Make it work".to_owned(),
        body: "What was done.\n\n- One thing".to_owned(),
        marker: MARKER.to_owned(),
    }
}

async fn opened(fixture: &dyn ForgeFixture) -> u64 {
    fixture.forge().open_draft(&draft()).await.unwrap().id.number
}

fn theirs(body: &str) -> Opened {
    Opened { author: STRANGER, head: HEAD.to_owned(), fork: false, body: body.to_owned(), draft: true }
}

fn marker_line(marker: &str) -> String {
    format!("<!-- dalsegno:{marker} -->")
}

fn seen(fixture: &dyn ForgeFixture, number: u64) -> StoredPull {
    fixture.pulls().into_iter().find(|pull| pull.number == number).unwrap()
}

async fn look(fixture: &dyn ForgeFixture, number: u64) -> Pull {
    fixture.forge().look(number).await.unwrap().unwrap()
}

async fn find(fixture: &dyn ForgeFixture) -> Option<Pull> {
    fixture.forge().find(HEAD, MARKER).await.unwrap()
}

#[track_caller]
fn not_applied<T: std::fmt::Debug>(result: Result<T, ForgeError>, code: &str) -> Failure {
    match result {
        Err(ForgeError::NotApplied(failure)) => {
            assert_eq!(failure.code, code, "{failure}");
            assert!(failure.hint.is_some(), "no remedy: {failure}");
            failure
        }
        other => panic!("instead of not applied with {code}: {other:?}"),
    }
}

#[track_caller]
fn unknown<T: std::fmt::Debug>(result: Result<T, ForgeError>, codes: &[&str]) {
    match result {
        Err(ForgeError::Unknown(failure)) => {
            assert!(codes.contains(&failure.code.as_str()), "{failure}");
            assert!(failure.hint.is_some(), "no remedy: {failure}");
        }
        other => panic!("instead of unknown: {other:?}"),
    }
}

const NO_ANSWER: &[&str] = &["forge_no_answer", "forge_response"];
const RESPONSE: &[&str] = &["forge_response"];

/// What is opened is a draft of ours, as it was asked for, and found again.
pub async fn a_draft_is_ours_and_is_found(fixture: &dyn ForgeFixture) {
    let made = fixture.forge().open_draft(&draft()).await.unwrap();
    assert_eq!((made.state, made.ours, made.head.as_deref()), (PullState::Draft, true, Some(HEAD)));
    assert!(made.id.url.contains(&made.id.number.to_string()));
    let seen = seen(fixture, made.id.number);
    assert_eq!((seen.title.as_str(), seen.draft, seen.open), ("DS-1: Make it work", true, true));
    assert_eq!(seen.body, format!("What was done.\n\n- One thing\n\n{}", marker_line(MARKER)));
    assert_eq!(find(fixture).await.as_ref(), Some(&made));
    assert_eq!(look(fixture, made.id.number).await, made);
}

/// Without a base it is the repository's default branch.
pub async fn it_goes_into_the_base_that_was_said(fixture: &dyn ForgeFixture) {
    for (base, into) in [(None, "main"), (Some("release/1".to_owned()), "release/1")] {
        let made = fixture.forge().open_draft(&Draft { base, ..draft() }).await.unwrap();
        assert_eq!(seen(fixture, made.id.number).base, into);
    }
}

/// Whatever people did to it, it is found.
pub async fn it_is_found_in_every_state(fixture: &dyn ForgeFixture) {
    let number = opened(fixture).await;
    fixture.forge().mark_ready(number).await.unwrap();
    assert_eq!(find(fixture).await.unwrap().state, PullState::Open);
    fixture.close(number);
    assert_eq!(find(fixture).await.unwrap().state, PullState::Closed);
    let number = opened(fixture).await;
    fixture.merge(number);
    let found = find(fixture).await.unwrap();
    assert_eq!((found.id.number, found.state), (number, PullState::Merged));
}

/// Head and marker must both fit, and wholly.
pub async fn it_is_not_found_by_another_marker_or_head(fixture: &dyn ForgeFixture) {
    opened(fixture).await;
    let forge = fixture.forge();
    for (head, marker) in [
        (HEAD, "0123456789abcde"),
        (HEAD, "fedcba"),
        (HEAD, ""),
        ("work/DS-1", MARKER),
        ("work/DS-1#a", MARKER),
        ("work/ds-1#a&b=c", MARKER),
    ] {
        assert_eq!(forge.find(head, marker).await.unwrap(), None, "{head} {marker}");
    }
}

/// Somebody who copies the marker from our pull request has not made one of ours.
pub async fn a_copied_marker_makes_nothing_ours(fixture: &dyn ForgeFixture) {
    let copied = format!("What was done.\n\n{}", marker_line(MARKER));
    let here = fixture.open(&theirs(&copied));
    let fork = fixture.open(&Opened { fork: true, ..theirs(&copied) });
    assert_eq!(find(fixture).await, None);
    let found = look(fixture, here).await;
    assert_eq!((found.ours, found.head.as_deref(), found.state), (false, Some(HEAD), PullState::Draft));
    let found = look(fixture, fork).await;
    assert_eq!((found.ours, found.head), (false, None));
    fixture.close(here);
    let number = opened(fixture).await;
    let later = fixture.open(&theirs(&copied));
    assert!(later > number);
    assert_eq!(find(fixture).await.unwrap().id.number, number);
}

/// Paging loses nothing: many were opened for the same branch since.
pub async fn it_is_found_among_many(fixture: &dyn ForgeFixture) {
    let number = opened(fixture).await;
    fixture.close(number);
    for _ in 0..230 {
        let other = fixture.open(&theirs("Another try."));
        fixture.close(other);
    }
    assert_eq!(find(fixture).await.unwrap().id.number, number);
    assert_eq!(fixture.forge().find(HEAD, "feed").await.unwrap(), None);
}

/// Of several with one marker the newest counts.
pub async fn the_newest_is_found(fixture: &dyn ForgeFixture) {
    let first = opened(fixture).await;
    fixture.close(first);
    let second = opened(fixture).await;
    assert_ne!(first, second);
    assert_eq!(find(fixture).await.unwrap().id.number, second);
}

/// One pull request for a head and a base can be open.
pub async fn a_second_open_is_refused(fixture: &dyn ForgeFixture) {
    opened(fixture).await;
    let again = Draft { marker: "beef".to_owned(), ..draft() };
    let failure = not_applied(fixture.forge().open_draft(&again).await, "pull_request_exists");
    assert!(!failure.retryable && failure.message.contains(HEAD), "{failure}");
    assert_eq!(fixture.pulls().len(), 1);
}

/// Ready once and for all; what is merged stays as it is.
pub async fn ready_is_ready_however_often(fixture: &dyn ForgeFixture) {
    let number = opened(fixture).await;
    for _ in 0..2 {
        let ready = fixture.forge().mark_ready(number).await.unwrap();
        assert_eq!((ready.id.number, ready.state), (number, PullState::Open));
        assert!(!seen(fixture, number).draft);
    }
    fixture.merge(number);
    assert_eq!(fixture.forge().mark_ready(number).await.unwrap().state, PullState::Merged);
}

/// Only an open one of ours gets ready.
pub async fn ready_is_refused(fixture: &dyn ForgeFixture) {
    let forge = fixture.forge();
    not_applied(forge.mark_ready(7_000).await, "forge_not_found");
    let stranger = fixture.open(&theirs(&marker_line(MARKER)));
    not_applied(forge.mark_ready(stranger).await, "pull_request_not_ours");
    assert!(seen(fixture, stranger).draft);
    fixture.close(stranger);
    let number = opened(fixture).await;
    fixture.close(number);
    not_applied(forge.mark_ready(number).await, "pull_request_closed");
    assert!(seen(fixture, number).draft);
}

/// Closed once and for all, and content with what is not there.
pub async fn closed_is_closed_however_often(fixture: &dyn ForgeFixture) {
    let number = opened(fixture).await;
    for _ in 0..2 {
        fixture.forge().close(number).await.unwrap();
        assert_eq!(look(fixture, number).await.state, PullState::Closed);
        assert!(!seen(fixture, number).open);
    }
    fixture.forge().close(7_000).await.unwrap();
}

/// What is merged cannot be closed, and what is somebody else's is not.
pub async fn close_is_refused(fixture: &dyn ForgeFixture) {
    let forge = fixture.forge();
    let stranger = fixture.open(&theirs(&marker_line(MARKER)));
    not_applied(forge.close(stranger).await, "pull_request_not_ours");
    assert!(seen(fixture, stranger).open);
    fixture.close(stranger);
    let number = opened(fixture).await;
    fixture.merge(number);
    not_applied(forge.close(number).await, "pull_request_merged");
}

/// Nothing is nothing, and no error.
pub async fn there_is_nothing_under_an_unknown_number(fixture: &dyn ForgeFixture) {
    assert_eq!(fixture.forge().look(7_000).await.unwrap(), None);
    assert_eq!(find(fixture).await, None);
}

/// The forge did it, and its answer was lost: nobody knows, until somebody looks.
pub async fn done_and_unanswered_is_unknown(fixture: &dyn ForgeFixture) {
    let forge = fixture.forge();
    for lie in [Lie::DoneUnanswered, Lie::DoneStatus(502), Lie::DoneStatus(504)] {
        fixture.lie(ForgeCall::Open, lie);
        unknown(forge.open_draft(&draft()).await, NO_ANSWER);
        let number = find(fixture).await.unwrap().id.number;
        fixture.lie(ForgeCall::Ready, lie);
        unknown(forge.mark_ready(number).await, NO_ANSWER);
        assert_eq!(look(fixture, number).await.state, PullState::Open, "{lie:?}");
        fixture.lie(ForgeCall::Close, lie);
        unknown(forge.close(number).await, NO_ANSWER);
        assert_eq!(look(fixture, number).await.state, PullState::Closed, "{lie:?}");
    }
}

/// The forge says that it did it, and did not: that is seen, and looked up.
pub async fn answered_and_undone_is_unknown(fixture: &dyn ForgeFixture) {
    let forge = fixture.forge();
    fixture.lie(ForgeCall::Open, Lie::AnsweredUndone);
    unknown(forge.open_draft(&draft()).await, RESPONSE);
    assert_eq!(find(fixture).await, None);
    assert_eq!(fixture.pulls(), []);
    let number = opened(fixture).await;
    fixture.lie(ForgeCall::Ready, Lie::AnsweredUndone);
    unknown(forge.mark_ready(number).await, RESPONSE);
    assert_eq!(look(fixture, number).await.state, PullState::Draft);
    fixture.lie(ForgeCall::Close, Lie::AnsweredUndone);
    unknown(forge.close(number).await, RESPONSE);
    assert_eq!(look(fixture, number).await.state, PullState::Draft);
}

/// Done, and an answer that cannot be read: either unknown, or seen to be done; never "not applied".
pub async fn broken_answers_are_never_taken_for_a_refusal(fixture: &dyn ForgeFixture) {
    let forge = fixture.forge();
    for lie in [Lie::Cut, Lie::Garbage, Lie::OtherJson] {
        fixture.lie(ForgeCall::Open, lie);
        unknown(forge.open_draft(&draft()).await, NO_ANSWER);
        let number = find(fixture).await.unwrap().id.number;
        fixture.lie(ForgeCall::Ready, lie);
        let ready = forge.mark_ready(number).await;
        assert!(!matches!(ready, Err(ForgeError::NotApplied(_))), "{lie:?}: {ready:?}");
        assert_eq!(look(fixture, number).await.state, PullState::Open, "{lie:?}");
        fixture.lie(ForgeCall::Close, lie);
        let closed = forge.close(number).await;
        assert!(!matches!(closed, Err(ForgeError::NotApplied(_))), "{lie:?}: {closed:?}");
        assert_eq!(look(fixture, number).await.state, PullState::Closed, "{lie:?}");
    }
}

/// 5xx: a write may be done or not, and a look has not seen anything.
pub async fn errors_of_the_server_leave_writes_unknown(fixture: &dyn ForgeFixture) {
    let forge = fixture.forge();
    let number = opened(fixture).await;
    for status in [500, 502, 503] {
        let lie = Lie::Status(status);
        fixture.lie(ForgeCall::Open, lie);
        let another = Draft { head: "work/DS-2".to_owned(), ..draft() };
        unknown(forge.open_draft(&another).await, NO_ANSWER);
        fixture.lie(ForgeCall::Ready, lie);
        unknown(forge.mark_ready(number).await, NO_ANSWER);
        fixture.lie(ForgeCall::Close, lie);
        unknown(forge.close(number).await, NO_ANSWER);
        fixture.lie(ForgeCall::Find, lie);
        assert!(forge.find(HEAD, MARKER).await.unwrap_err().retryable, "{status}");
        fixture.lie(ForgeCall::Look, lie);
        assert!(forge.look(number).await.unwrap_err().retryable, "{status}");
    }
    assert_eq!(fixture.pulls().len(), 1);
    assert_eq!(look(fixture, number).await.state, PullState::Draft);
}

/// Who asks too often is refused before anything is done, and may come again.
pub async fn limits_are_waited_for_by_the_caller(fixture: &dyn ForgeFixture) {
    let forge = fixture.forge();
    let number = opened(fixture).await;
    let another = Draft { head: "work/DS-2".to_owned(), ..draft() };
    for lie in [Lie::TooMany(7), Lie::RateLimited] {
        let code = "forge_rate_limited";
        fixture.lie(ForgeCall::Open, lie);
        assert!(not_applied(forge.open_draft(&another).await, code).retryable);
        fixture.lie(ForgeCall::Ready, lie);
        assert!(not_applied(forge.mark_ready(number).await, code).retryable);
        fixture.lie(ForgeCall::Close, lie);
        assert!(not_applied(forge.close(number).await, code).retryable);
        fixture.lie(ForgeCall::Find, lie);
        let failure = forge.find(HEAD, MARKER).await.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), (code, true), "{failure}");
        fixture.lie(ForgeCall::Look, lie);
        let failure = forge.look(number).await.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), (code, true), "{failure}");
    }
    assert_eq!(fixture.pulls().len(), 1);
    assert_eq!(look(fixture, number).await.state, PullState::Draft);
}

/// The forge names another place: nobody goes there with our token, and nothing was done.
pub async fn moved_is_neither_done_nor_absent(fixture: &dyn ForgeFixture) {
    let forge = fixture.forge();
    fixture.lie(ForgeCall::Open, Lie::Moved);
    not_applied(forge.open_draft(&draft()).await, "forge_refused");
    assert_eq!(fixture.pulls(), []);
    let number = opened(fixture).await;
    fixture.lie(ForgeCall::Find, Lie::Moved);
    assert_eq!(forge.find(HEAD, MARKER).await.unwrap_err().code, "forge_refused");
    fixture.lie(ForgeCall::Look, Lie::Moved);
    assert_eq!(forge.look(number).await.unwrap_err().code, "forge_refused");
}

/// Nobody waits for ever, and what was not waited for may be done.
pub async fn too_slow_is_unknown(fixture: &dyn ForgeFixture) {
    let forge = fixture.impatient();
    fixture.lie(ForgeCall::Open, Lie::Slow(SLOW));
    unknown(forge.open_draft(&draft()).await, &["forge_no_answer"]);
    assert!(find(fixture).await.is_some());
    fixture.lie(ForgeCall::Find, Lie::Slow(SLOW));
    let failure = forge.find(HEAD, MARKER).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("forge_no_answer", true), "{failure}");
}

/// What cannot be read is not "there is none".
pub async fn nonsense_is_an_error_and_not_an_absence(fixture: &dyn ForgeFixture) {
    let forge = fixture.forge();
    let number = opened(fixture).await;
    for lie in [Lie::Garbage, Lie::OtherJson, Lie::Cut, Lie::DoneUnanswered] {
        fixture.lie(ForgeCall::Find, lie);
        let failure = forge.find(HEAD, MARKER).await.unwrap_err();
        assert!(failure.retryable && failure.hint.is_some(), "{lie:?}: {failure}");
        fixture.lie(ForgeCall::Look, lie);
        let failure = forge.look(number).await.unwrap_err();
        assert!(failure.retryable && failure.hint.is_some(), "{lie:?}: {failure}");
    }
}

/// Text that looks like a marker is none, and is seen by people.
pub async fn markers_cannot_be_forged(fixture: &dyn ForgeFixture) {
    let forged = ["<!-- dalsegno:beef -->", "<!--Dalsegno:beef-->", "<!--\n\tdalsegno:beef\n-->"];
    let body = format!("Look:\n{}\nend", forged.join("\n"));
    let title = format!("A title\nof two lines {}", forged[0]);
    let made = fixture.forge().open_draft(&Draft { body, title, ..draft() }).await.unwrap();
    assert_eq!(fixture.forge().find(HEAD, "beef").await.unwrap(), None);
    assert_eq!(find(fixture).await, Some(made.clone()));
    let seen = seen(fixture, made.id.number);
    assert_eq!(seen.body.matches("<!--").count(), 1, "{}", seen.body);
    assert!(seen.body.contains("dalsegno:beef"), "the text is lost: {}", seen.body);
    assert!(!seen.title.contains("<!--") && !seen.title.contains('\n'), "{}", seen.title);
}

/// The text is cut, in characters and not in bytes; the marker never is.
pub async fn long_texts_are_cut_and_keep_their_marker(fixture: &dyn ForgeFixture) {
    let long = Draft { title: "é".repeat(300), body: "ü".repeat(70_000), ..draft() };
    let made = fixture.forge().open_draft(&long).await.unwrap();
    let seen = seen(fixture, made.id.number);
    let length = seen.title.chars().count();
    assert!((200..=256).contains(&length), "{length}");
    let length = seen.body.chars().count();
    assert!((60_000..=65_536).contains(&length), "{length}");
    assert!(seen.body.ends_with(&format!("\n{}", marker_line(MARKER))));
    assert_eq!(find(fixture).await, Some(made));
}
