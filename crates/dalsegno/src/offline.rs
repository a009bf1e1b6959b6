//! Reads without a daemon: the same routes, over the store, inside this process.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dalsegno_adapters::workflow::WorkflowFile;
use dalsegno_adapters::workspace::LocalWorkspaces;
use dalsegno_api::{Client, ClientError, Method, Reply, Request, Transport, code};
use dalsegno_core::{
    ActionAnswer, ActionRequest, BudgetLine, Explanation, Failure, Inspection, LookFor, Machine, PolicyHash, Readiness,
    Receipt, Rule, Timestamp, inspect, plan, readiness, readiness_of,
};
use dalsegno_engine::{Change, ChangeWanted, Clock, Delivery, Heard, Inspector as _, RateLimits, Reads};
use dalsegno_gateway::{Access, App, Control, Inside, LiveRun, RefreshAnswer};
use dalsegno_store::{BlobFiles, Store, StoreError};
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::daemon::SystemClock;
use crate::error::CliError;
use crate::inspector::LocalInspector;
use crate::verbs;

/// A client of the store in the state directory.
///
/// # Errors
/// `daemon_not_running` when no daemon ever ran here.
pub(crate) fn client(state_dir: &Path) -> Result<Client, CliError> {
    let store = open(state_dir)?;
    let asleep = Asleep { store: Arc::clone(&store), state_dir: state_dir.to_owned() };
    Ok(Client::over(InProcess::new(store, Arc::new(asleep))?))
}

/// The store's reading side.
pub(crate) fn open(state_dir: &Path) -> Result<Arc<Store>, CliError> {
    match Store::open_read_only(state_dir) {
        Ok(store) => Ok(store),
        Err(StoreError::Missing(_)) => Err(ClientError::not_running(state_dir).into()),
        Err(error) => Err(error.into()),
    }
}

/// Hands requests to the routes without a socket. Who can open the store is trusted with what is in it.
struct InProcess {
    routes: Inside,
    runtime: tokio::runtime::Runtime,
}

impl InProcess {
    fn new(reads: Arc<dyn Reads>, control: Arc<dyn Control>) -> Result<Self, CliError> {
        let app = App::new(reads, control, Arc::new(SystemClock), Access::Everybody, env!("CARGO_PKG_VERSION"));
        Ok(Self { routes: Inside::new(app), runtime: verbs::runtime()? })
    }
}

impl Transport for InProcess {
    fn send(&self, request: &Request) -> Result<Reply, ClientError> {
        let Request { method, target } = request;
        let (method, body) = match method {
            Method::Get => ("GET", None),
            Method::Post(body) => ("POST", body.clone()),
        };
        let answered = self.runtime.block_on(self.routes.answer(method, target, body));
        let (status, body) = answered.map_err(|why| ClientError::local(code::INVALID_ANSWER, why))?;
        Ok(Reply { status, body })
    }

    fn open(&self, _: &str, _: Option<&str>) -> Result<Box<dyn BufRead + Send>, ClientError> {
        Err(ClientError::local(code::DAEMON_NOT_RUNNING, "nothing new comes without a daemon")
            .hint("start one with `dalsegno run`"))
    }
}

/// What answers where a live daemon would have to: the machine as the journal left it, and nothing that acts.
struct Asleep {
    store: Arc<Store>,
    state_dir: PathBuf,
}

/// What looks outside for a state directory without a daemon. Branches are named by nobody in it.
pub(crate) fn inspector(state_dir: &Path, store: Arc<Store>, blobs: Option<BlobFiles>) -> LocalInspector {
    let workflow = Arc::new(WorkflowFile::new(state_dir.with_file_name("WORKFLOW.md")));
    LocalInspector::new(state_dir, store, blobs, Arc::new(LocalWorkspaces::new(state_dir, workflow)))
}

impl Asleep {
    fn failure() -> Failure {
        Failure::permanent(code::DAEMON_NOT_RUNNING, "only a running daemon can do that")
            .hint("start one with `dalsegno run`")
    }

    fn machine(store: &Store) -> Result<Machine, Failure> {
        let loaded = store.load().map_err(|error| error.failure())?;
        Machine::replay(loaded.snapshot, loaded.events)
            .map_err(|error| Failure::permanent("corrupt_journal", error.to_string()))
    }

    fn explanation(store: &Store, key: &str) -> Result<Option<Explanation>, Failure> {
        let machine = Self::machine(store)?;
        Ok(machine.explain(key).map(|mut explanation| {
            let asleep = Rule {
                rule: "daemon_running".to_owned(),
                pass: false,
                detail: "no daemon runs on this project; what follows is as the last one left it".to_owned(),
                remedy: Some("start one with `dalsegno run`".to_owned()),
            };
            explanation.rules.insert(0, asleep);
            explanation
        }))
    }
}

impl Control for Asleep {
    fn explain(&self, key: &str) -> BoxFuture<'static, Result<Option<Explanation>, Failure>> {
        let explained = Self::explanation(&self.store, key);
        Box::pin(async { explained })
    }

    fn refresh(&self) -> BoxFuture<'static, Result<RefreshAnswer, Failure>> {
        Box::pin(async { Err(Self::failure()) })
    }

    fn hear(&self, _: Delivery, _: Timestamp) -> BoxFuture<'static, Result<Heard, Failure>> {
        Box::pin(async { Err(Self::failure()) })
    }

    fn webhook(&self, _: Vec<String>) -> BoxFuture<'static, Result<Option<String>, Failure>> {
        Box::pin(async { Err(Self::failure()) })
    }

    fn act(&self, _: ActionRequest) -> BoxFuture<'static, Result<ActionAnswer, Failure>> {
        Box::pin(async { Err(Self::failure()) })
    }

    fn receipt(&self, action: &str) -> BoxFuture<'static, Result<Option<Receipt>, Failure>> {
        let found = Self::machine(&self.store).map(|machine| machine.receipt(action));
        Box::pin(async { found })
    }

    fn budgets(&self) -> BoxFuture<'static, Result<Vec<BudgetLine>, Failure>> {
        let now = Clock::now(&SystemClock);
        let lines = Self::machine(&self.store).map(|machine| machine.budgets(now));
        Box::pin(async { lines })
    }

    fn writes_refused(&self, _: BTreeMap<String, u64>) -> BoxFuture<'static, Result<(), Failure>> {
        Box::pin(async { Err(Self::failure()) })
    }

    fn change(&self, _: &PolicyHash, _: ChangeWanted) -> BoxFuture<'static, Result<Change, Failure>> {
        Box::pin(async { Err(Self::failure()) })
    }

    fn head(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    fn rate_limits(&self) -> Option<RateLimits> {
        None
    }

    fn live(&self, _: &str) -> Option<LiveRun> {
        None
    }

    /// What the next daemon will find to do.
    fn readiness(&self) -> Option<Readiness> {
        let machine = Self::machine(&self.store).ok()?;
        let state = machine.state();
        let Some(policy) = state.policy() else { return Some(readiness(plan(&inspect(state)), true)) };
        let inspector = inspector(&self.state_dir, Arc::clone(&self.store), None);
        let wanted = LookFor::of(state);
        // On a thread of its own: the routes answer on a runtime that waits for this.
        let looked = std::thread::scope(|scope| {
            let look = || verbs::runtime().map(|runtime| runtime.block_on(inspector.inspect(&wanted, &policy)));
            scope.spawn(look).join()
        });
        let failed = || Inspection::failed(&Failure::retryable("inspection_failed", "the look ended badly"));
        let seen = looked.ok().and_then(Result::ok).unwrap_or_else(failed);
        Some(readiness_of(state, &seen))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use dalsegno_api::exit;

    use super::*;

    #[test]
    fn without_a_store_nobody_answers() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(client(dir.path()).err().unwrap().exit_code(), exit::NO_DAEMON);
    }

    #[test]
    fn the_store_answers_through_the_routes_of_the_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let opened = Store::open(dir.path(), dalsegno_store::OpenOptions::default()).unwrap();
        let mut machine = Machine::replay(None, []).unwrap();
        let started = dalsegno_core::Input::Started { epoch: 1, version: "1".to_owned(), pid: 1 };
        machine.handle(started, dalsegno_core::Timestamp(1));
        let dalsegno_core::Output::Append(batch) = machine.poll_output() else { panic!("a start is journaled") };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(dalsegno_engine::Journal::append(&opened.journal, batch, Vec::new())).unwrap();
        drop(opened);
        let client = client(dir.path()).unwrap();
        assert!(!client.state().unwrap().ready);
        let query = dalsegno_api::EventQuery::default();
        assert_eq!(client.events(&query).unwrap().events[0].kind, "daemon_started");
        assert_eq!(client.issue("DS-1").unwrap_err().exit_code(), exit::NOT_FOUND);
        assert_eq!(client.explain("DS-1").unwrap_err().exit_code(), exit::NOT_FOUND);
        assert_eq!(client.refresh().unwrap_err().exit_code(), exit::NO_DAEMON);
        let action = dalsegno_api::Action {
            schema_version: 1,
            action_kind: "release".to_owned(),
            target: dalsegno_api::Target { kind: "issue".to_owned(), id: "DS-1".to_owned() },
            correlation_id: None,
            idempotency_key: None,
            on_duplicate: None,
            payload: serde_json::Map::new(),
        };
        let refused = client.act(&action).unwrap_err();
        assert_eq!((refused.code(), refused.exit_code()), (code::DAEMON_NOT_RUNNING, exit::NO_DAEMON));
        assert_eq!(client.stream(&query).next().unwrap().unwrap_err().exit_code(), exit::NO_DAEMON);
    }
}
