//! `dalsegno validate`

use std::path::PathBuf;
use std::sync::Arc;

use dalsegno_adapters::workflow::{Loaded, WorkflowFile};
use dalsegno_adapters::workspace::LocalWorkspaces;
use dalsegno_core::{Failure, Issue};
use dalsegno_engine::{Workflow, policy_hash};

use crate::cli::Common;
use crate::error::CliError;
use crate::{daemon, out, settings, unread};

/// Check WORKFLOW.md as a start would, and name keys that nothing reads
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// The workflow file [default: WORKFLOW.md]
    #[arg(value_name = "WORKFLOW.md")]
    file: Option<PathBuf>,
}

pub(crate) fn run(args: Args, common: &Common) -> Result<(), CliError> {
    let path = settings::workflow_file(args.file.as_deref(), common)?;
    let file = Arc::new(WorkflowFile::new(&path));
    let loaded = file.load_full()?;
    let problems = template_problems(file.as_ref(), &loaded);
    if let Some((first, others)) = problems.split_first() {
        let error = CliError::from(first.clone());
        let others: Vec<String> = others.iter().map(ToString::to_string).collect();
        return Err(if others.is_empty() { error } else { error.why(format!("and also: {}", others.join("; "))) });
    }
    let workspaces = LocalWorkspaces::new(settings::state_dir_of(&path), file.clone());
    let runtime = super::runtime()?;
    runtime.block_on(daemon::preflight(&loaded.policy, &workspaces))?;
    let hash = policy_hash(&loaded.policy);
    if common.json {
        let unknown: Vec<serde_json::Value> = loaded
            .unknown_keys
            .iter()
            .map(|key| serde_json::json!({"key": key.path, "nearest": key.nearest}))
            .collect();
        out::json(&serde_json::json!({"valid": true, "policy": hash, "unknown_keys": unknown}));
        return Ok(());
    }
    out::line(&format!("{} is valid (policy {}).", path.display(), hash.as_str().get(..12).unwrap_or_default()));
    for key in &loaded.unknown_keys {
        out::line(&format!("  but {}", unread::words(key)));
    }
    Ok(())
}

/// What the load says of the templates, and what comes of rendering each for an issue that has everything: what is
/// unknown shows before an issue meets it.
fn template_problems(workflow: &dyn Workflow, loaded: &Loaded) -> Vec<Failure> {
    let Loaded { policy, server: _, unknown_keys: _, template_problems } = loaded;
    let mut problems = template_problems.clone();
    let issue = sample();
    let comment = policy.handoff.as_ref().and_then(|handoff| handoff.comment.as_deref());
    let templates = [Some(policy.prompt_template.as_str()), Some(&policy.workspace.branch), comment];
    for template in templates.into_iter().flatten() {
        let rendered = [None, Some(1)].into_iter().find_map(|attempt| workflow.render(template, &issue, attempt).err());
        // A template that cannot be parsed is told by the load, with its place.
        let told = |failure: &Failure| problems.iter().any(|known| known.code == failure.code);
        if let Some(failure) = rendered.filter(|failure| failure.code != "template_parse_error" || !told(failure)) {
            problems.push(failure);
        }
    }
    problems
}

fn sample() -> Issue {
    Issue {
        description: Some("Its description.".to_owned()),
        priority: Some(1),
        branch_name: Some("sample".to_owned()),
        url: Some("http://localhost/".to_owned()),
        assignee_id: Some("somebody".to_owned()),
        labels: vec!["label".to_owned()],
        ..Issue::new("sample", "SAMPLE-1", "A sample", "Todo")
    }
}
