//! What is said to an agent: the workflow's template at first, and short continuations in the same session.

use dalsegno_core::{Failure, Issue, Message, Missing, Policy, PromptSpec, Work};

use crate::ports::Workflow;

/// The text of a prompt, with its marker as the last line.
///
/// # Errors
/// `template_parse_error` or `template_render_error` of the workflow's template.
pub(crate) fn compose(
    workflow: &dyn Workflow,
    policy: &Policy,
    issue: &Issue,
    prompt: &PromptSpec,
    messages: &[Message],
    work: Option<&Work>,
    marker: &str,
) -> Result<String, Failure> {
    let text = match prompt {
        PromptSpec::First { attempt } => workflow.render(&policy.prompt_template, issue, *attempt)?,
        PromptSpec::Continue { missing } => continuation(policy, issue, missing),
        PromptSpec::AfterCut => format!(
            "Your last turn on {} was cut: the orchestrator was restarted, or your process ended. What you did until then is \
             still in the workspace. Look at its state first (files, `git status`, `git log`), then go on where you were. Do not \
             start over.",
            issue.identifier
        ),
        PromptSpec::Resumed => format!(
            "The work on {} was held, and goes on now. What you did until then is still in the workspace. Look at its state first \
             (files, `git status`, `git log`), then go on where you were. Do not start over.",
            issue.identifier
        ),
        PromptSpec::Rehydrate { attempt, turns } => {
            let task = workflow.render(&policy.prompt_template, issue, *attempt)?;
            format!("{task}\n\n{}", account(*turns, work))
        }
    };
    let said: String = messages.iter().map(|message| format!("\n\n{}", said(message))).collect();
    Ok(format!("{text}{said}\n\n{}", marker_line(marker)))
}

/// Words of an operator, as the agent hears them.
pub(crate) fn said(message: &Message) -> String {
    let Message { by, text, question, unsure, action_id: _ } = message;
    let again = if *unsure { " (you may have heard this already)" } else { "" };
    match question {
        Some(question) => format!("You asked:\n{question}\nThe answer of {by}{again}:\n{text}"),
        None => format!("{by}, who oversees this work, says{again}:\n{text}"),
    }
}

/// How a marker looks in a prompt.
pub(crate) fn marker_line(marker: &str) -> String {
    format!("<!-- dalsegno:{marker} -->")
}

fn continuation(policy: &Policy, issue: &Issue, missing: &Missing) -> String {
    let branch_rule = "Commit your work to the current branch; do not push.";
    match missing {
        Missing::NoCommit => {
            format!(
                "The work on {} is not ready to be handed over: nothing is committed yet. {branch_rule}",
                issue.identifier
            )
        }
        Missing::Uncommitted { files } => format!(
            "The work on {} is not ready to be handed over: these files are not committed:\n{}\n{branch_rule}",
            issue.identifier,
            files.iter().map(|file| format!("- {file}")).collect::<Vec<_>>().join("\n")
        ),
        Missing::CheckFailed { command, output_tail } => format!(
            "The work on {} is not ready to be handed over: the check `{command}` fails on a clean checkout of your \
             last commit. The end of its output:\n\n{fence}\n{output_tail}\n{fence}\n\nMend it. {branch_rule}",
            issue.identifier,
            fence = fence(output_tail)
        ),
        Missing::Diverged { remote } => format!(
            "The work on {} cannot be handed over yet: somebody else pushed commits to its branch. They are in this \
             repository: {remote}, the tip of the branch's remote-tracking ref. Merge that commit (`git merge {remote}`), \
             keep what it is meant to do, and see that everything still works. Do not rebase. {branch_rule}",
            issue.identifier
        ),
        Missing::Messages => format!(
            "Before the work on {} is handed over, there is something to consider. {branch_rule}",
            issue.identifier
        ),
        Missing::StillActive => format!(
            "The issue {} is still active ({}). Go on with it; this run has at most {} turns. If you are through, say \
             so and move the issue on.",
            issue.identifier, issue.state, policy.agent.max_turns
        ),
    }
}

fn account(turns: u32, work: Option<&Work>) -> String {
    let mut text = format!(
        "You take over from an earlier session on this issue that had {turns} turn(s) and is lost. Its work is in this \
         workspace: look at it first (`git log`, `git status`, `git diff`) and go on from there. Do not start over."
    );
    if let Some(work) = work {
        if let Some(head) = &work.head {
            text.push_str(&format!("\nHead is {head}."));
        }
        if work.has_commits {
            text.push_str(" There are commits of that session on the branch.");
        }
        if !work.uncommitted.is_empty() {
            text.push_str("\nUncommitted files:");
            for file in &work.uncommitted {
                text.push_str(&format!("\n- {file}"));
            }
        }
    }
    text
}

/// A code fence that nothing inside can close.
fn fence(text: &str) -> String {
    let longest = text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

#[cfg(test)]
mod tests {
    use super::fence;

    #[test]
    fn a_fence_is_longer_than_any_inside() {
        assert_eq!(fence("plain"), "```");
        assert_eq!(fence("a ``` b ````` c"), "``````");
    }
}
