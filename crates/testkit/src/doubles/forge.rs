//! A forge whose pull requests are in memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use dalsegno_core::{Failure, HandoffPolicy, PullRequest};
use dalsegno_engine::{Context, Draft, Forge, ForgeError, Forges, Pull, PullState};

use crate::forge::state::State;
use crate::forge::{Account, OURS, Opened, StoredPull};

/// Owner of the repository.
const OWNER: &str = "acme";
/// Most characters of a title and of a body.
const LONGEST: (usize, usize) = (256, 65_536);

/// A call of the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForgeCall {
    /// [`Forge::open_draft`].
    Open,
    /// [`Forge::find`].
    Find,
    /// [`Forge::look`].
    Look,
    /// [`Forge::mark_ready`].
    Ready,
    /// [`Forge::close`].
    Close,
}

/// What a call does instead of what it should. A call that only reads fails with the failure, whichever it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForgeFault {
    /// Changes nothing, and says so.
    NotApplied(Failure),
    /// Says that nobody knows.
    Unknown {
        /// Whether it changes what it should.
        applied: bool,
        /// Why.
        failure: Failure,
    },
}

/// The pull requests of one repository, with the default branch `main`.
#[derive(Debug, Default)]
pub struct MemoryForge {
    state: Mutex<State>,
    faults: Mutex<Vec<(ForgeCall, ForgeFault)>>,
    calls: Mutex<Vec<ForgeCall>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn line(marker: &str) -> String {
    format!("<!-- dalsegno:{marker} -->")
}

/// Every comment is made visible here: none of it can be a marker then.
fn text(text: &str, longest: usize) -> String {
    text.replace("<!--", "&lt;!--").chars().take(longest).collect()
}

fn shown(pull: &StoredPull) -> Pull {
    let state = match (pull.merged, pull.open, pull.draft) {
        (true, _, _) => PullState::Merged,
        (false, false, _) => PullState::Closed,
        (false, true, true) => PullState::Draft,
        (false, true, false) => PullState::Open,
    };
    let url = format!("https://forge.example/{OWNER}/widgets/pull/{}", pull.number);
    Pull {
        id: PullRequest { number: pull.number, url },
        state,
        head: (pull.head_owner == OWNER).then(|| pull.head.clone()),
        ours: is_ours(pull),
    }
}

fn is_ours(pull: &StoredPull) -> bool {
    pull.author_id == OURS.id
}

fn not_ours(number: u64) -> ForgeError {
    Failure::permanent("pull_request_not_ours", format!("somebody else opened pull request {number}"))
        .hint("leave it to them")
        .into()
}

impl MemoryForge {
    /// The pull requests, oldest first.
    #[must_use]
    pub fn pulls(&self) -> Vec<StoredPull> {
        lock(&self.state).pulls.clone()
    }

    /// The calls so far, oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<ForgeCall> {
        lock(&self.calls).clone()
    }

    /// Somebody else opens a pull request into the default branch. Answers its number.
    pub fn open_as(&self, author: Account, opened: &Opened) -> u64 {
        self.state().open(&Opened { author, ..opened.clone() })
    }

    /// Somebody closes it, if it is open.
    pub fn close_as_somebody(&self, number: u64) {
        self.state().close(number);
    }

    /// Somebody merges it.
    pub fn merge_as_somebody(&self, number: u64) {
        self.state().merge(number);
    }

    /// The next call of this kind does this.
    pub fn fail_next(&self, call: ForgeCall, fault: ForgeFault) {
        lock(&self.faults).push((call, fault));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = lock(&self.state);
        if state.owner.is_empty() {
            (state.owner, state.default_branch) = (OWNER.to_owned(), "main".to_owned());
        }
        state
    }

    fn fault(&self, call: ForgeCall) -> Option<ForgeFault> {
        lock(&self.calls).push(call);
        let mut faults = lock(&self.faults);
        let at = faults.iter().position(|(about, _)| *about == call)?;
        Some(faults.remove(at).1)
    }

    fn write<T>(
        &self,
        call: ForgeCall,
        work: impl FnOnce(&mut State) -> Result<T, ForgeError>,
    ) -> Result<T, ForgeError> {
        match self.fault(call) {
            None => work(&mut self.state()),
            Some(ForgeFault::NotApplied(failure)) => Err(ForgeError::NotApplied(failure)),
            Some(ForgeFault::Unknown { applied, failure }) => {
                if applied {
                    work(&mut self.state())?;
                }
                Err(ForgeError::Unknown(failure))
            }
        }
    }

    fn read<T>(&self, call: ForgeCall, work: impl FnOnce(&State) -> T) -> Result<T, Failure> {
        match self.fault(call) {
            None => Ok(work(&self.state())),
            Some(ForgeFault::NotApplied(failure) | ForgeFault::Unknown { failure, .. }) => Err(failure),
        }
    }
}

#[async_trait]
impl Forge for MemoryForge {
    async fn open_draft(&self, draft: &Draft) -> Result<Pull, ForgeError> {
        self.write(ForgeCall::Open, |state| {
            let Draft { head, base, title, body, marker } = draft;
            let base = base.as_deref().unwrap_or(&state.default_branch).to_owned();
            let same =
                |pull: &StoredPull| pull.open && pull.head_owner == OWNER && pull.head == *head && pull.base == base;
            if state.pulls.iter().any(same) {
                let why = format!("a pull request is open for {head} into {base}");
                return Err(Failure::permanent("pull_request_exists", why).hint("close it, or take it over").into());
            }
            let marker = format!("\n\n{}", line(marker));
            let pull = StoredPull {
                number: 0,
                author: OURS.login.to_owned(),
                author_id: OURS.id,
                head_owner: OWNER.to_owned(),
                head: head.clone(),
                base,
                title: text(&title.replace('\n', " "), LONGEST.0),
                body: text(body, LONGEST.1 - marker.len()) + &marker,
                draft: true,
                open: true,
                merged: false,
            };
            let number = state.add(pull.clone());
            Ok(shown(&StoredPull { number, ..pull }))
        })
    }

    async fn find(&self, head: &str, marker: &str) -> Result<Option<Pull>, Failure> {
        let wanted = |pull: &&StoredPull| {
            is_ours(pull)
                && (pull.head_owner.as_str(), pull.head.as_str()) == (OWNER, head)
                && pull.body.lines().any(|found| found == line(marker))
        };
        self.read(ForgeCall::Find, |state| state.pulls.iter().rev().find(wanted).map(shown))
    }

    async fn look(&self, number: u64) -> Result<Option<Pull>, Failure> {
        self.read(ForgeCall::Look, |state| state.get(number).map(shown))
    }

    async fn mark_ready(&self, number: u64) -> Result<Pull, ForgeError> {
        self.write(ForgeCall::Ready, |state| {
            let Some(pull) = state.get_mut(number) else {
                return Err(Failure::permanent("forge_not_found", format!("there is no pull request {number}"))
                    .hint("look for it on the forge")
                    .into());
            };
            if !is_ours(pull) {
                return Err(not_ours(number));
            }
            if !pull.open && !pull.merged {
                return Err(Failure::permanent("pull_request_closed", format!("pull request {number} is closed"))
                    .hint("open it again")
                    .into());
            }
            pull.draft = false;
            Ok(shown(pull))
        })
    }

    async fn close(&self, number: u64) -> Result<(), ForgeError> {
        self.write(ForgeCall::Close, |state| match state.get_mut(number) {
            None => Ok(()),
            Some(pull) if !is_ours(pull) => Err(not_ours(number)),
            Some(pull) if pull.merged => {
                Err(Failure::permanent("pull_request_merged", format!("pull request {number} is merged"))
                    .hint("revert its commits")
                    .into())
            }
            Some(pull) => {
                pull.open = false;
                Ok(())
            }
        })
    }
}

/// Finds one forge for every policy.
#[derive(Debug, Default)]
pub struct DoubleForges {
    /// The forge.
    pub forge: Arc<MemoryForge>,
    broken: Mutex<Option<Failure>>,
}

impl DoubleForges {
    /// From now on it cannot be used; `None` heals it.
    pub fn fail(&self, failure: Option<Failure>) {
        *lock(&self.broken) = failure;
    }

    fn whole(&self) -> Result<(), Failure> {
        lock(&self.broken).clone().map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Forges for DoubleForges {
    fn preflight(&self, _handoff: &HandoffPolicy) -> Result<(), Failure> {
        self.whole()
    }

    async fn open(&self, _context: &Context) -> Result<Arc<dyn Forge>, Failure> {
        self.whole()?;
        Ok(Arc::clone(&self.forge) as Arc<dyn Forge>)
    }

    fn secret_environment_names(&self, handoff: &HandoffPolicy) -> Vec<String> {
        handoff.forge.iter().map(|_| "FORGE_TOKEN".to_owned()).collect()
    }
}
