//! Why an issue runs or does not: the rules of dispatch with pass or fail.

use serde::{Deserialize, Serialize};

use crate::issue::IssueStatus;

/// One rule of dispatch, as it stands for one issue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Stable name.
    pub rule: String,
    /// Whether it lets the issue through.
    pub pass: bool,
    /// What was found.
    pub detail: String,
    /// What would change it; only for rules that fail.
    pub remedy: Option<String>,
}

/// Every rule of dispatch for one issue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The issue's identifier.
    pub identifier: String,
    /// Its status.
    pub status: IssueStatus,
    /// All rules, in the order in which they are asked.
    pub rules: Vec<Rule>,
}
