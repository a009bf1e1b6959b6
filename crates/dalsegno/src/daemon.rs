//! The composition root: one daemon over one project, from WORKFLOW.md and state directory to the last
//! flushed line of its log.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_adapters::agent::LocalAgents;
use dalsegno_adapters::forge::LocalForges;
use dalsegno_adapters::process::Sweeper;
use dalsegno_adapters::tracker::LocalTrackers;
use dalsegno_adapters::workflow::WorkflowFile;
use dalsegno_adapters::workspace::LocalWorkspaces;
use dalsegno_core::{Policy, Timestamp};
use dalsegno_durable::StoredHost;
use dalsegno_engine::{
    Agents as _, Clock, Driver, DriverEnd, DriverOptions, Forges as _, Trackers as _, Workspaces as _, World,
};
use dalsegno_gateway::{Access, App};
use dalsegno_store::{OpenOptions, Store, TranscriptFiles};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::control::{DriverControl, Readiness, WatchedJournal};
use crate::error::CliError;
use crate::presence;
use crate::unread::ToldWorkflow;

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
    let file = WorkflowFile::new(&options.workflow);
    let loaded = file.load_full()?;
    let workflow = Arc::new(ToldWorkflow::new(file));
    let opened = Store::open(&options.state_dir, OpenOptions::default())?;
    // What a killed daemon left of itself is not ours, whatever process id it had.
    presence::withdraw(&options.state_dir);
    let workspaces = Arc::new(LocalWorkspaces::new(&options.state_dir, workflow.clone()));
    let trackers = Arc::new(LocalTrackers::new());
    let program = std::env::current_exe().map_err(|error| CliError::io("no_program", &error))?;
    preflight(&loaded.policy, &workspaces).await?;

    let listener = listen(options.port.or(loaded.server_port)).await?;
    let url = format!("http://{}", listener.local_addr().map_err(|error| CliError::io("api_unavailable", &error))?);
    let transcripts = TranscriptFiles::open(&options.state_dir)?;
    let transcripts = Arc::new(transcripts);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let world = World {
        workflow,
        trackers,
        forges: Arc::new(LocalForges::new()),
        workspaces,
        agents: Arc::new(LocalAgents::new(program)),
        processes: Arc::new(Sweeper),
        transcripts: transcripts.clone(),
        clock: Arc::clone(&clock),
        state_dir: options.state_dir.clone(),
        journal_id: opened.journal_id.clone(),
        effects: StoredHost::new(Arc::new(opened.durable)),
        secret: opened.secret.clone(),
    };
    let driver_options = DriverOptions {
        once: options.once,
        drain_limit: DRAIN_LIMIT,
        version: version.to_owned(),
        pid: std::process::id(),
    };
    let readiness = Arc::new(Readiness::default());
    let journal = WatchedJournal::new(Arc::new(opened.journal), Arc::clone(&readiness));
    let (driver, handle) = Driver::new(opened.loaded, Arc::new(journal), world, driver_options)?;

    // Whoever finds the daemon may signal it: before it can be found, it listens.
    let (stop, stop_now) = (CancellationToken::new(), CancellationToken::new());
    let signals = watch_signals(stop.clone(), stop_now.clone());
    let token = presence::token(&options.state_dir)?;
    presence::announce(&options.state_dir, &url, version)?;
    let (pid, state_dir) = (std::process::id(), options.state_dir.display());
    tracing::info!(url, pid, %state_dir, "the API is at {url}; everything is kept in {state_dir}");

    let control = Arc::new(DriverControl::new(handle, readiness, stop.clone()));
    let app = App::new(opened.store.clone(), control, clock, Access::Token(token), version);
    let serving = CancellationToken::new();
    let server = tokio::spawn(dalsegno_gateway::serve(listener, app, serving.clone()));
    let end = driver.run(stop, stop_now).await;

    // Before the port is anybody's again, nobody is led to it.
    presence::withdraw(&options.state_dir);
    serving.cancel();
    signals.abort();
    match server.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the API ended badly"),
        Err(error) => tracing::warn!(%error, "the API ended badly"),
    }
    transcripts.flush();
    Ok(end?)
}

/// What has to be true before anything is dispatched; the driver asks the same of a policy that is to replace another one.
pub(crate) async fn preflight(policy: &Policy, workspaces: &LocalWorkspaces) -> Result<(), CliError> {
    let program = std::env::current_exe().map_err(|error| CliError::io("no_program", &error))?;
    LocalTrackers::new().open(policy)?;
    if let Some(handoff) = &policy.handoff {
        LocalForges::new().preflight(handoff)?;
    }
    LocalAgents::new(program).preflight(&policy.agent).await?;
    workspaces.preflight(policy).await?;
    Ok(())
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
