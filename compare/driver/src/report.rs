//! The table.

use std::fmt::Write;

use serde_json::Value;

/// Medians over the rounds, with the ratios: to the raw rates of the same minute, and of the first side to this one.
pub fn table(lines: &[Value]) -> String {
    let mut text = String::from(
        "| work | scopes | side | per second | p50 µs | p99 µs | raw overwrite/s | × it | raw append/s | × it | dalsegno ÷ it |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut seen: Vec<(&str, u64, &str)> = Vec::new();
    for line in lines {
        let name = (word(line, "work"), line["scopes"].as_u64().unwrap_or(0), word(line, "side"));
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
    }
    for (work, scopes, side) in seen {
        let of = |side: &str| -> Vec<&Value> {
            let same =
                |line: &&Value| word(line, "work") == work && line["scopes"] == scopes && word(line, "side") == side;
            lines.iter().filter(same).collect()
        };
        let (these, ours) = (of(side), of("dalsegno"));
        let value = |field: &str| median(these.iter().filter_map(|line| line[field].as_f64()));
        // Ratios are taken round by round, because the disk differs from one to the next.
        let times = |field: &str| {
            let ratio = |line: &&Value| Some(line["per_second"].as_f64()? / line[field].as_f64()?);
            median(these.iter().filter_map(ratio))
        };
        let rate = value("per_second");
        let ahead = median(ours.iter().filter_map(|line| line["per_second"].as_f64())) / rate;
        let raw = if work == "replay" || work == "reopen" {
            // Few syncs or none.
            "| – | – | – | –".to_owned()
        } else {
            format!(
                "| {:.0} | {:.2} | {:.0} | {:.2}",
                value("raw_overwrite"),
                times("raw_overwrite"),
                value("raw_append"),
                times("raw_append")
            )
        };
        let ahead = if ahead.is_finite() { format!("{ahead:.2}") } else { "–".to_owned() };
        let _ = writeln!(
            text,
            "| {work} | {scopes} | {side} | {rate:.0} | {:.0} | {:.0} {raw} | {ahead} |",
            value("p50_us"),
            value("p99_us")
        );
    }
    text
}

fn word<'v>(line: &'v Value, field: &str) -> &'v str {
    line[field].as_str().unwrap_or_default()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
