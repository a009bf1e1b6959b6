//! `dalsegno diff`

use std::io::IsTerminal as _;

use dalsegno_api::{FileDiff, RunDiff};

use super::logs::run_of;
use crate::error::CliError;
use crate::settings::{Settings, color};
use crate::text::{bold, clean, clean_lines, columns, commit, dim, short};
use crate::{out, reader};

/// Show what a run changed: its workspace compared with what it began with
///
/// Shows what is not committed as well. Where the workspace is gone or a later run works in it, what was handed over is shown. Needs a
/// running daemon. What goes to a file or a pipe is a patch.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Count lines by file, and show no patch
    #[arg(long)]
    stat: bool,
    /// Name of a run, or identifier or id of an issue: then its latest run
    #[arg(value_name = "RUN|ISSUE")]
    key: String,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let client = reader::open(&settings.state_dir)?;
    let run = run_of(&client, &args.key)?;
    let diff = client.diff(&run)?;
    if settings.json {
        out::json(&diff);
        return Ok(());
    }
    let to_people = std::io::stdout().is_terminal();
    if args.stat || to_people {
        lines(&diff, args.stat, color()).iter().for_each(|line| out::line(line));
    } else {
        diff.files.iter().for_each(|file| out::text(&patch(file)));
        if diff.truncated {
            out::line(&format!("# {}", left_out(&diff)));
        }
    }
    Ok(())
}

fn left_out(diff: &RunDiff) -> String {
    let cut = diff.files.iter().filter(|file| file.truncated).count();
    let unnamed = diff.total_files.saturating_sub(u64::try_from(diff.files.len()).unwrap_or(u64::MAX));
    format!("not all is shown: the patches of {cut} files are cut or left out, and {unnamed} more files are not named")
}

/// The patch of a file, or a line that says why there is none.
fn patch(file: &FileDiff) -> String {
    match &file.patch {
        Some(patch) => patch.clone(),
        None => format!("# {}: {}\n", clean(&file.path), without_patch(file)),
    }
}

fn without_patch(file: &FileDiff) -> &'static str {
    match (file.binary, file.truncated) {
        (true, _) => "not text",
        (false, true) => "too large to be shown",
        (false, false) => "no lines changed",
    }
}

/// For people.
fn lines(diff: &RunDiff, stat: bool, color: bool) -> Vec<String> {
    let against = diff.base.as_deref().map_or_else(|| "nothing".to_owned(), |base| clean(commit(base)).clone());
    let what = match diff.source.as_str() {
        "workspace" => "its workspace, uncommitted work included",
        _ => "what was handed over",
    };
    let count = match diff.total_files {
        1 => "1 file".to_owned(),
        files => format!("{files} files"),
    };
    let head =
        format!("{}: {what}, against {against}: {count}, +{} −{}", clean(&diff.run), diff.additions, diff.deletions);
    let mut lines = vec![bold(&head, color)];
    for file in &diff.files {
        let name = match &file.old_path {
            Some(old) => format!("{} → {}", clean(old), clean(&file.path)),
            None => clean(&file.path),
        };
        let counts = match (file.additions, file.deletions) {
            (Some(added), Some(deleted)) => format!("+{added} −{deleted}"),
            _ => without_patch(file).to_owned(),
        };
        let title = format!("{:<13}{name}  {counts}", file.status.replace('_', " "));
        if stat {
            lines.push(format!("  {}", short(&title, columns().saturating_sub(2))));
            continue;
        }
        lines.push(String::new());
        lines.push(bold(&title, color));
        if let Some(patch) = &file.patch {
            lines.extend(
                clean_lines(patch).skip_while(|line| !line.starts_with("@@")).map(|line| painted(&line, color)),
            );
        }
        if file.truncated {
            lines.push(dim("  … not all of it is shown", color));
        }
    }
    if diff.truncated {
        lines.push(String::new());
        lines.push(dim(&left_out(diff), color));
    }
    lines
}

/// A line of a patch in the colour that people know.
fn painted(line: &str, color: bool) -> String {
    let code = match line.as_bytes().first() {
        Some(b'+') => "32",
        Some(b'-') => "31",
        Some(b'@') => "36",
        Some(_) | None => return line.to_owned(),
    };
    if color { format!("\u{1b}[{code}m{line}\u{1b}[0m") } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_titles_and_hunks_and_programs_a_patch() {
        let text = "diff --git a/a b/a\nindex 1..2\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-x\u{1b}[2J\n+\ty\n";
        let file = |path: &str, patch: Option<&str>| FileDiff {
            path: path.to_owned(),
            status: "modified".to_owned(),
            patch: patch.map(str::to_owned),
            ..FileDiff::default()
        };
        let whole = FileDiff { additions: Some(1), deletions: Some(1), ..file("a\u{7}", Some(text)) };
        let huge = FileDiff { truncated: true, ..file("huge", None) };
        let diff = RunDiff {
            run: "run-1".to_owned(),
            base: Some("0123456789abcdef".to_owned()),
            source: "workspace".to_owned(),
            total_files: 3,
            additions: 1,
            deletions: 1,
            truncated: true,
            files: vec![whole, huge],
            ..RunDiff::default()
        };
        assert_eq!(
            lines(&diff, false, false),
            [
                "run-1: its workspace, uncommitted work included, against 0123456789ab: 3 files, +1 −1",
                "",
                "modified     a  +1 −1",
                "@@ -1 +1 @@",
                "-x[2J",
                "+    y",
                "",
                "modified     huge  too large to be shown",
                "  … not all of it is shown",
                "",
                "not all is shown: the patches of 1 files are cut or left out, and 1 more files are not named",
            ]
        );
        assert!(lines(&diff, false, true).contains(&"\u{1b}[31m-x[2J\u{1b}[0m".to_owned()));
        assert_eq!(lines(&diff, true, false).len(), 5);
        let patches: String = diff.files.iter().map(patch).collect();
        assert_eq!(patches, format!("{text}# huge: too large to be shown\n"));
    }
}
