//! A started agent as a process: its pipes, its end, and what it said at its end.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dalsegno_engine::START_PATIENCE;
use dalsegno_engine::core::Failure;
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::ear::Ear;
use super::lines::read_errors;
use crate::process::{Child, Tail, describe, spawn};

/// How long an agent has to end by itself when its standard input is closed.
const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// How long its output may stay open after its process ended: what it said last is still in the pipe.
const LAST_WORDS_GRACE: Duration = Duration::from_secs(1);
/// How much of its standard error is told when it ends.
const ERROR_TAIL_BYTES: usize = 2 * 1024;

/// Words of an adapter about its own program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Advice {
    /// When the program cannot be run.
    pub(super) not_found: &'static str,
    /// When it does not answer.
    pub(super) no_answer: &'static str,
}

/// A running agent. Dropped, it leaves no task and no process.
pub(super) struct Program {
    child: Child,
    ear: Arc<Ear>,
    advice: Advice,
    errors: Arc<Mutex<Tail>>,
    errors_read: CancellationToken,
    /// Ends the writer, and so closes the agent's standard input.
    pub(super) stop: CancellationToken,
    pub(super) tasks: JoinSet<()>,
    exited: Option<Instant>,
}

impl Program {
    /// Starts it; its standard error goes to the transcript from here on.
    pub(super) async fn start(
        mut command: Command,
        ear: Arc<Ear>,
        advice: Advice,
    ) -> Result<(Self, ChildStdin, ChildStdout), Failure> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(command).await.map_err(not_started)?;
        let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Failure::retryable("agent_start_failed", "the agent's pipes could not be opened"));
        };
        let mut tasks = JoinSet::new();
        let tail = Arc::new(Mutex::new(Tail::new(ERROR_TAIL_BYTES)));
        let errors_read = CancellationToken::new();
        tasks.spawn({
            let (ear, tail, read) = (ear.clone(), tail.clone(), errors_read.clone().drop_guard());
            async move {
                read_errors(errors, |line| {
                    ear.stderr(line);
                    let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
                    tail.push(line.as_bytes());
                    tail.push(b"\n");
                })
                .await;
                drop(read);
            }
        });
        let stop = CancellationToken::new();
        let program = Self { child, ear, advice, errors: tail, errors_read, stop, tasks, exited: None };
        Ok((program, input, output))
    }

    /// Waits for the answer to a short request; the request answers `None` when the connection is over. With
    /// `patient`, each line that comes starts the limit over.
    pub(super) async fn short<T>(
        &mut self,
        what: &str,
        request: impl Future<Output = Option<T>>,
        limit: Duration,
        patient: bool,
        cancel: &CancellationToken,
    ) -> Result<T, Failure> {
        tokio::pin!(request);
        let begun = Instant::now();
        loop {
            let from = if patient { begun.max(self.ear.last()) } else { begun };
            let from = from.min(begun + limit * START_PATIENCE);
            tokio::select! {
                biased;
                answer = &mut request => return match answer {
                    None => Err(self.why().await),
                    Some(answer) => Ok(answer),
                },
                () = cancel.cancelled() => {
                    return Err(Failure::retryable("agent_start_failed", format!("canceled while waiting for {what}")));
                }
                () = self.died() => return Err(self.why().await),
                () = sleep_until(from + limit) => {
                    if patient && self.ear.last() > from && begun.elapsed() < limit * START_PATIENCE {
                        continue;
                    }
                    return Err(Failure::retryable(
                        "response_timeout",
                        format!("the agent did not answer {what} within {} ms", limit.as_millis()),
                    )
                    .hint(self.advice.no_answer));
                }
            }
        }
    }

    /// Ends when the process has ended and had the time to be read to its end. Cancel-safe.
    pub(super) async fn died(&mut self) {
        if self.exited.is_none() {
            // An error means that it was collected before; either way it is gone.
            let _ = self.child.wait().await;
        }
        let at = *self.exited.get_or_insert_with(Instant::now);
        sleep_until(at + LAST_WORDS_GRACE).await;
    }

    /// Why there is nothing to be had from the agent any more.
    pub(super) async fn why(&mut self) -> Failure {
        if let Some(failure) = self.ear.broken() {
            return failure;
        }
        let exit = timeout(LAST_WORDS_GRACE, self.child.wait()).await.ok().and_then(Result::ok);
        let _ = timeout(LAST_WORDS_GRACE, self.errors_read.cancelled()).await;
        let said = self.errors.lock().unwrap_or_else(PoisonError::into_inner).text();
        let said = match said.trim() {
            "" => "it wrote nothing to its standard error".to_owned(),
            said => format!("its standard error ended with: {said}"),
        };
        if exit.and_then(|exit| exit.code()).is_some_and(|code| code == 127 || code == 126) {
            return Failure::permanent("agent_not_found", format!("the agent's program cannot be run; {said}"))
                .hint(self.advice.not_found);
        }
        if exit.is_none() {
            return Failure::retryable("agent_exit", format!("the agent closed its output and runs on; {said}"));
        }
        Failure::retryable("agent_exit", format!("the agent ended with {}; {said}", describe(exit)))
    }

    /// Ends everything: politely, then not.
    pub(super) async fn close(mut self) {
        self.stop.cancel();
        let _ = timeout(CLOSE_GRACE, self.child.wait()).await;
        self.end().await;
    }

    /// Ends everything at once.
    pub(super) async fn end(mut self) {
        self.stop.cancel();
        if let Err(failure) = self.child.end().await {
            tracing::warn!(code = %failure.code, reason = %failure.message, "an agent left processes behind");
            self.ear.note(&failure.to_string());
        }
        // What it said last is in the pipes; once every writer is dead they end.
        let _ = timeout(LAST_WORDS_GRACE, async { while self.tasks.join_next().await.is_some() {} }).await;
        self.tasks.shutdown().await;
        self.ear.flush();
    }
}

/// The words of the port for a program that could not be started.
fn not_started(failure: Failure) -> Failure {
    if failure.retryable {
        return Failure { code: "agent_start_failed".to_owned(), ..failure };
    }
    Failure { code: "agent_not_found".to_owned(), ..failure }
}
