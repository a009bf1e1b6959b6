//! Workspaces, processes, transcripts and WORKFLOW.md in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use dalsegno_core::{
    CommitId, EffectOutput, Failure, FileReceipt, Hook, Inspection, Issue, LookFor, Mend, Policy, ProbeAnswer,
    Receiver, RunId, Timestamp, Work, Workspace,
};
use dalsegno_engine::{
    Blobs, Change, ChangeWanted, Changes, Checked, Context, Delivery, FileOwner, Heard, Inspector, NewFile,
    Notification, Notifier, Processes, TranscriptEntry, Transcripts, Webhooks, Workflow, Workspaces,
};

use super::record::Record;
use super::script::Script;

/// Workspaces in which every turn makes a commit.
#[derive(Debug)]
pub struct ScriptedWorkspaces {
    record: Arc<Record>,
    /// What is said of a policy before it is taken.
    pub preflight: Script<()>,
    /// What making one does.
    pub prepare: Script<()>,
    /// What a hook does.
    pub hook: Script<String>,
    /// What a look at the work does.
    pub inspect: Script<Work>,
    /// What taking the commit does.
    pub fetch: Script<()>,
    /// What a check does: passed or not.
    pub check: Script<bool>,
    /// Where the remote's branch is.
    pub tip: Script<Option<CommitId>>,
    /// What a push does.
    pub push: Script<()>,
    /// What taking it back does.
    pub undo_push: Script<()>,
    /// What bringing the remote's branch does.
    pub bring: Script<()>,
    /// What the remote says about a push in doubt: done or not.
    pub probe_push: Script<bool>,
    /// What removing one does.
    pub remove: Script<()>,
    /// What a look at a change does.
    pub change: Script<Change>,
}

impl ScriptedWorkspaces {
    pub(super) fn new(record: Arc<Record>) -> Self {
        Self {
            record,
            preflight: Script::default(),
            prepare: Script::default(),
            hook: Script::default(),
            inspect: Script::default(),
            fetch: Script::default(),
            check: Script::default(),
            tip: Script::default(),
            push: Script::default(),
            undo_push: Script::default(),
            bring: Script::default(),
            probe_push: Script::default(),
            remove: Script::default(),
            change: Script::default(),
        }
    }

    fn note(&self, context: &Context) -> String {
        let issue = &context.request.issue.id;
        self.record.effect(context.request.effect.kind(), issue);
        issue.0.clone()
    }
}

fn head() -> CommitId {
    CommitId("c".repeat(40))
}

#[async_trait]
impl Changes for ScriptedWorkspaces {
    async fn change(&self, _policy: &Policy, wanted: &ChangeWanted) -> Result<Change, Failure> {
        let change =
            Change { head: Some(head()), base: wanted.base.clone(), from_workspace: true, ..Change::default() };
        self.change.play(wanted.run.as_str(), || Ok(change)).await
    }
}

#[async_trait]
impl Workspaces for ScriptedWorkspaces {
    async fn preflight(&self, _policy: &Policy) -> Result<(), Failure> {
        self.preflight.play("", || Ok(())).await
    }

    async fn prepare(&self, context: &Context, _fresh: bool) -> Result<(Workspace, bool), Failure> {
        let issue = self.note(context);
        self.prepare.play(&issue, || Ok(())).await?;
        let workspace = Workspace {
            path: format!("/workspaces/{issue}"),
            branch: Some(format!("dalsegno/{issue}")),
            base_commit: Some(CommitId("b".repeat(40))),
            made_by: None,
        };
        Ok((workspace, context.request.workspace.is_none()))
    }

    async fn run_hook(&self, context: &Context, _hook: Hook) -> Result<String, Failure> {
        let issue = self.note(context);
        self.hook.play(&issue, || Ok(String::new())).await
    }

    async fn commit_leftovers(&self, context: &Context) -> Result<bool, Failure> {
        self.note(context);
        Ok(false)
    }

    async fn fetch_commit(&self, context: &Context) -> Result<CommitId, Failure> {
        let issue = self.note(context);
        self.fetch.play(&issue, || Ok(())).await?;
        Ok(head())
    }

    async fn run_check(&self, context: &Context, _commit: &CommitId, _command: &str) -> Result<Checked, Failure> {
        let issue = self.note(context);
        let passed = self.check.play(&issue, || Ok(true)).await?;
        Ok(Checked { passed, output: "checked\n".to_owned() })
    }

    async fn remote_tip(&self, context: &Context) -> Result<Option<CommitId>, Failure> {
        let issue = context.request.issue.id.as_str();
        self.record.look("workspaces.remote_tip", issue);
        self.tip.play(issue, || Ok(None)).await
    }

    async fn branch_tip(&self, context: &Context) -> Result<Option<CommitId>, Failure> {
        let issue = context.request.issue.id.as_str();
        self.record.look("workspaces.branch_tip", issue);
        self.tip.play(issue, || Ok(None)).await
    }

    async fn push(
        &self,
        context: &Context,
        _commit: &CommitId,
        _expected: Option<&CommitId>,
        _seen: Option<Option<&CommitId>>,
    ) -> Result<(), Failure> {
        let issue = &context.request.issue.id;
        self.record.effect("push", issue);
        self.push.play(issue.as_str(), || Ok(())).await
    }

    async fn undo_push(
        &self,
        context: &Context,
        _commit: &CommitId,
        _before: Option<&CommitId>,
    ) -> Result<(), Failure> {
        let issue = &context.request.issue.id;
        self.record.effect("undo_push", issue);
        self.undo_push.play(issue.as_str(), || Ok(())).await
    }

    async fn bring_remote(&self, context: &Context) -> Result<CommitId, Failure> {
        let issue = self.note(context);
        self.bring.play(&issue, || Ok(())).await?;
        Ok(CommitId("d".repeat(40)))
    }

    async fn probe_push(&self, context: &Context, _commit: &CommitId) -> ProbeAnswer {
        self.record.look("workspaces.probe_push", context.request.issue.id.as_str());
        match self.probe_push.play(context.request.issue.id.as_str(), || Ok(false)).await {
            Ok(true) => ProbeAnswer::Applied(EffectOutput::Pushed),
            Ok(false) => ProbeAnswer::NotApplied,
            Err(failure) => ProbeAnswer::Inconclusive(failure),
        }
    }

    async fn remove(&self, context: &Context, _handed_off: Option<&CommitId>) -> Result<Option<String>, Failure> {
        let issue = self.note(context);
        self.remove.play(&issue, || Ok(())).await.map(|()| None)
    }

    async fn unlock(&self, _policy: &Policy, workspace: &Workspace) -> Result<(), Failure> {
        self.record.look("workspaces.unlock", &workspace.path);
        Ok(())
    }

    async fn inspect(
        &self,
        _policy: &Policy,
        workspace: &Workspace,
        _since: Option<&CommitId>,
    ) -> Result<Work, Failure> {
        self.record.look("workspaces.inspect", &workspace.path);
        let there = || Ok(Work { head: Some(head()), has_commits: true, uncommitted: Vec::new(), diff_digest: None });
        self.inspect.play("", there).await
    }
}

/// A machine on which nothing has to be killed.
#[derive(Debug)]
pub struct ScriptedProcesses {
    record: Arc<Record>,
    /// What a sweep does, by mark: how many it killed.
    pub sweep: Script<u32>,
}

impl ScriptedProcesses {
    pub(super) fn new(record: Arc<Record>) -> Self {
        Self { record, sweep: Script::default() }
    }
}

#[async_trait]
impl Processes for ScriptedProcesses {
    async fn sweep(&self, mark: &str) -> Result<u32, Failure> {
        self.record.look("processes.sweep", mark);
        self.sweep.play(mark, || Ok(0)).await
    }
}

/// Kept files in memory.
#[derive(Debug, Default)]
pub struct BlobMemory {
    kept: Mutex<BTreeMap<String, Vec<u8>>>,
    /// What keeping files of a run does, by the run.
    pub keep: Script<()>,
}

impl BlobMemory {
    /// The content of a kept file.
    #[must_use]
    pub fn content(&self, file: &str) -> Option<Vec<u8>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(file).cloned()
    }
}

#[async_trait]
impl Blobs for BlobMemory {
    async fn keep(&self, owner: FileOwner, files: Vec<NewFile>) -> Result<Vec<FileReceipt>, Failure> {
        self.keep.play(owner.run.as_str(), || Ok(())).await?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = kept.len() + 1;
        let keep = |(place, file): (usize, NewFile)| {
            let (bytes, name) = (file.content.len() as u64, format!("{batch}-{place}-{}", file.name));
            let receipt = FileReceipt { file: name.clone(), sha256: format!("of {name}"), bytes };
            kept.insert(name, file.content);
            receipt
        };
        Ok(files.into_iter().enumerate().map(keep).collect())
    }
}

/// A world in which nothing is astray.
#[derive(Debug)]
pub struct ScriptedInspector {
    record: Arc<Record>,
    /// What a look sees.
    pub inspect: Script<Inspection>,
    /// What a mend does, by its member.
    pub mend: Script<String>,
}

impl ScriptedInspector {
    pub(super) fn new(record: Arc<Record>) -> Self {
        Self { record, inspect: Script::default(), mend: Script::default() }
    }
}

#[async_trait]
impl Inspector for ScriptedInspector {
    async fn inspect(&self, _wanted: &LookFor, _policy: &Policy) -> Inspection {
        self.record.look("inspector.inspect", "");
        let clear = || Ok(Inspection::clear(u64::MAX));
        self.inspect.play("", clear).await.unwrap_or_else(|failure| Inspection::failed(&failure))
    }

    async fn mend(&self, context: &Context, mend: &Mend) -> Result<String, Failure> {
        self.record.effect("mend", &context.request.issue.id);
        self.mend.play(mend.member(), || Ok("mended".to_owned())).await
    }
}

/// Receivers outside, by the address or command that they have.
#[derive(Debug)]
pub struct ScriptedNotifier {
    record: Arc<Record>,
    /// What telling one does, by its address or command.
    pub tell: Script<()>,
}

impl ScriptedNotifier {
    pub(super) fn new(record: Arc<Record>) -> Self {
        Self { record, tell: Script::default() }
    }
}

#[async_trait]
impl Notifier for ScriptedNotifier {
    fn preflight(&self, _: &Policy) -> Result<(), Failure> {
        Ok(())
    }

    async fn notify(&self, _: &Context, receiver: &Receiver, message: &Notification) -> Result<(), Failure> {
        let (Receiver::Webhook { address: name, .. }
        | Receiver::Slack { address: name }
        | Receiver::Command { command: name }) = receiver;
        self.record.look("notifier.notify", &format!("{name} {}", message.id));
        self.tell.play(name, || Ok(())).await
    }

    fn secret_environment_names(&self, _: &Policy) -> Vec<String> {
        Vec::new()
    }
}

/// No service is known.
#[derive(Debug, Default)]
pub struct NoWebhooks;

impl Webhooks for NoWebhooks {
    fn preflight(&self, _: &Policy) -> Result<(), Failure> {
        Ok(())
    }

    fn read(&self, _: &Policy, _: &Delivery, _: Timestamp) -> Result<Heard, Failure> {
        Err(Failure::permanent("webhook_not_configured", "no service is known"))
    }

    fn secret_environment_names(&self, _: &Policy) -> Vec<String> {
        Vec::new()
    }
}

/// Transcripts in memory.
#[derive(Debug, Default)]
pub struct TranscriptMemory {
    entries: Mutex<Vec<(RunId, TranscriptEntry)>>,
}

impl TranscriptMemory {
    /// Everything that was written.
    #[must_use]
    pub fn entries(&self) -> Vec<(RunId, TranscriptEntry)> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Transcripts for TranscriptMemory {
    fn append(&self, run: &RunId, entry: TranscriptEntry) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push((run.clone(), entry));
    }
}

/// WORKFLOW.md as it was set last; templates are rendered to themselves.
#[derive(Debug)]
pub struct ScriptedWorkflow {
    policy: Mutex<Result<Policy, Failure>>,
    changed: AtomicBool,
}

impl ScriptedWorkflow {
    pub(super) fn new(policy: Policy) -> Self {
        Self { policy: Mutex::new(Ok(policy)), changed: AtomicBool::new(false) }
    }

    /// Somebody saves the file: a good one or a broken one.
    pub fn save(&self, policy: Result<Policy, Failure>) {
        *self.policy.lock().unwrap_or_else(PoisonError::into_inner) = policy;
        self.changed.store(true, Ordering::SeqCst);
    }
}

impl Workflow for ScriptedWorkflow {
    fn load(&self) -> Result<Policy, Failure> {
        self.changed.store(false, Ordering::SeqCst);
        self.policy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn changed(&self) -> bool {
        self.changed.load(Ordering::SeqCst)
    }

    fn render(&self, template: &str, _issue: &Issue, _attempt: Option<u32>) -> Result<String, Failure> {
        Ok(template.to_owned())
    }
}
