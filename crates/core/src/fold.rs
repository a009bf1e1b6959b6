//! The fold with the rows of the projections that follow from it: what an event changes of them, and how they look after it.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Event, Recorded};
use crate::ids::{IssueId, RunId};
use crate::state::{IllegalEvent, State};
use crate::view::{DaemonView, End, IssueView, RunView, UsageView, View};

/// Every row of the projections that a state has by itself. Rows of what has ended are not among them.
#[must_use]
pub fn views(state: &State) -> Vec<View> {
    let issues = state.issues.values().map(|entry| View::Issue(Box::new(IssueView::of(state, entry))));
    let runs = state.runs.keys().filter_map(|run| run_view(state, run));
    let usage = state.runs.values().flat_map(|run| UsageView::of(run, state));
    let usage = usage.map(|row| View::Usage(Box::new(row)));
    issues.chain(runs).chain(usage).chain([View::Daemon(Box::new(DaemonView::of(state)))]).collect()
}

/// Adds an event to the state, and answers the rows that it changed, as they are after it.
///
/// The rows of a batch are those of its last event that changed them; only the time at which a row of an issue was made may be that of a
/// later event of the batch.
///
/// # Errors
/// [`IllegalEvent`], as [`State::apply`].
pub fn apply_with_views(state: &mut State, recorded: &Recorded) -> Result<Vec<View>, IllegalEvent> {
    let mut touched = Touched::default();
    touched.before(state, recorded);
    state.apply(recorded)?;
    touched.after(state, &recorded.event);
    Ok(touched.views(state))
}

/// What changed since the last batch, and so has to be projected.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    issues: BTreeSet<IssueId>,
    runs: BTreeSet<RunId>,
    ended: Vec<RunView>,
    usage: BTreeMap<(RunId, u32, u32), UsageView>,
    daemon: bool,
}

impl Touched {
    /// Notes what an event is going to change.
    pub(crate) fn before(&mut self, state: &State, recorded: &Recorded) {
        let Recorded { seq: _, at, event } = recorded;
        if let Some(issue) = event.issue() {
            self.issues.insert(issue.clone());
        }
        if let Some(run) = event.run() {
            self.runs.insert(run.clone());
            if let Some(run) = state.runs.get(run) {
                self.issues.insert(run.issue.clone());
            }
        }
        if let Event::RunEnded { run, outcome, reason, evidence } = event
            && let Some(run) = state.runs.get(run)
        {
            let end = End { outcome: *outcome, reason: reason.as_ref(), evidence: evidence.as_ref(), at: *at };
            self.ended.push(RunView::ended(run, identifier(state, &run.issue), &end));
        }
        self.daemon |= matches!(
            event,
            Event::DaemonStarted { .. }
                | Event::JournalRestored { .. }
                | Event::WorkflowLoaded { .. }
                | Event::WorkflowRejected { .. }
                | Event::TrackerHealth { .. }
                | Event::Usage { .. }
                | Event::RunEnded { .. }
        );
    }

    /// Notes what an event has changed.
    pub(crate) fn after(&mut self, state: &State, event: &Event) {
        if let Event::Usage { run, .. } | Event::TurnEnded { run, .. } | Event::TurnStarted { run, repeated: true, .. } =
            event
            && let Some(run) = state.runs.get(run)
        {
            for row in UsageView::of(run, state) {
                self.usage.insert((row.run.clone(), row.turn, row.place), row);
            }
        }
    }

    /// The rows, as they are now.
    pub(crate) fn views(self, state: &State) -> Vec<View> {
        let Self { issues, runs, ended, usage, daemon } = self;
        let issue = |id: IssueId| match state.issues.get(&id) {
            Some(entry) => View::Issue(Box::new(IssueView::of(state, entry))),
            None => View::IssueGone(id),
        };
        let mut views: Vec<View> = issues.into_iter().map(issue).collect();
        views.extend(ended.into_iter().map(|view| View::Run(Box::new(view))));
        views.extend(runs.iter().filter_map(|run| run_view(state, run)));
        views.extend(usage.into_values().map(|row| View::Usage(Box::new(row))));
        if daemon {
            views.push(View::Daemon(Box::new(DaemonView::of(state))));
        }
        views
    }
}

fn run_view(state: &State, run: &RunId) -> Option<View> {
    let run = state.runs.get(run)?;
    Some(View::Run(Box::new(RunView::of(run, identifier(state, &run.issue)))))
}

fn identifier<'a>(state: &'a State, issue: &IssueId) -> &'a str {
    state.issues.get(issue).map_or("", |entry| &entry.issue.identifier)
}
