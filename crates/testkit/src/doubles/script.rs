//! What a double does when it is called.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dalsegno_core::Failure;

/// One answer of a double.
#[derive(Debug, Clone)]
pub enum Act<T> {
    /// Answers.
    Answer(T),
    /// Fails.
    Fail(Failure),
    /// Panics.
    Panic,
    /// Never answers, whatever is asked of it.
    Hang,
    /// Answers after this time.
    Late(Duration, T),
    /// Fails after this time.
    FailLate(Duration, Failure),
}

/// Acts that wait for their calls.
#[derive(Debug)]
pub struct Script<T> {
    acts: Mutex<Vec<Line<T>>>,
}

#[derive(Debug)]
struct Line<T> {
    issue: Option<String>,
    act: Act<T>,
    always: bool,
}

impl<T> Default for Script<T> {
    fn default() -> Self {
        Self { acts: Mutex::new(Vec::new()) }
    }
}

impl<T: Clone> Script<T> {
    /// The next call does this.
    pub fn next(&self, act: Act<T>) {
        self.push(None, act, false);
    }

    /// The next call for this issue does this.
    pub fn next_of(&self, issue: &str, act: Act<T>) {
        self.push(Some(issue.to_owned()), act, false);
    }

    /// Every call for which nothing else is said does this.
    pub fn always(&self, act: Act<T>) {
        self.push(None, act, true);
    }

    /// Every call succeeds again.
    pub fn clear(&self) {
        self.acts.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn push(&self, issue: Option<String>, act: Act<T>, always: bool) {
        self.acts.lock().unwrap_or_else(PoisonError::into_inner).push(Line { issue, act, always });
    }

    fn take(&self, issue: &str) -> Option<Act<T>> {
        let mut acts = self.acts.lock().unwrap_or_else(PoisonError::into_inner);
        let is = |line: &Line<T>| line.issue.as_deref().is_none_or(|wanted| wanted == issue);
        match acts.iter().position(|line| !line.always && is(line)) {
            Some(at) => Some(acts.remove(at).act),
            None => acts.iter().rev().find(|line| is(line)).map(|line| line.act.clone()),
        }
    }

    /// Does what is next for the issue; without a line, what `otherwise` says.
    ///
    /// # Errors
    /// As the script says.
    pub async fn play(&self, issue: &str, otherwise: impl FnOnce() -> Result<T, Failure> + Send) -> Result<T, Failure>
    where
        T: Send,
    {
        match self.take(issue) {
            None => otherwise(),
            Some(Act::Answer(answer)) => Ok(answer),
            Some(Act::Fail(failure)) => Err(failure),
            #[expect(clippy::panic, reason = "that is what the script asks for")]
            Some(Act::Panic) => panic!("scripted panic"),
            Some(Act::Hang) => std::future::pending().await,
            Some(Act::Late(wait, answer)) => {
                tokio::time::sleep(wait).await;
                Ok(answer)
            }
            Some(Act::FailLate(wait, failure)) => {
                tokio::time::sleep(wait).await;
                Err(failure)
            }
        }
    }
}
