//! Trackers whose issues are in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use dalsegno_core::{Failure, Issue, IssueId, Policy, state_in};
use dalsegno_engine::{Tracker, Trackers};

use super::record::Record;
use super::script::Script;

/// Makes one tracker per name (key `name` of the policy's provider).
#[derive(Debug)]
pub struct ScriptedTrackers {
    record: Arc<Record>,
    broken: Mutex<Option<Failure>>,
    trackers: Mutex<BTreeMap<String, Arc<ScriptedTracker>>>,
}

impl ScriptedTrackers {
    pub(super) fn new(record: Arc<Record>) -> Self {
        Self { record, broken: Mutex::default(), trackers: Mutex::default() }
    }

    /// The tracker of this name; made when it is first asked for.
    #[must_use]
    pub fn named(&self, name: &str) -> Arc<ScriptedTracker> {
        let mut trackers = self.trackers.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || Arc::new(ScriptedTracker::new(name, Arc::clone(&self.record)));
        Arc::clone(trackers.entry(name.to_owned()).or_insert_with(made))
    }

    /// From now on none can be opened; `None` heals it.
    pub fn fail(&self, failure: Option<Failure>) {
        *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }
}

impl Trackers for ScriptedTrackers {
    fn open(&self, policy: &Policy) -> Result<Arc<dyn Tracker>, Failure> {
        if let Some(failure) = self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Err(failure);
        }
        let name = policy.tracker.provider.get("name").and_then(serde_json::Value::as_str).unwrap_or("main");
        self.record.look("trackers.open", name);
        Ok(self.named(name))
    }
}

/// One tracker.
#[derive(Debug)]
pub struct ScriptedTracker {
    name: String,
    record: Arc<Record>,
    issues: Mutex<BTreeMap<IssueId, Issue>>,
    /// By marker.
    comments: Mutex<BTreeMap<(IssueId, String), String>>,
    malformed: Mutex<BTreeSet<IssueId>>,
    /// What reads by state do; without a line they tell what is there.
    pub by_states: Script<Vec<Issue>>,
    /// What reads by id do.
    pub by_ids: Script<Vec<Issue>>,
    /// What comments do.
    pub comment: Script<()>,
    /// What moves do.
    pub transition: Script<String>,
    /// What making issues does, by title.
    pub create: Script<String>,
}

impl ScriptedTracker {
    fn new(name: &str, record: Arc<Record>) -> Self {
        Self {
            name: name.to_owned(),
            record,
            issues: Mutex::default(),
            comments: Mutex::default(),
            malformed: Mutex::default(),
            by_states: Script::default(),
            by_ids: Script::default(),
            comment: Script::default(),
            transition: Script::default(),
            create: Script::default(),
        }
    }

    fn issues(&self) -> MutexGuard<'_, BTreeMap<IssueId, Issue>> {
        self.issues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an issue there, or changes it.
    pub fn put(&self, issue: Issue) {
        self.issues().insert(issue.id.clone(), issue);
    }

    /// Half of an issue is saved: a read by id that asks for it fails as a whole, and a read by state does not see it.
    pub fn spoil(&self, issue: &str) {
        self.malformed.lock().unwrap_or_else(PoisonError::into_inner).insert(IssueId::from(issue));
    }

    /// What was commented on an issue.
    #[must_use]
    pub fn comments(&self, issue: &str) -> Vec<String> {
        let comments = self.comments.lock().unwrap_or_else(PoisonError::into_inner);
        comments.iter().filter(|((of, _), _)| of.as_str() == issue).map(|(_, body)| body.clone()).collect()
    }

    /// State of an issue.
    #[must_use]
    pub fn state(&self, issue: &str) -> Option<String> {
        self.issues().get(&IssueId::from(issue)).map(|issue| issue.state.clone())
    }
}

#[async_trait]
impl Tracker for ScriptedTracker {
    fn remember(&self, _known: &[(IssueId, String)]) {}

    async fn fetch_issues_by_states(&self, states: &[String]) -> Result<Vec<Issue>, Failure> {
        self.record.look("tracker.fetch_issues_by_states", &self.name);
        let malformed = self.malformed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let seen = |issue: &&Issue| state_in(&issue.state, states) && !malformed.contains(&issue.id);
        let there = || Ok(self.issues().values().filter(seen).cloned().collect());
        self.by_states.play("", there).await
    }

    async fn fetch_issues_by_ids(&self, ids: &[IssueId]) -> Result<Vec<Issue>, Failure> {
        self.record.look("tracker.fetch_issues_by_ids", &self.name);
        let malformed = self.malformed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let there = || match ids.iter().find(|id| malformed.contains(*id)) {
            Some(id) => Err(Failure::retryable("tracker_response", format!("{id} is half of an issue"))),
            None => Ok(ids.iter().filter_map(|id| self.issues().get(id).cloned()).collect()),
        };
        self.by_ids.play("", there).await
    }

    async fn comment(&self, issue: &IssueId, body: &str, marker: &str) -> Result<(), Failure> {
        self.record.effect("comment", issue);
        self.comment.play(issue.as_str(), || Ok(())).await?;
        let mut comments = self.comments.lock().unwrap_or_else(PoisonError::into_inner);
        comments.entry((issue.clone(), marker.to_owned())).or_insert_with(|| body.to_owned());
        Ok(())
    }

    async fn has_comment(&self, issue: &IssueId, marker: &str) -> Result<bool, Failure> {
        let comments = self.comments.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(comments.contains_key(&(issue.clone(), marker.to_owned())))
    }

    async fn transition(&self, issue: &IssueId, to: &str, unless: &[String]) -> Result<String, Failure> {
        self.record.effect("move_issue", issue);
        let moved = || {
            let mut issues = self.issues();
            let gone = || Failure::permanent("issue_not_found", "the issue is gone");
            let issue = issues.get_mut(issue).ok_or_else(gone)?;
            if !state_in(&issue.state, unless) {
                to.clone_into(&mut issue.state);
            }
            Ok(issue.state.clone())
        };
        self.transition.play(issue.as_str(), moved).await
    }

    async fn create(&self, title: &str, description: &str, marker: &str) -> Result<String, Failure> {
        let id = IssueId::from(marker);
        self.record.effect("create_issue", &id);
        let made = || {
            let mut issues = self.issues();
            let identifier = format!("MADE-{}", issues.len() + 1);
            let new = || {
                let mut issue = Issue::new(id.clone(), identifier, title, "Todo");
                issue.description = Some(description.to_owned());
                issue
            };
            Ok(issues.entry(id.clone()).or_insert_with(new).identifier.clone())
        };
        self.create.play(title, made).await
    }

    fn secret_environment_names(&self) -> Vec<String> {
        vec!["TRACKER_TOKEN".to_owned()]
    }
}
