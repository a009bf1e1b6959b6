//! Errors as people and scripts see them: code, what, why, what to do, exit code.

use std::io::{self, Write};
use std::path::Path;

use dalsegno_api::{ClientError, ErrorBody, ErrorDetail, code, exit};
use dalsegno_core::{CorruptJournal, Failure};
use dalsegno_engine::DriverError;
use dalsegno_store::StoreError;

use crate::text::clean;

/// Why a verb ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CliError(Box<Report>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Report {
    detail: ErrorDetail,
    why: Option<String>,
    exit: u8,
}

impl CliError {
    /// An error with this code; exit code 1.
    pub(crate) fn new(code: &str, what: impl Into<String>) -> Self {
        Self(Box::new(Report { detail: ErrorDetail::new(code, what), why: None, exit: exit::FAILURE }))
    }

    /// What the operating system refused.
    pub(crate) fn io(code: &str, error: &io::Error) -> Self {
        Self::new(code, error.to_string())
    }

    /// A file that could not be written.
    pub(crate) fn unwritable(code: &str, path: &Path, error: &io::Error) -> Self {
        Self::new(code, format!("{} cannot be written: {error}", path.display()))
            .hint("see whether its disk has room and is mounted for writing, and who may write there")
    }

    /// The same error with its cause.
    pub(crate) fn why(mut self, why: impl std::fmt::Display) -> Self {
        self.0.why = Some(why.to_string());
        self
    }

    /// The same error with a remedy.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.detail.hint = Some(hint.into());
        self
    }

    /// The same error with another exit code, one of [`exit`].
    pub(crate) fn exit(mut self, exit: u8) -> Self {
        self.0.exit = exit;
        self
    }

    /// Code and words in one line.
    pub(crate) fn line(&self) -> String {
        let ErrorDetail { code, message, .. } = &self.0.detail;
        format!("{code}: {message}")
    }

    /// The code that the program ends with.
    pub(crate) fn exit_code(&self) -> u8 {
        self.0.exit
    }

    /// Prints it on standard error: for people, or as the API's envelope.
    pub(crate) fn print(&self, json: bool) {
        let text = if json { self.envelope() } else { self.words() };
        // When this fails, nobody is left to be told.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }

    fn envelope(&self) -> String {
        let mut detail = self.0.detail.clone();
        if let Some(why) = &self.0.why {
            detail.message = format!("{}: {why}", detail.message);
        }
        // Strings alone: this cannot fail.
        serde_json::to_string(&ErrorBody { error: detail }).unwrap_or_default() + "\n"
    }

    fn words(&self) -> String {
        let ErrorDetail { code, message, hint, oldest } = &self.0.detail;
        let mut text = format!("error[{code}]: {}\n", clean(message));
        if let Some(why) = &self.0.why {
            text += &format!("  {}\n", clean(why));
        }
        if let Some(hint) = hint {
            text += &format!("  hint: {}\n", clean(hint));
        }
        if let Some(oldest) = oldest {
            text += &format!("  oldest cursor: {}\n", clean(oldest));
        }
        text
    }
}

/// A failure of another part, with its remedy.
impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        let Failure { code, message, hint, retryable: _ } = failure;
        let exit = match code.as_str() {
            code::ISSUE_NOT_FOUND | code::RUN_NOT_FOUND | "missing_workflow_file" => exit::NOT_FOUND,
            _ => exit::FAILURE,
        };
        let detail = ErrorDetail { code, message, hint, oldest: None };
        Self(Box::new(Report { detail, why: None, exit }))
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        error.failure().into()
    }
}

impl From<DriverError> for CliError {
    fn from(error: DriverError) -> Self {
        match error {
            DriverError::Corrupt(error) => error.into(),
            DriverError::Append(_) => Self::new("journal_failed", error.to_string())
                .hint("free disk space or repair the disk, then start again: everything acknowledged is kept"),
            DriverError::Decision(_) => Self::new("decision_failed", error.to_string())
                .hint("this is a defect; start again, and report it with the log if it comes back"),
        }
    }
}

impl From<CorruptJournal> for CliError {
    fn from(error: CorruptJournal) -> Self {
        Self::new("corrupt_journal", error.to_string())
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let exit = error.exit_code();
        let ClientError { status: _, mut detail } = error;
        // The API's hints name its routes; who types verbs wants verbs.
        match detail.code.as_str() {
            code::ISSUE_NOT_FOUND => detail.hint = Some("`dalsegno issues` lists what there is".to_owned()),
            code::RUN_NOT_FOUND => detail.hint = Some("`dalsegno runs` lists what there is".to_owned()),
            _ => {}
        }
        Self(Box::new(Report { detail, why: None, exit }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_why_and_what_to_do() {
        let error = CliError::new("a_code", "it fell\u{1b}[2J").why("too steep").hint("walk");
        assert_eq!(error.words(), "error[a_code]: it fell[2J\n  too steep\n  hint: walk\n");
        let envelope: serde_json::Value = serde_json::from_str(&error.envelope()).expect("JSON");
        assert_eq!(envelope["error"]["message"], "it fell\u{1b}[2J: too steep");
        assert_eq!(envelope["error"]["hint"], "walk");
    }
}
