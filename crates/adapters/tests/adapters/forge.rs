//! GitHub: the conformance suite against a fake with a real port, and what is GitHub's own.

use std::sync::Arc;
use std::time::Duration;

use dalsegno_adapters::forge::LocalForges;
use dalsegno_adapters::workflow::Environment;
use dalsegno_core::{ForgePolicy, HandoffPolicy};
use dalsegno_engine::{Draft, Forge, ForgeError, Forges as _};
use dalsegno_testkit::conformance::forge::ForgeFixture;
use dalsegno_testkit::doubles::ForgeCall;
use dalsegno_testkit::forge::{APP, FakeForge, FakeSetup, Lie, LieFor, OURS, Opened, StoredPull};
use serde_json::{Value, json};

use crate::workspace::{World, git};

const REPOSITORY: &str = "/repos/acme/widgets";

fn env(token: &'static str) -> Environment {
    Arc::new(move |name| (name == "FORGE").then(|| token.to_owned()))
}

fn handoff(provider: Value) -> HandoffPolicy {
    let provider = provider.as_object().unwrap().clone();
    HandoffPolicy { forge: Some(ForgePolicy { kind: "github".to_owned(), provider }), ..HandoffPolicy::default() }
}

/// The fake, and the adapter that speaks with it.
struct Remote {
    _dir: tempfile::TempDir,
    fake: FakeForge,
    forge: Arc<dyn Forge>,
}

impl Remote {
    fn new() -> Self {
        Self::with(|setup| setup, OURS.token, "")
    }

    fn with(change: impl FnOnce(FakeSetup) -> FakeSetup, token: &'static str, below: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeForge::start(change(FakeSetup::new(dir.path()))).unwrap();
        let forge = open(&fake, below, LocalForges::with_environment(env(token)));
        Self { _dir: dir, fake, forge }
    }
}

fn open(fake: &FakeForge, below: &str, forges: LocalForges) -> Arc<dyn Forge> {
    let provider = json!({"token": "$FORGE", "api_url": format!("{}{below}", fake.url())});
    forges.at(&handoff(provider), "git@github.com:acme/widgets.git").unwrap()
}

impl ForgeFixture for Remote {
    fn forge(&self) -> Arc<dyn Forge> {
        Arc::clone(&self.forge)
    }

    fn impatient(&self) -> Arc<dyn Forge> {
        open(&self.fake, "", LocalForges::with_environment(env(OURS.token)).call_limit(Duration::from_secs(2)))
    }

    fn pulls(&self) -> Vec<StoredPull> {
        self.fake.pulls()
    }

    fn open(&self, opened: &Opened) -> u64 {
        self.fake.open(opened).unwrap()
    }

    fn close(&self, number: u64) {
        self.fake.close(number).unwrap();
    }

    fn merge(&self, number: u64) {
        self.fake.merge(number).unwrap();
    }

    fn lie(&self, call: ForgeCall, lie: Lie) {
        let (method, path) = match call {
            ForgeCall::Open => ("POST", format!("{REPOSITORY}/pulls")),
            ForgeCall::Find => ("GET", format!("{REPOSITORY}/pulls")),
            ForgeCall::Look => ("GET", format!("{REPOSITORY}/pulls/*")),
            ForgeCall::Ready => ("POST", "/graphql".to_owned()),
            ForgeCall::Close => ("PATCH", format!("{REPOSITORY}/pulls/*")),
        };
        self.fake.lie(LieFor::next(method, path), lie);
    }
}

mod github {
    use super::Remote;

    dalsegno_testkit::forge_conformance!(Remote::new());
}

fn draft() -> Draft {
    Draft {
        head: "work/one".to_owned(),
        base: None,
        title: "One".to_owned(),
        body: "Text.".to_owned(),
        marker: "abc123".to_owned(),
    }
}

#[tokio::test]
async fn a_token_that_is_not_taken_is_denied_and_not_told() {
    let remote = Remote::with(|setup| setup, "sesame-open", "");
    let Err(ForgeError::NotApplied(failure)) = remote.forge.open_draft(&draft()).await else { panic!("not denied") };
    assert_eq!((failure.code.as_str(), failure.retryable), ("forge_denied", false));
    assert!(!format!("{failure:?}").contains("sesame"), "{failure}");
    assert!(remote.fake.requests().iter().all(|request| request.method == "GET"));
}

#[tokio::test]
async fn an_app_cannot_tell_what_is_its_own_and_writes_nothing() {
    let remote = Remote::with(|setup| setup, APP.token, "");
    let Err(ForgeError::NotApplied(failure)) = remote.forge.open_draft(&draft()).await else { panic!("not denied") };
    assert_eq!(failure.code, "forge_denied");
    assert!(failure.hint.unwrap().contains("GitHub App"));
    assert_eq!(remote.fake.pulls(), []);
}

#[tokio::test]
async fn a_repository_without_drafts_says_what_to_do() {
    let remote = Remote::with(|setup| FakeSetup { drafts: false, ..setup }, OURS.token, "");
    let Err(ForgeError::NotApplied(failure)) = remote.forge.open_draft(&draft()).await else { panic!("not refused") };
    assert_eq!((failure.code.as_str(), failure.retryable), ("forge_refused", false));
    assert!(failure.hint.unwrap().contains("handoff.forge"));
}

#[tokio::test]
async fn a_repository_that_cannot_be_seen_is_no_missing_pull_request() {
    let remote = Remote::with(|setup| FakeSetup { repository: "acme/other".to_owned(), ..setup }, OURS.token, "");
    assert_eq!(remote.forge.look(1).await.unwrap_err().code, "forge_not_found");
    assert!(
        matches!(remote.forge.close(1).await, Err(ForgeError::NotApplied(failure)) if failure.code == "forge_not_found")
    );
}

#[tokio::test]
async fn a_forge_that_is_not_there_was_not_asked() {
    let remote = Remote::new();
    let forges = LocalForges::with_environment(env(OURS.token));
    let provider = json!({"token": "$FORGE", "api_url": "http://127.0.0.1:1"});
    let forge = forges.at(&handoff(provider), "git@github.com:acme/widgets.git").unwrap();
    let Err(ForgeError::NotApplied(failure)) = forge.open_draft(&draft()).await else { panic!("it answers") };
    assert_eq!((failure.code.as_str(), failure.retryable), ("forge_request", true));
    drop(remote);
}

#[tokio::test]
async fn a_server_of_ones_own_has_graphql_beside_rest() {
    let remote = Remote::with(|setup| setup, OURS.token, "/api/v3");
    let made = remote.forge.open_draft(&draft()).await.unwrap();
    remote.forge.mark_ready(made.id.number).await.unwrap();
    assert!(remote.fake.requests().iter().any(|request| request.path == "/api/graphql" && request.changed));
}

#[tokio::test]
async fn who_we_are_is_asked_once() {
    let remote = Remote::new();
    remote.forge.open_draft(&draft()).await.unwrap();
    remote.forge.find("work/one", "abc123").await.unwrap();
    let asked = remote.fake.requests().into_iter().filter(|request| request.path == "/user").count();
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn the_repository_comes_from_the_remote_of_the_handoff() {
    let mut world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeForge::start(FakeSetup::new(dir.path())).unwrap();
    let forges = LocalForges::with_environment(env(OURS.token));
    let policy = |name: &str| HandoffPolicy {
        remote: name.to_owned(),
        ..handoff(json!({"token": "$FORGE", "api_url": fake.url()}))
    };
    world.policy.handoff = Some(policy("origin"));
    let Err(failure) = forges.open(&world.context()).await else { panic!("a path is a repository") };
    assert_eq!(failure.code, "forge_unknown_repository");
    world.policy.handoff = Some(policy("upstream"));
    let Err(failure) = forges.open(&world.context()).await else { panic!("there is no such remote") };
    assert_eq!(failure.code, "remote_not_found");
    git(&world.at("project"), &["remote", "add", "upstream", "https://me:pw@github.com/acme/widgets.git"]);
    let forge = forges.open(&world.context()).await.unwrap();
    assert_eq!(forge.look(1).await.unwrap(), None);
}

#[test]
fn a_policy_is_looked_at_before_it_is_taken() {
    let forges = LocalForges::with_environment(env(OURS.token));
    forges.preflight(&HandoffPolicy::default()).unwrap();
    forges.preflight(&handoff(json!({"token": "$FORGE"}))).unwrap();
    assert_eq!(forges.preflight(&handoff(json!({}))).unwrap_err().code, "missing_forge_secret");
    assert_eq!(forges.preflight(&handoff(json!({"tokn": "$FORGE"}))).unwrap_err().code, "invalid_config");
    let mut other = handoff(json!({"token": "$FORGE"}));
    other.forge.as_mut().unwrap().kind = "gitlab".to_owned();
    assert_eq!(forges.preflight(&other).unwrap_err().code, "invalid_config");
    assert_eq!(forges.secret_environment_names(&handoff(json!({"token": "${FORGE}"}))), ["FORGE"]);
    assert_eq!(forges.secret_environment_names(&handoff(json!({}))), ["GITHUB_TOKEN"]);
    assert_eq!(forges.secret_environment_names(&HandoffPolicy::default()), Vec::<String>::new());
}
