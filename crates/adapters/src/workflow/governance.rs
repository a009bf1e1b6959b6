//! `budget`, `breaker` and `quota`: what bounds the work and its cost.

use std::collections::BTreeMap;

use dalsegno_core::{BreakerPolicy, BudgetPolicy, Failure, Limits, Price, QuotaPolicy, nanousd};
use serde_json::{Map, Value};

use super::section::{Section, invalid, shown};

/// Models that may have a price.
const PRICES: usize = 200;

/// `budget:` of the front matter.
pub(super) fn budget(config: &Map<String, Value>) -> Result<BudgetPolicy, Failure> {
    let section = Section::of(config, "budget")?;
    let (issue, day) = (section.inner("issue")?, section.inner("day")?);
    let defaults = BudgetPolicy::default();
    let limits = Limits {
        tokens: tokens(&issue)?,
        cost_nanousd: amount(&issue, "cost_usd")?,
        turns: issue.integer("turns", 1, i64::from(u32::MAX))?.and_then(|turns| u32::try_from(turns).ok()),
        wall_clock_ms: positive(&issue, "wall_clock")?,
    };
    let day = Limits { tokens: tokens(&day)?, cost_nanousd: amount(&day, "cost_usd")?, ..Limits::default() };
    Ok(BudgetPolicy {
        issue_runs: issue.count("runs", defaults.issue_runs)?,
        issue: limits,
        day,
        prices: prices(&section)?,
    })
}

/// `breaker:` of the front matter.
pub(super) fn breaker(config: &Map<String, Value>) -> Result<BreakerPolicy, Failure> {
    let section = Section::of(config, "breaker")?;
    let defaults = BreakerPolicy::default();
    Ok(BreakerPolicy {
        same_failure: section.count("same_failure", defaults.same_failure)?,
        no_progress_turns: section.count("no_progress_turns", defaults.no_progress_turns)?,
        cooldown_ms: section.duration_ms("cooldown")?.unwrap_or(defaults.cooldown_ms),
    })
}

/// `quota:` of the front matter.
pub(super) fn quota(config: &Map<String, Value>) -> Result<QuotaPolicy, Failure> {
    let section = Section::of(config, "quota")?;
    let resume_at_reset = match section.get("resume_at_reset") {
        None => QuotaPolicy::default().resume_at_reset,
        Some(Value::Bool(flag)) => *flag,
        Some(other) => return Err(invalid("quota.resume_at_reset", &shown(other), "true, false")),
    };
    Ok(QuotaPolicy { resume_at_reset })
}

fn tokens(section: &Section<'_>) -> Result<Option<u64>, Failure> {
    Ok(section.integer("tokens", 1, i64::MAX)?.and_then(|tokens| u64::try_from(tokens).ok()))
}

/// A duration that is not nothing.
fn positive(section: &Section<'_>, key: &str) -> Result<Option<u64>, Failure> {
    match section.duration_ms(key)? {
        Some(0) => Err(invalid(&section.path_of(key), "nothing", "a duration like 30m or 24h")),
        found => Ok(found),
    }
}

/// An amount of dollars, as billionths.
fn amount(section: &Section<'_>, key: &str) -> Result<Option<u64>, Failure> {
    let Some(value) = section.get(key) else { return Ok(None) };
    let dollars = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse::<f64>().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    match dollars.and_then(nanousd) {
        Some(amount) => Ok(Some(amount)),
        None => Err(invalid(&section.path_of(key), &shown(value), "an amount of US dollars, like 2.50")),
    }
}

/// Dollars for a million tokens, as billionths of a dollar for one: `{model: {input, cached_input, output}}`.
fn prices(section: &Section<'_>) -> Result<BTreeMap<String, Price>, Failure> {
    let listed = section.map("prices")?;
    if listed.len() > PRICES {
        return Err(invalid("budget.prices", &format!("a list of {}", listed.len()), &format!("{PRICES} models")));
    }
    let models = section.inner("prices")?;
    let mut prices = BTreeMap::new();
    for model in listed.keys() {
        let price = models.inner(model)?;
        let of_a_token = |key: &str| Ok(amount(&price, key)?.map(|million| (million + 500_000) / 1_000_000));
        let needed = |key: &str| {
            of_a_token(key)?
                .ok_or_else(|| invalid(&price.path_of(key), "not set", "US dollars for a million tokens, like 1.25"))
        };
        let input_nanousd = needed("input")?;
        let cached = of_a_token("cached_input")?;
        let price = Price {
            input_nanousd,
            cached_input_nanousd: cached.unwrap_or(input_nanousd),
            output_nanousd: needed("output")?,
        };
        prices.insert(model.clone(), price);
    }
    Ok(prices)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn read(front: Value) -> Result<BudgetPolicy, Failure> {
        budget(front.as_object().unwrap())
    }

    #[test]
    fn dollars_become_billionths() {
        let policy = read(serde_json::json!({"budget": {
            "issue": {"cost_usd": 2.5, "tokens": 1_000, "turns": 7, "wall_clock": "2h"},
            "day": {"cost_usd": "40"},
            "prices": {"m-1": {"input": 1.25, "cached_input": 0.125, "output": 10}, "m-2": {"input": 1, "output": 2}},
        }}))
        .unwrap();
        assert_eq!(policy.issue.cost_nanousd, Some(2_500_000_000));
        assert_eq!((policy.issue.tokens, policy.issue.turns), (Some(1_000), Some(7)));
        assert_eq!(policy.issue.wall_clock_ms, Some(7_200_000));
        assert_eq!((policy.day.cost_nanousd, policy.day.tokens), (Some(40_000_000_000), None));
        let price = policy.prices["m-1"];
        assert_eq!((price.input_nanousd, price.cached_input_nanousd, price.output_nanousd), (1_250, 125, 10_000));
        assert_eq!(policy.prices["m-2"].cached_input_nanousd, 1_000, "what the cache gives is not free by default");
    }

    #[test]
    fn wrong_amounts_name_their_key() {
        for (front, key) in [
            (serde_json::json!({"budget": {"issue": {"cost_usd": -1}}}), "budget.issue.cost_usd"),
            (serde_json::json!({"budget": {"issue": {"cost_usd": "much"}}}), "budget.issue.cost_usd"),
            (serde_json::json!({"budget": {"issue": {"tokens": 0}}}), "budget.issue.tokens"),
            (serde_json::json!({"budget": {"issue": {"wall_clock": "0s"}}}), "budget.issue.wall_clock"),
            (serde_json::json!({"budget": {"day": {"tokens": "1.5"}}}), "budget.day.tokens"),
            (serde_json::json!({"budget": {"prices": {"m": {"input": 1}}}}), "budget.prices.m.output"),
            (serde_json::json!({"budget": {"prices": {"m": 3}}}), "budget.prices.m"),
        ] {
            let failure = read(front).unwrap_err();
            assert_eq!(failure.code, "invalid_config");
            assert!(failure.message.starts_with(&format!("{key} is")), "{failure}");
        }
    }
}
