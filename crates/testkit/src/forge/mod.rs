//! A forge behind a real HTTP port: the part of GitHub's API that Dalsegno uses, and what goes wrong with it.
//!
//! A [`FakeForge`] holds the pull requests of one repository in a folder, where `state.json` has them and `record.jsonl` gets a line for
//! each request and what became of it. Started again over the same folder, it goes on. It can be told to lie ([`Lie`]): to do and not to
//! say so, to say so and not to do, to break off, to be slow, to refuse.

mod github;
mod lie;
mod record;
mod serve;
pub(crate) mod state;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

pub use lie::{Lie, LieFor};
pub use record::Recorded;
pub use state::{Account, Opened, StoredPull};

/// Our account: the one that Dalsegno speaks with.
pub const OURS: Account = Account { login: "dalsegno-bot", id: 101, token: "token-of-the-bot", app: false };
/// Somebody else's account.
pub const STRANGER: Account = Account { login: "mallory", id: 202, token: "token-of-mallory", app: false };
/// A GitHub App: it has no account, and cannot ask for one.
pub const APP: Account = Account { login: "an-app[bot]", id: 303, token: "token-of-an-app", app: true };

/// What a fake is started with.
#[derive(Debug, Clone)]
pub struct FakeSetup {
    /// Where it keeps what it holds; made when it is not there.
    pub folder: PathBuf,
    /// Its one repository, `owner/name`.
    pub repository: String,
    /// The repository's default branch.
    pub default_branch: String,
    /// A bare repository that heads are looked up in; `None`: any head is taken.
    pub git_dir: Option<PathBuf>,
    /// Whether the repository can have drafts.
    pub drafts: bool,
    /// Port on 127.0.0.1; 0: a free one.
    pub port: u16,
}

impl FakeSetup {
    /// The repository `acme/widgets` with the default branch `main`, with drafts, on a free port.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            repository: "acme/widgets".to_owned(),
            default_branch: "main".to_owned(),
            git_dir: None,
            drafts: true,
            port: 0,
        }
    }
}

/// A running fake; it ends when dropped.
#[derive(Debug)]
pub struct FakeForge {
    address: SocketAddr,
    shared: Arc<serve::Shared>,
    runtime: Option<Runtime>,
}

impl FakeForge {
    /// Serves with what its folder holds.
    ///
    /// # Errors
    /// When there is no port or no thread, or the folder holds something else.
    pub fn start(setup: FakeSetup) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, setup.port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(serve::Shared::open(setup)?);
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("forge").enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let routes = serve::routes(Arc::clone(&shared));
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Ok(Self { address, shared, runtime: Some(runtime) })
    }

    /// Where its API is: `http://127.0.0.1:PORT`. `/api/v3` after it is the same place, as on a server of one's own.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The pull requests, oldest first.
    #[must_use]
    pub fn pulls(&self) -> Vec<StoredPull> {
        self.shared.state().pulls.clone()
    }

    /// The requests of this life, oldest first; those of former ones are in `record.jsonl` only.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.requests()
    }

    /// Somebody opens a pull request by other means than this API. Answers its number.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn open(&self, opened: &Opened) -> io::Result<u64> {
        self.shared.change(|state| state.open(opened))
    }

    /// Somebody closes it, if it is open.
    ///
    /// # Errors
    /// As [`FakeForge::open`].
    pub fn close(&self, number: u64) -> io::Result<()> {
        self.shared.change(|state| state.close(number))
    }

    /// Somebody merges it, draft or not.
    ///
    /// # Errors
    /// As [`FakeForge::open`].
    pub fn merge(&self, number: u64) -> io::Result<()> {
        self.shared.change(|state| state.merge(number))
    }

    /// The next requests that it is about get this lie; with several lies the oldest first.
    pub fn lie(&self, about: LieFor, lie: Lie) {
        self.shared.lie(about, lie);
    }

    /// No lies any more.
    pub fn be_honest(&self) {
        self.shared.be_honest();
    }
}

impl Drop for FakeForge {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A plain drop would wait, and may not be done in async code.
            runtime.shutdown_background();
        }
    }
}
