//! A language model that says what a script says, for tests of real agent programs on loopback.
//!
//! It speaks OpenAI Responses, OpenAI Chat Completions and Anthropic Messages, streaming and not. What it answers is
//! chosen by the request alone ([`Script`]): the newest user text that names a script as `[[script:NAME]]` begins it,
//! and each tool result after that is a step further. So agents may be killed, started again and resumed, and so may
//! this server.
//!
//! Two things are counted besides: how often a prompt failed that is to fail some times, and what clients were told
//! that they used ([`ModelServer::usage`]).

mod chat;
mod choose;
mod gate;
mod messages;
mod record;
mod responses;
mod script;
mod serve;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

pub use gate::Gate;
pub use record::{Asked, Reported};
pub use script::{DEFAULT, End, Fail, Part, RateLimit, SIDE, Script, Step, Tokens};
pub use wire::Wire;

/// How long a test waits for something that must happen.
const WAIT_LIMIT: Duration = Duration::from_secs(120);

/// A running server; it ends when dropped.
#[derive(Debug)]
pub struct ModelServer {
    address: SocketAddr,
    state: Arc<serve::State>,
    runtime: Option<Runtime>,
}

impl ModelServer {
    /// Serves the script on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When there is no port or no thread.
    pub fn start(script: Script) -> io::Result<Self> {
        Self::start_at(0, script, None)
    }

    /// Serves on this port (0: a free one), and writes each request to the log as a line of JSON.
    ///
    /// # Errors
    /// When the port is taken, or there is no thread.
    pub fn start_at(port: u16, script: Script, log: Option<std::fs::File>) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("model").enable_all().build()?;
        let state = Arc::new(serve::State::new(script, log));
        let routes = serve::routes(Arc::clone(&state));
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Ok(Self { address, state, runtime: Some(runtime) })
    }

    /// Where it is, without a path: `http://127.0.0.1:PORT`. OpenAI's clients want `/v1` after it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests for an answer so far, oldest first; of many, the newest thousands.
    #[must_use]
    pub fn requests(&self) -> Vec<Asked> {
        self.state.record.requests()
    }

    /// What clients were told that they used, for each model that they named.
    #[must_use]
    pub fn usage(&self) -> BTreeMap<String, Reported> {
        self.state.record.usage()
    }

    /// Waits until request `number` (from 1) has arrived, and answers it.
    ///
    /// # Panics
    /// When it has not come after two minutes.
    pub async fn asked(&self, number: u64) -> Asked {
        let found = tokio::time::timeout(WAIT_LIMIT, self.state.record.asked(number)).await;
        found.ok().flatten().unwrap_or_else(|| panic!("request {number} did not come"))
    }

    /// As [`ModelServer::asked`], for tests that are not async. It blocks the thread.
    ///
    /// # Panics
    /// As there.
    #[must_use]
    pub fn wait_asked(&self, number: u64) -> Asked {
        blocking(self.asked(number))
    }

    /// From now on holds the answers of this step, before their first byte, until the gate is released or dropped.
    #[must_use]
    pub fn hold(&self, script: &str, step: usize) -> Gate {
        self.state.gates.add(script, step)
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A plain drop would wait, and may not be done in async code.
            runtime.shutdown_background();
        }
    }
}

/// Waits on a thread of its own, so that it can be called anywhere.
fn blocking<T: Send>(work: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let runtime = Builder::new_current_thread().enable_time().build();
            runtime.unwrap_or_else(|error| panic!("no runtime to wait with: {error}")).block_on(work)
        });
        waiting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
