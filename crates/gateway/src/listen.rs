//! Serving on a socket.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
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
    let access = Arc::clone(&app.access);
    let served = axum::serve(listener, router(app)).with_graceful_shutdown(async move {
        begun.cancelled().await;
        closing.cancel();
    });
    tokio::select! {
        served = served => served,
        never = tell_refused(&access) => match never {},
        () = async { shutdown.cancelled().await; tokio::time::sleep(DRAIN).await } => {
            tracing::warn!("some answers were not through when the drain was over");
            Ok(())
        }
    }
}

/// Logs the writes that were refused, once a minute: whoever tries a thousand makes one line.
async fn tell_refused(access: &Access) -> Infallible {
    loop {
        tokio::time::sleep(REFUSED_EVERY).await;
        let Access::Guarded(gate) = access else { continue };
        let refused = gate.take_refused();
        if !refused.is_empty() {
            let count: u64 = refused.values().sum();
            let codes: Vec<String> = refused.iter().map(|(code, count)| format!("{code}: {count}")).collect();
            let codes = codes.join(", ");
            tracing::warn!(count, %codes, "{count} writes were refused in the last minute ({codes})");
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
