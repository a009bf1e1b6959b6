//! `dalsegno issue`

use dalsegno_adapters::tracker::local::{LocalTracker, NewIssue};
use dalsegno_adapters::workflow::{WorkflowFile, process_environment};
use dalsegno_core::{Failure, Issue};
use dalsegno_engine::Tracker as _;

use super::{issues, show};
use crate::cli::Common;
use crate::error::CliError;
use crate::out;
use crate::settings::{self, Settings};

/// Look at issues, and write those of the local tracker
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: IssueVerb,
}

#[derive(Debug, clap::Subcommand)]
enum IssueVerb {
    /// Show one issue
    Show(show::IssueArgs),
    /// List the issues that the daemon knows
    List(issues::Args),
    /// Write a new issue
    New(New),
    /// Move an issue to another state
    Move {
        /// Identifier or id
        issue: String,
        /// The state, as the tracker spells it
        state: String,
    },
    /// Comment on an issue
    Comment {
        /// Identifier or id
        issue: String,
        /// The comment
        body: String,
        /// Who says it [default: the user's name]
        #[arg(long)]
        author: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct New {
    /// One line
    title: String,
    /// The body
    #[arg(long, short)]
    description: Option<String>,
    /// State [default: the first active one]
    #[arg(long)]
    state: Option<String>,
    /// 1 (most urgent) to 4
    #[arg(long)]
    priority: Option<i64>,
    /// A label; may be given again
    #[arg(long = "label")]
    labels: Vec<String>,
    /// Identifier of an issue that must be terminal first; may be given again
    #[arg(long = "blocked-by")]
    blocked_by: Vec<String>,
    /// Identifier of the parent
    #[arg(long)]
    parent: Option<String>,
    /// Who it is assigned to
    #[arg(long)]
    assignee: Option<String>,
}

pub(crate) fn run(args: Args, common: &Common) -> Result<(), CliError> {
    match args.verb {
        IssueVerb::Show(args) => show::issue(&args.issue, &Settings::resolve(common)?),
        IssueVerb::List(args) => issues::run(args, &Settings::resolve(common)?),
        IssueVerb::New(new) => write(common, async |tracker| {
            let New { title, description, state, priority, labels, blocked_by, parent, assignee } = new;
            let new = NewIssue { title, description, state, priority, labels, blocked_by, parent, assignee };
            let identifier = tracker.new_issue(new).await?;
            let file = tracker.folder().join(format!("{identifier}.md"));
            Ok((format!("{identifier} is written to {}", file.display()), identifier))
        }),
        IssueVerb::Move { issue, state } => write(common, async |tracker| {
            let found = known(&tracker, &issue).await?;
            let now = tracker.transition(&found.id, &state, &[]).await?;
            Ok((format!("{} is in state {now}", found.identifier), found.identifier))
        }),
        IssueVerb::Comment { issue, body, author } => write(common, async |tracker| {
            let found = known(&tracker, &issue).await?;
            let author = author.unwrap_or_else(settings::user);
            tracker.comment_as(&found.id, &author, &body, None).await?;
            Ok((format!("{} has the comment", found.identifier), found.identifier))
        }),
    }
}

/// Does something to the local tracker of the project, with or without a daemon: both keep to its rules for editors.
fn write(
    common: &Common,
    act: impl AsyncFnOnce(LocalTracker) -> Result<(String, String), Failure>,
) -> Result<(), CliError> {
    let path = settings::project_workflow(common)?;
    let loaded = WorkflowFile::new(&path).load_full()?;
    must_be_local(&loaded.policy.tracker.kind)?;
    let tracker = LocalTracker::open(&loaded.policy, &process_environment())?;
    let runtime = super::runtime()?;
    let (said, identifier) = runtime.block_on(act(tracker))?;
    if common.json {
        out::json(&serde_json::json!({"identifier": identifier}));
    } else {
        out::line(&said);
    }
    Ok(())
}

/// These verbs write files; issues that another tracker has are written there.
fn must_be_local(kind: &str) -> Result<(), CliError> {
    if kind == "local" {
        return Ok(());
    }
    let what = format!("tracker.kind is {kind:?}, and this verb writes the files of the local tracker");
    Err(CliError::new("unsupported_tracker_kind", what).hint("write, move or comment on the issue in its own tracker"))
}

async fn known(tracker: &LocalTracker, key: &str) -> Result<Issue, Failure> {
    match tracker.show(key).await? {
        Some((issue, _)) => Ok(issue),
        None => Err(Failure::permanent("issue_not_found", format!("there is no issue {key:?}"))
            .hint("`dalsegno issues` lists those that the daemon knows")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_for_the_local_tracker_alone() {
        assert_eq!(must_be_local("local"), Ok(()));
        assert!(must_be_local("linear").is_err_and(|error| error.exit_code() == dalsegno_api::exit::FAILURE));
    }
}
