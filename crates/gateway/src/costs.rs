//! What the usage of issues and runs costs, by the ledger.

use std::collections::BTreeMap;

use dalsegno_core::{IssueId, RunId, Usage};
use dalsegno_engine::{ReadError, Reads, UsageBy, UsageFilter};

/// Rows of one issue or run that are added up, at most.
const ROWS: usize = 10_000;

/// Costs of issues by their ids, and of runs by their names.
#[derive(Debug, Default)]
pub(crate) struct Costs {
    issues: BTreeMap<String, Sum>,
    runs: BTreeMap<String, Sum>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    /// Tokens that the sum is about.
    total_tokens: u64,
    cost_nanousd: u64,
    /// Some of it has no price.
    unpriced: bool,
}

impl Costs {
    /// Of all issues that are in the ledger.
    pub(crate) fn of_issues(reads: &dyn Reads) -> Result<Self, ReadError> {
        Ok(Self { issues: sums(reads, UsageBy::Issue)?, runs: BTreeMap::new() })
    }

    /// Of the newest runs that are in the ledger.
    pub(crate) fn of_runs(reads: &dyn Reads) -> Result<Self, ReadError> {
        Ok(Self { issues: BTreeMap::new(), runs: sums(reads, UsageBy::Run)? })
    }

    /// Of this issue, and of its runs.
    pub(crate) fn of_issue(reads: &dyn Reads, issue: &IssueId) -> Result<Self, ReadError> {
        Self::rows(reads, &UsageFilter { issue: Some(issue.clone()), ..UsageFilter::default() })
    }

    /// Of this run.
    pub(crate) fn of_run(reads: &dyn Reads, run: &str) -> Result<Self, ReadError> {
        Self::rows(reads, &UsageFilter { run: Some(run.to_owned()), ..UsageFilter::default() })
    }

    fn rows(reads: &dyn Reads, filter: &UsageFilter) -> Result<Self, ReadError> {
        let mut costs = Self::default();
        for row in reads.usage(filter, ROWS)? {
            for sum in [costs.issues.entry(row.issue.0).or_default(), costs.runs.entry(row.run.0).or_default()] {
                sum.total_tokens = sum.total_tokens.saturating_add(row.usage.total_tokens);
                sum.cost_nanousd = sum.cost_nanousd.saturating_add(row.cost_nanousd.unwrap_or(0));
                sum.unpriced |= row.cost_nanousd.is_none() && row.usage.total_tokens > 0;
            }
        }
        Ok(costs)
    }

    /// US dollars for what the issue used.
    pub(crate) fn issue(&self, issue: &IssueId, used: Usage) -> Option<f64> {
        self.issues.get(issue.as_str()).copied().unwrap_or_default().of(used)
    }

    /// US dollars for what the run used.
    pub(crate) fn run(&self, run: &RunId, used: Usage) -> Option<f64> {
        self.runs.get(run.as_str()).copied().unwrap_or_default().of(used)
    }
}

impl Sum {
    /// `None` where a price is not known, or the ledger does not have all that was used.
    fn of(self, used: Usage) -> Option<f64> {
        (!self.unpriced && self.total_tokens >= used.total_tokens).then(|| dollars(self.cost_nanousd))
    }
}

fn sums(reads: &dyn Reads, by: UsageBy) -> Result<BTreeMap<String, Sum>, ReadError> {
    let sums = reads.usage_sums(by)?.into_iter().filter_map(|sum| {
        let total_tokens = sum.usage.total_tokens;
        Some((sum.key?, Sum { total_tokens, cost_nanousd: sum.cost_nanousd, unpriced: sum.unpriced }))
    });
    Ok(sums.collect())
}

/// Billionths as an amount for people and charts; the ledger keeps the exact one.
#[allow(clippy::cast_precision_loss, reason = "an amount for people and charts; the ledger keeps the exact one")]
pub(crate) fn dollars(nanousd: u64) -> f64 {
    nanousd as f64 / 1e9
}
