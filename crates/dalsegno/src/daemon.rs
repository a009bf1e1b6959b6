//! The composition root: one daemon over one project, from WORKFLOW.md and state directory to the last
//! flushed line of its log.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_adapters::agent::LocalAgents;
use dalsegno_adapters::forge::LocalForges;
use dalsegno_adapters::notify::LocalNotifier;
use dalsegno_adapters::process::Sweeper;
use dalsegno_adapters::tracker::LocalTrackers;
use dalsegno_adapters::webhook::{LocalWebhooks, SERVICES};
use dalsegno_adapters::workflow::{AGENTS, FORGES, Loaded, ServerSettings, TRACKERS, WorkflowFile};
use dalsegno_adapters::workspace::LocalWorkspaces;
use dalsegno_core::{Policy, Timestamp};
use dalsegno_durable::StoredHost;
use dalsegno_engine::{
    Agents as _, Clock, Driver, DriverEnd, DriverOptions, Forges as _, Notifier as _, Trackers as _, Webhooks as _,
    Workspaces as _, World,
};
use dalsegno_gateway::{Access, App, Gate, Offers, Tokens as _};
use dalsegno_store::{OpenOptions, Store, TranscriptFiles};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::control::DriverControl;
use crate::error::CliError;
use crate::inspector::LocalInspector;
use crate::presence;
use crate::tokens::TokenFile;
use crate::unread::ToldWorkflow;

/// Port of the API when nothing else is said.
const DEFAULT_PORT: u16 = 7272;
/// Longest wait for what is under way when the daemon is asked to end.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// What this program can work with.
const OFFERS: Offers = Offers { agents: &AGENTS, trackers: &TRACKERS, forges: &FORGES, webhooks: &SERVICES };

/// What a daemon is started with.
#[derive(Debug, Clone)]
pub(crate) struct DaemonOptions {
    /// WORKFLOW.md.
    pub(crate) workflow: PathBuf,
    /// What it said.
    pub(crate) loaded: Loaded,
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
    let loaded = options.loaded;
    let workflow = Arc::new(ToldWorkflow::new(WorkflowFile::new(&options.workflow)));
    let server = loaded.server;
    let tokens = Arc::new(TokenFile::new(&options.state_dir));
    if !server.host.is_loopback() && tokens.all().is_empty() {
        return Err(CliError::new(
            "token_not_configured",
            format!("server.host is {}, and there is no token", server.host),
        )
        .why("whoever reaches that address could ask this daemon for everything")
        .hint("make one first: `dalsegno token new NAME --role admin`"));
    }
    let opened = Store::open(&options.state_dir, OpenOptions::default())?;
    // What a killed daemon left of itself is not ours, whatever process id it had.
    presence::withdraw(&options.state_dir);
    let workspaces = Arc::new(LocalWorkspaces::new(&options.state_dir, workflow.clone()));
    let trackers = Arc::new(LocalTrackers::new());
    let webhooks = Arc::new(LocalWebhooks::new());
    let program = std::env::current_exe().map_err(|error| CliError::io("no_program", &error))?;
    preflight(&loaded.policy, &workspaces).await?;

    let listener = listen(server.host, options.port.or(server.port)).await?;
    let address = listener.local_addr().map_err(|error| CliError::io("api_unavailable", &error))?;
    let url = format!("http://{}", reachable(address));
    let transcripts = TranscriptFiles::open(&options.state_dir)?;
    let transcripts = Arc::new(transcripts);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let world = World {
        workflow,
        trackers,
        forges: Arc::new(LocalForges::new()),
        notifier: Arc::new(LocalNotifier::new()),
        webhooks: webhooks.clone(),
        workspaces: workspaces.clone(),
        agents: Arc::new(LocalAgents::new(program)),
        processes: Arc::new(Sweeper),
        inspector: Arc::new(LocalInspector::new(
            &options.state_dir,
            opened.store.clone(),
            Some(opened.blobs.clone()),
            workspaces.clone(),
        )),
        transcripts: transcripts.clone(),
        blobs: Arc::new(opened.blobs),
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
    let (driver, handle) = Driver::new(opened.loaded, Arc::new(opened.journal), world, driver_options)?;

    // Whoever finds the daemon may signal it: before it can be found, it listens.
    let (stop, stop_now) = (CancellationToken::new(), CancellationToken::new());
    let signals = watch_signals(stop.clone(), stop_now.clone());
    let token = presence::token(&options.state_dir)?;
    presence::announce(&options.state_dir, &url, version)?;
    let (pid, state_dir) = (std::process::id(), options.state_dir.display());
    tracing::info!(url, pid, %state_dir, "the API is at {url}; everything is kept in {state_dir}");

    let control = Arc::new(DriverControl::new(handle, workspaces, webhooks, stop.clone()));
    let gate = gate(&token, tokens, server);
    let app = App::new(opened.store.clone(), control, clock, Access::guarded(gate), version).offers(OFFERS);
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
    LocalNotifier::new().preflight(policy)?;
    LocalWebhooks::new().preflight(policy)?;
    LocalAgents::new(program).preflight(&policy.agent).await?;
    workspaces.preflight(policy).await?;
    Ok(())
}

/// Who is let in. Elsewhere than on loopback, nothing is told to strangers.
fn gate(token: &str, tokens: Arc<TokenFile>, server: ServerSettings) -> Gate {
    let ServerSettings { host, port: _, mut hosts, auth_required } = server;
    match host {
        IpAddr::V4(address) if !host.is_unspecified() => hosts.push(address.to_string()),
        IpAddr::V6(address) if !host.is_unspecified() => hosts.push(format!("[{address}]")),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    Gate::new(token).tokens(tokens).closed(auth_required || !host.is_loopback()).hosts(hosts)
}

/// Where this machine's own programs reach what listens there.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, address.port())
}

/// Listens on the wanted port, or where nothing was wanted on the usual one or any free one.
async fn listen(host: IpAddr, wanted: Option<u16>) -> Result<TcpListener, CliError> {
    let bind = |port: u16| TcpListener::bind(SocketAddr::new(host, port));
    let bound = match wanted {
        Some(port) => bind(port).await,
        None => match bind(DEFAULT_PORT).await {
            Ok(listener) => Ok(listener),
            Err(_) => bind(0).await,
        },
    };
    bound.map_err(|error| {
        let port = wanted.unwrap_or(DEFAULT_PORT);
        CliError::new("port_unavailable", format!("port {port} on {host} cannot be used: {error}"))
            .hint("choose another one with --port, or --port 0 for any free one; server.host must be an address of this machine")
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
