//! The composition root: one daemon over one project, from WORKFLOW.md and state directory to the last
//! flushed line of its log.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_adapters::agent::LocalAgents;
use dalsegno_adapters::process::Sweeper;
use dalsegno_adapters::tracker::LocalTrackers;
use dalsegno_adapters::workflow::WorkflowFile;
use dalsegno_adapters::workspace::LocalWorkspaces;
use dalsegno_core::{ActionRequest, BudgetLine, Explanation, Failure, Policy, Receipt, Timestamp};
use dalsegno_durable::StoredHost;
use dalsegno_engine::{
    Clock, Driver, DriverEnd, DriverError, DriverHandle, DriverOptions, RateLimits, Trackers, World,
};
use dalsegno_gateway::{Access, App, Control, LiveRun, RefreshAnswer};
use dalsegno_store::{OpenOptions, Store, TranscriptFiles};
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::CliError;

/// Port of the API when nothing else is said.
const DEFAULT_PORT: u16 = 7272;
/// Longest wait for what is under way when the daemon is asked to end.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// What a daemon is started with.
#[derive(Debug, Clone)]
pub(crate) struct DaemonOptions {
    /// WORKFLOW.md.
    pub(crate) workflow: PathBuf,
    /// Directory for everything that the daemon keeps.
    pub(crate) state_dir: PathBuf,
    /// End when nothing is eligible or running.
    pub(crate) once: bool,
    /// Port of the API; zero takes any free one. Wins over `server.port`.
    pub(crate) port: Option<u16>,
}

/// Runs a daemon to its end.
pub(crate) async fn run(options: DaemonOptions) -> Result<DriverEnd, CliError> {
    let version = env!("CARGO_PKG_VERSION");
    let workflow = Arc::new(WorkflowFile::new(&options.workflow));
    let loaded = workflow.load_full().map_err(|failure| CliError::failure(&failure))?;
    let opened =
        Store::open(&options.state_dir, OpenOptions::default()).map_err(|error| CliError::failure(&error.failure()))?;
    let workspaces = Arc::new(LocalWorkspaces::new(&options.state_dir, workflow.clone()));
    let trackers = Arc::new(LocalTrackers::new());
    preflight(&loaded.policy, trackers.as_ref(), &workspaces).await?;

    let listener = listen(options.port.or(loaded.server_port)).await?;
    let url = format!("http://{}", listener.local_addr().map_err(|error| CliError::io("api_unavailable", &error))?);
    let program = std::env::current_exe().map_err(|error| CliError::io("no_program", &error))?;
    let transcripts = TranscriptFiles::open(&options.state_dir).map_err(|error| CliError::failure(&error.failure()))?;
    let transcripts = Arc::new(transcripts);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let world = World {
        workflow,
        trackers,
        workspaces,
        agents: Arc::new(LocalAgents::new(program)),
        processes: Arc::new(Sweeper),
        transcripts: transcripts.clone(),
        clock: Arc::clone(&clock),
        state_dir: options.state_dir.clone(),
        journal_id: opened.journal_id.clone(),
        effects: Arc::new(StoredHost::new(Arc::new(opened.durable))),
        secret: opened.secret.clone(),
    };
    let driver_options = DriverOptions {
        once: options.once,
        drain_limit: DRAIN_LIMIT,
        version: version.to_owned(),
        pid: std::process::id(),
    };
    let (driver, handle) = Driver::new(opened.loaded, Arc::new(opened.journal), world, driver_options)
        .map_err(|error| CliError::new("corrupt_journal", error.to_string()))?;

    // Whoever finds the daemon may signal it: before it can be found, it listens.
    let (stop, stop_now) = (CancellationToken::new(), CancellationToken::new());
    let signals = watch_signals(stop.clone(), stop_now.clone());
    let token = presence::token(&options.state_dir)?;
    presence::announce(&options.state_dir, &url, version)?;
    let (pid, state_dir) = (std::process::id(), options.state_dir.display());
    tracing::info!(url, pid, %state_dir, "the API is at {url}; everything is kept in {state_dir}");

    let control = Arc::new(DriverControl { handle });
    let app = App::new(opened.store.clone(), control, clock, Access::Token(token), version);
    let serving = CancellationToken::new();
    let server = tokio::spawn(dalsegno_gateway::serve(listener, app, serving.clone()));
    let end = driver.run(stop, stop_now).await;

    serving.cancel();
    signals.abort();
    match server.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the API ended badly"),
        Err(error) => tracing::warn!(%error, "the API ended badly"),
    }
    transcripts.flush();
    presence::withdraw(&options.state_dir);
    end.map_err(|error| match &error {
        DriverError::Append(_) => CliError::new("journal_failed", error.to_string())
            .hint("free disk space or repair the disk, then start again: everything acknowledged is kept"),
        DriverError::Corrupt(_) | DriverError::Decision(_) => CliError::new("decision_failed", error.to_string())
            .hint("this is a defect; start again, and report it with the log if it comes back"),
    })
}

/// What has to be true before anything is dispatched.
pub(crate) async fn preflight(
    policy: &Policy,
    trackers: &LocalTrackers,
    workspaces: &LocalWorkspaces,
) -> Result<(), CliError> {
    trackers.open(policy).map_err(|failure| CliError::failure(&failure))?;
    dalsegno_adapters::agent::preflight(&policy.agent).await.map_err(|failure| CliError::failure(&failure))?;
    workspaces.preflight(policy).await.map_err(|failure| CliError::failure(&failure))
}

/// Listens on loopback: on the wanted port, or where nothing was wanted on the usual one or any free one.
async fn listen(wanted: Option<u16>) -> Result<TcpListener, CliError> {
    let bind = |port: u16| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let bound = match wanted {
        Some(port) => bind(port).await,
        None => match bind(DEFAULT_PORT).await {
            Ok(listener) => Ok(listener),
            Err(_) => bind(0).await,
        },
    };
    bound.map_err(|error| {
        let port = wanted.unwrap_or(DEFAULT_PORT);
        CliError::new("port_unavailable", format!("port {port} on 127.0.0.1 cannot be used: {error}"))
            .hint("choose another one with --port, or --port 0 for any free one")
    })
}

/// The first signal asks for an end in good order, the second for an end now. From the return of this call on no signal
/// ends the process by itself.
fn watch_signals(stop: CancellationToken, stop_now: CancellationToken) -> tokio::task::JoinHandle<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let watched = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    tokio::spawn(async move {
        let (Ok(terminate), Ok(interrupt)) = watched else {
            tracing::error!("signals cannot be watched; the daemon ends only by SIGKILL, and recovers from that");
            return;
        };
        count_signals(terminate, interrupt, stop, stop_now).await;
    })
}

async fn count_signals(
    mut terminate: tokio::signal::unix::Signal,
    mut interrupt: tokio::signal::unix::Signal,
    stop: CancellationToken,
    stop_now: CancellationToken,
) {
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if stop.is_cancelled() {
            stop_now.cancel();
            return;
        }
        stop.cancel();
    }
}

/// The operating system's clocks.
#[derive(Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn boottime_ms(&self) -> u64 {
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_or(0, |time| {
            let (seconds, nanos) = (time.tv_sec().max(0), time.tv_nsec().max(0));
            u64::try_from(seconds * 1_000 + nanos / 1_000_000).unwrap_or(0)
        })
    }
}

/// The gateway's way to the loop.
struct DriverControl {
    handle: DriverHandle,
}

impl Control for DriverControl {
    fn explain(&self, key: &str) -> BoxFuture<'static, Result<Option<Explanation>, Failure>> {
        let (handle, key) = (self.handle.clone(), key.to_owned());
        Box::pin(async move { handle.explain(&key).await.ok_or_else(ending) })
    }

    fn refresh(&self) -> BoxFuture<'static, Result<RefreshAnswer, Failure>> {
        let handle = self.handle.clone();
        Box::pin(async move {
            match handle.refresh().await {
                Some(coalesced) => Ok(RefreshAnswer { coalesced }),
                None => Err(ending()),
            }
        })
    }

    fn act(&self, request: ActionRequest) -> BoxFuture<'static, Result<Receipt, Failure>> {
        let handle = self.handle.clone();
        Box::pin(async move { handle.act(request).await.ok_or_else(ending) })
    }

    fn receipt(&self, action: &str) -> BoxFuture<'static, Result<Option<Receipt>, Failure>> {
        let (handle, action) = (self.handle.clone(), action.to_owned());
        Box::pin(async move { handle.receipt(&action).await.ok_or_else(ending) })
    }

    fn budgets(&self) -> BoxFuture<'static, Result<Vec<BudgetLine>, Failure>> {
        let handle = self.handle.clone();
        Box::pin(async move { handle.budgets().await.ok_or_else(ending) })
    }

    fn head(&self) -> watch::Receiver<u64> {
        self.handle.head()
    }

    fn live(&self, run: &str) -> Option<LiveRun> {
        let sign = self.handle.last_sign(run)?;
        Some(LiveRun { last_event: sign.what.to_owned(), last_event_at: sign.at?, last_message: sign.message })
    }

    fn rate_limits(&self) -> Option<RateLimits> {
        self.handle.rate_limits()
    }

    fn ready(&self) -> bool {
        *self.handle.head().borrow() > 0
    }
}

fn ending() -> Failure {
    Failure::retryable("engine_unavailable", "the daemon is ending")
}

/// The files by which a running daemon is found.
pub(crate) mod presence {
    use std::fs;
    use std::io::{self, Write};
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;

    use dalsegno_api::Daemon;

    use crate::error::CliError;

    /// The operator token of this state directory: made once, readable for its owner alone.
    pub(super) fn token(state_dir: &Path) -> Result<String, CliError> {
        let path = state_dir.join("token");
        match fs::read_to_string(&path) {
            Ok(token) if token.trim().len() >= 32 => return Ok(token.trim().to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(CliError::io("token_unreadable", &error)),
        }
        let mut bytes = [0_u8; 24];
        getrandom::fill(&mut bytes).map_err(|error| CliError::new("no_randomness", error.to_string()))?;
        let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        write(&path, token.as_bytes()).map_err(|error| CliError::io("token_unwritable", &error))?;
        Ok(token)
    }

    /// Says where the daemon is.
    pub(super) fn announce(state_dir: &Path, url: &str, version: &str) -> Result<(), CliError> {
        let daemon = Daemon {
            pid: std::process::id(),
            url: url.to_owned(),
            started_at: jiff::Timestamp::now().to_string(),
            version: version.to_owned(),
        };
        let json =
            serde_json::to_vec_pretty(&daemon).map_err(|error| CliError::new("daemon_json", error.to_string()))?;
        write(&state_dir.join("daemon.json"), &json).map_err(|error| CliError::io("daemon_json_unwritable", &error))
    }

    /// Nobody is here any more. Best effort: a stale file is recognised by its dead process.
    pub(super) fn withdraw(state_dir: &Path) {
        if let Err(error) = fs::remove_file(state_dir.join("daemon.json")) {
            tracing::debug!(%error, "daemon.json stays behind");
        }
    }

    /// Writes a private file so that a reader sees the old content or the new one.
    fn write(path: &Path, content: &[u8]) -> io::Result<()> {
        let temporary = path.with_extension("new");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    }
}
