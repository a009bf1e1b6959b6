//! The smallest webhook receiver: `POST /resolve/KEY` with a JSON body, on loopback.
//!
//! An example's listener. Yours is whatever serves HTTP in your program; all it has to do is call
//! [`EffectHost::resolve`] with the key that it was given.

use std::sync::Arc;
use std::time::Duration;

use dalsegno_durable::{DurableError, EffectHost, Resolution, Resolved, StoredHost, WaitKey};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Most bytes of a request's head, and of its body.
const HEAD: u64 = 16 << 10;
const BODY: usize = 64 << 10;
/// A caller that says nothing for so long is left alone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers one caller after the other until it is told to stop, and the one that it has then to the end.
pub(crate) async fn serve(listener: TcpListener, host: StoredHost, stop: Arc<Notify>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.notified() => return,
        };
        // A caller that went away is no reason to stop.
        if let Ok((stream, _)) = accepted {
            let _ = tokio::time::timeout(PATIENCE, answer(stream, &host)).await;
        }
    }
}

async fn answer(mut stream: TcpStream, host: &StoredHost) -> std::io::Result<()> {
    let (status, text) = match read(&mut stream).await? {
        Ok((key, payload)) => resolve(host, &key, payload).await,
        Err(status) => (status, "send POST /resolve/KEY with a JSON body".to_owned()),
    };
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}\n", text.len() + 1);
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

/// The key and the body, or the status that says what is wrong with the request.
async fn read(stream: &mut TcpStream) -> std::io::Result<Result<(String, serde_json::Value), &'static str>> {
    let mut lines = BufReader::new(stream).take(HEAD);
    let mut first = String::new();
    lines.read_line(&mut first).await?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).await? == 0 || line == "\r\n" || line == "\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(usize::MAX);
        }
    }
    let mut words = first.split_whitespace();
    let (Some("POST"), Some(path)) = (words.next(), words.next()) else { return Ok(Err("405 Method Not Allowed")) };
    let Some(key) = path.strip_prefix("/resolve/") else { return Ok(Err("404 Not Found")) };
    if length > BODY {
        return Ok(Err("413 Content Too Large"));
    }
    let mut body = vec![0; length];
    lines.into_inner().read_exact(&mut body).await?;
    Ok(serde_json::from_slice(&body).map(|payload| (key.to_owned(), payload)).map_err(|_| "400 Bad Request"))
}

async fn resolve(host: &StoredHost, key: &str, payload: serde_json::Value) -> (&'static str, String) {
    match host.resolve(&WaitKey::from_text(key), Resolution::Answered { payload }).await {
        Ok(Resolved::Accepted) => ("200 OK", "accepted".to_owned()),
        Ok(Resolved::AlreadyResolved { terminal }) => ("409 Conflict", format!("already resolved: {terminal:?}")),
        // Wrong, forged, revoked or long gone: whoever asks learns nothing of which.
        Err(error @ DurableError::WaitUnknownOrRevoked) => ("404 Not Found", error.to_string()),
        Err(error) => ("500 Internal Server Error", error.to_string()),
    }
}
