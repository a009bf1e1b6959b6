//! A program that waits for somebody's answer, over restarts, without polling.
//!
//! `wait` makes the wait's key and parks on it; whoever has the key can answer, with `curl`, from a second process with
//! `resolve`, or while nobody waits at all. The first answer stays, and so does the first deadline: killed and started
//! again, the program waits for what is left of it.
//!
//! ```sh
//! cargo run -p dalsegno-examples --bin webhook_wait -- wait --within 600
//! # … and in another terminal what it prints, with or without killing it before:
//! cargo run -p dalsegno-examples --bin webhook_wait -- resolve KEY '{"approved": true}'
//! ```
//!
//! Records are in `target/webhook-wait`, or in `--dir DIR` before the verb. Remove the directory to begin anew.

#![allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]

mod http;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dalsegno_durable::{EffectError, EffectHost, ExecutionScope, Resolution, Resolved, StoredHost, WaitKey};
use dalsegno_store::SqliteDurable;
use tokio::sync::Notify;

const USAGE: &str =
    "usage: webhook_wait [--dir DIR] wait [--within SECONDS]\n       webhook_wait [--dir DIR] resolve KEY JSON";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let dir = option(&mut words, "--dir").map_or_else(|| PathBuf::from("target/webhook-wait"), PathBuf::from);
    let within = option(&mut words, "--within").map_or(Ok(3_600), |seconds| seconds.parse())?;
    std::fs::create_dir_all(&dir)?;
    let host = open(&dir)?;
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["wait"] => wait(&host, &dir, Duration::from_secs(within)).await,
        ["resolve", key, json] => resolve(&host, key, json).await,
        _ => Err(USAGE.into()),
    }
}

async fn wait(host: &StoredHost, dir: &Path, within: Duration) -> Result<(), Box<dyn Error>> {
    let scope = host.scoped(ExecutionScope::process("release-1.0")).await?;
    // The same key in each process that opens this store: it may be sent away once, and is good for as long as the scope is.
    let key = scope.wait_key("approval")?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    println!("waiting for an answer to the release. Whoever has this key can answer; it is a password:");
    println!("key {}", key.as_str());
    println!("curl --data '{{\"approved\": true}}' http://{address}/resolve/{}", key.as_str());
    println!("or: webhook_wait --dir {} resolve KEY '{{\"approved\": true}}'", dir.display());

    let stop = Arc::new(Notify::new());
    let server = tokio::spawn(http::serve(listener, host.clone(), Arc::clone(&stop)));
    let resolution = scope.wait_within(&key, within).await?;
    // Whoever has just resolved the wait is told so before we go.
    stop.notify_one();
    server.await?;
    match &resolution {
        Resolution::Answered { payload } => println!("answered: {payload}"),
        Resolution::Timeout => println!("timeout: nobody answered within the time that the first start gave"),
        Resolution::Canceled => println!("canceled"),
    }
    let approved = matches!(&resolution, Resolution::Answered { payload } if payload["approved"] == true);
    if approved {
        // A step is recorded when it is done, so the next start does not do it again. Killed in it, it is done again: steps
        // are for what may happen twice. `durable_agent_loop` shows what to do about what may not.
        let announce = async || -> Result<(), EffectError> {
            println!("released 1.0");
            Ok(())
        };
        scope.step("announce", "1.0", announce).await?;
    }
    Ok(())
}

async fn resolve(host: &StoredHost, key: &str, json: &str) -> Result<(), Box<dyn Error>> {
    let payload = serde_json::from_str(json)?;
    match host.resolve(&WaitKey::from_text(key), Resolution::Answered { payload }).await? {
        Resolved::Accepted => println!("accepted"),
        Resolved::AlreadyResolved { terminal } => println!("already resolved: {terminal:?}"),
    }
    Ok(())
}

/// Takes `name VALUE` out of the words.
fn option(words: &mut Vec<String>, name: &str) -> Option<String> {
    let at = words.iter().position(|word| word == name)?;
    (at + 1 < words.len()).then(|| words.drain(at..at + 2).nth(1)).flatten()
}

fn open(dir: &Path) -> Result<StoredHost, Box<dyn Error>> {
    Ok(StoredHost::new(Arc::new(SqliteDurable::open(&dir.join("effects.db"))?)))
}
