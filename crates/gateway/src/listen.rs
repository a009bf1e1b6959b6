//! Serving on a socket.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use dalsegno_core::Failure;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::app::{Access, App};
use crate::routes::router;

/// Longest wait for open answers once a shutdown has begun.
const DRAIN: Duration = Duration::from_secs(2);
/// How often refused writes are told.
const REFUSED_EVERY: Duration = Duration::from_secs(60);

/// Serves `app` on `listener` until `shutdown`; then ends the streams and gives open answers two seconds.
///
/// # Errors
/// When the socket fails for good.
pub async fn serve(listener: TcpListener, app: App, shutdown: CancellationToken) -> io::Result<()> {
    let closing = app.closing.clone();
    let permits = Arc::new(Semaphore::new(app.limits.connections));
    let listener = Capped { listener, permits, patience: app.limits.patience };
    let begun = shutdown.clone();
    let (access, control) = (Arc::clone(&app.access), Arc::clone(&app.control));
    let served = axum::serve(listener, router(app)).with_graceful_shutdown(async move {
        begun.cancelled().await;
        closing.cancel();
    });
    tokio::select! {
        served = served => served,
        never = tell_refused(&access, |counts| control.writes_refused(counts)) => match never {},
        () = async { shutdown.cancelled().await; tokio::time::sleep(DRAIN).await } => {
            tracing::warn!("some answers were not through when the drain was over");
            Ok(())
        }
    }
}

/// Tells of the writes that were refused, once a minute, and not at all when there were none: whoever tries a million makes
/// one small event.
async fn tell_refused(
    access: &Access,
    tell: impl Fn(BTreeMap<String, u64>) -> BoxFuture<'static, Result<(), Failure>>,
) -> Infallible {
    loop {
        tokio::time::sleep(REFUSED_EVERY).await;
        let Access::Guarded(gate) = access else { continue };
        let refused = gate.take_refused();
        if refused.is_empty() {
            continue;
        }
        let count: u64 = refused.values().sum();
        if let Err(failure) = tell(refused).await {
            tracing::warn!(count, %failure, "{count} writes were refused in the last minute, and that is not in the journal");
        }
    }
}

/// A listener that accepts no more than so many connections at once; others wait in the system's queue.
struct Capped {
    listener: TcpListener,
    /// Longest silence of a connection that has said nothing yet.
    patience: Duration,
    permits: Arc<Semaphore>,
}

impl Listener for Capped {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed; without a permit the connection would just not be counted.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
        let silence = Some(Box::pin(tokio::time::sleep(self.patience)));
        (Connection { stream, silence, _permit: permit }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct Connection {
    stream: TcpStream,
    /// Until it has said something: whoever only connects does not keep others out.
    silence: Option<Pin<Box<tokio::time::Sleep>>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() || buffer.filled().len() > before {
            self.silence = None;
        }
        if self.silence.as_mut().is_some_and(|silence| silence.as_mut().poll(context).is_ready()) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the connection said nothing")));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::FutureExt as _;

    use super::*;
    use crate::access::Gate;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_refused_writes_is_told_once_a_minute_and_silence_not_at_all() {
        let access = Access::guarded(Gate::new("t"));
        let told: Mutex<Vec<BTreeMap<String, u64>>> = Mutex::default();
        let flood = async {
            let Access::Guarded(gate) = &access else { return };
            // In the midst of the minutes that are counted.
            tokio::time::sleep(REFUSED_EVERY / 2).await;
            for minute in 0..3 {
                for n in 0..50_000 {
                    gate.refused_write(if n % 2 == 0 { "token_required" } else { "rate_limited" });
                }
                tokio::time::sleep(REFUSED_EVERY).await;
                assert!(told.lock().is_ok_and(|told| told.len() <= minute + 1));
            }
            tokio::time::sleep(10 * REFUSED_EVERY).await;
        };
        let telling = tell_refused(&access, |counts| {
            if let Ok(mut told) = told.lock() {
                told.push(counts);
            }
            async { Ok(()) }.boxed()
        });
        tokio::select! {
            () = flood => {}
            never = telling => match never {},
        }
        let told = told.into_inner().unwrap_or_default();
        assert_eq!(told.len(), 3, "{told:?}");
        let sums: u64 = told.iter().flat_map(BTreeMap::values).sum();
        assert_eq!((sums, told.first().map(BTreeMap::len)), (150_000, Some(2)));
    }
}
