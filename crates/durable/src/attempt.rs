//! One try of an effect. It always ends, and when nobody can know how, it ends in doubt.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tokio_util::sync::CancellationToken;

/// How a try ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended<T> {
    /// The executor answered.
    Answered(T),
    /// Nobody knows whether the effect took place.
    InDoubt(Doubt),
}

/// Why nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The deadline passed.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// It was canceled, and did not answer within the grace time.
    #[error("canceled, and no answer within the grace time")]
    Canceled,
    /// The executor panicked.
    #[error("the executor panicked: {0}")]
    Panic(String),
}

/// How long an executor may take to answer after it was canceled.
pub const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// Runs `executor` to its end: its answer, or a doubt when it panics, outlives its deadline, or does not
/// answer a cancel. The executor sees `cancel` too and may answer it by itself.
pub async fn attempt<T>(
    executor: impl Future<Output = T>,
    deadline: Option<Duration>,
    cancel: &CancellationToken,
) -> Ended<T> {
    let executor = AssertUnwindSafe(executor).catch_unwind();
    tokio::pin!(executor);
    let limit = async {
        match deadline {
            Some(deadline) => {
                tokio::time::sleep(deadline).await;
                Doubt::Deadline(deadline)
            }
            None => std::future::pending().await,
        }
    };
    let given_up = async {
        cancel.cancelled().await;
        tokio::time::sleep(CANCEL_GRACE).await;
        Doubt::Canceled
    };
    tokio::select! {
        biased;
        answer = &mut executor => match answer {
            Ok(answer) => Ended::Answered(answer),
            Err(panic) => Ended::InDoubt(Doubt::Panic(panic_text(&*panic))),
        },
        doubt = given_up => Ended::InDoubt(doubt),
        doubt = limit => {
            cancel.cancel();
            Ended::InDoubt(doubt)
        }
    }
}

/// The words of a panic, as [`std::panic::catch_unwind`] gives it.
#[must_use]
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_passed_on() {
        let cancel = CancellationToken::new();
        assert_eq!(attempt(async { 7 }, None, &cancel).await, Ended::Answered(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_in_doubt() {
        let cancel = CancellationToken::new();
        let ended: Ended<()> = attempt(async { panic!("boom") }, None, &cancel).await;
        assert_eq!(ended, Ended::InDoubt(Doubt::Panic("boom".to_owned())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_in_doubt_and_cancels() {
        let cancel = CancellationToken::new();
        let limit = Duration::from_secs(3);
        let ended: Ended<()> = attempt(std::future::pending(), Some(limit), &cancel).await;
        assert_eq!(ended, Ended::InDoubt(Doubt::Deadline(limit)));
        assert!(cancel.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancel_without_answer_is_in_doubt() {
        let cancel = CancellationToken::new();
        cancel.cancel();
        let ended: Ended<()> = attempt(std::future::pending(), None, &cancel).await;
        assert_eq!(ended, Ended::InDoubt(Doubt::Canceled));
    }
}
