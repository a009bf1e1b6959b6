//! Standard output, shared by the protocol's crate and by the steps that write past it.

use std::io;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Mutex;

/// Writes whole lines, one at a time; a client that does not read makes the writer wait.
#[derive(Clone)]
pub(super) struct Out(Arc<Mutex<dyn AsyncWrite + Send + Unpin>>);

impl Out {
    pub(super) fn new(output: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        Self(Arc::new(Mutex::new(output)))
    }

    /// These bytes and a line end.
    pub(super) async fn line(&self, bytes: &[u8]) -> io::Result<()> {
        let mut output = self.0.lock().await;
        output.write_all(bytes).await?;
        output.write_all(b"\n").await?;
        output.flush().await
    }

    /// A `session/update`. Not through the crate, whose queue has no limit.
    pub(super) async fn update(&self, session: &str, update: &Value) -> io::Result<()> {
        let message = json!({
            "jsonrpc": "2.0", "method": "session/update", "params": { "sessionId": session, "update": update },
        });
        self.line(message.to_string().as_bytes()).await
    }
}
