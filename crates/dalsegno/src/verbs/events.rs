//! `dalsegno events`

use dalsegno_api::{Client, Event, EventQuery};
use serde_json::Value;

use super::end_on_ctrl_c;
use crate::error::CliError;
use crate::settings::Settings;
use crate::text::{clean, clock, columns, short};
use crate::{out, reader, text};

const PAGE: usize = 500;

/// Show the journal: every fact, in order
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on with new events as they come; with --json one event per line
    #[arg(short, long)]
    follow: bool,
    /// Only what comes after this cursor
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// At most so many
    #[arg(long, conflicts_with = "follow", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Only of this issue
    #[arg(long)]
    issue: Option<String>,
    /// Only of this run
    #[arg(long)]
    run: Option<String>,
    /// Only of this kind
    #[arg(long)]
    kind: Option<String>,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let Args { follow, after, limit, issue, run, kind } = args;
    let query = EventQuery { after, limit: None, issue, run, kind };
    if follow {
        let client = Client::discover(&settings.state_dir)?;
        end_on_ctrl_c()?;
        for event in client.stream(&query) {
            let event = event?;
            if settings.json { out::json_line(&event) } else { print(&event) }
        }
        return Ok(());
    }
    let client = reader::open(&settings.state_dir)?;
    pages(&client, query, limit.unwrap_or(u64::MAX), settings.json)
}

/// Prints page by page until the head is reached, or `limit` events are printed.
fn pages(client: &Client, mut query: EventQuery, limit: u64, json: bool) -> Result<(), CliError> {
    let mut printed = 0_u64;
    let mut first = true;
    loop {
        let left = limit.saturating_sub(printed);
        query.limit = Some(PAGE.min(usize::try_from(left).unwrap_or(PAGE)));
        let page = client.events(&query)?;
        if json && first {
            out::text("{\"events\": [\n");
        }
        first = false;
        for event in &page.events {
            if json {
                out::text(if printed == 0 { "  " } else { ", " });
                out::json_line(event);
            } else {
                print(event);
            }
            printed += 1;
        }
        if !page.events.is_empty() && page.next != page.head && printed < limit {
            query.after = Some(page.next);
            continue;
        }
        if json {
            out::text("], \"next\": ");
            out::json_line(&page.next);
            out::text(", \"head\": ");
            out::json_line(&page.head);
            out::line("}");
        } else if printed == 0 {
            out::line("No such events. `dalsegno events -f` waits for new ones.");
        } else if page.next != page.head {
            out::line(&format!("There are more: --after {}", clean(&page.next)));
        }
        return Ok(());
    }
}

fn print(event: &Event) {
    let about: Vec<String> = [&event.issue, &event.run].into_iter().flatten().map(|name| clean(name)).collect();
    let (seq, kind) = (event.seq, clean(&event.kind));
    let line = format!("{}  {seq:>6}  {kind:<18} {:<16} {}", clock(&event.at), about.join(" "), facts(&event.data));
    out::line(&short(line.trim_end(), columns()));
}

/// The facts of an event in short.
fn facts(data: &Value) -> String {
    let Value::Object(fields) = data else { return String::new() };
    let word = |name: &str| fields.get(name).and_then(Value::as_str);
    if let (Some(from), Some(to)) = (word("from"), word("to")) {
        let reason = word("reason").map(|reason| format!(": {reason}")).unwrap_or_default();
        return short(&clean(&format!("{from} → {to}{reason}")), 120);
    }
    let mut facts = Vec::new();
    for (name, value) in fields {
        match value {
            _ if name == "run" || name == "issue" => {}
            Value::String(hash) if is_hash(hash) => facts.push(format!("{name}={}", text::commit(hash))),
            Value::String(text) => facts.push(format!("{name}={}", short(text, 60))),
            Value::Number(number) => facts.push(format!("{name}={number}")),
            Value::Bool(true) => facts.push(name.clone()),
            // Of nested facts the tag alone: `effect=prompt`, `outcome=done`.
            Value::Object(inner) => {
                let tags = ["kind", "result", "outcome", "code", "what", "name", "state", "then"];
                if let Some(tag) = tags.iter().find_map(|tag| inner.get(*tag).and_then(Value::as_str)) {
                    facts.push(format!("{name}={tag}"));
                }
            }
            Value::Null | Value::Bool(false) | Value::Array(_) => {}
        }
    }
    short(&clean(&facts.join(" ")), 120)
}

/// A commit or another hash in full: its beginning is enough for people.
fn is_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn facts_are_short_and_clean() {
        assert_eq!(
            facts(&json!({"issue": "1", "from": "queued", "to": "parked", "reason": "a\nb"})),
            "queued → parked: a b"
        );
        let effect = json!({"effect": {"kind": "prompt", "turn": 1}, "effect_id": 4, "probed": false, "run": "run-1"});
        assert_eq!(facts(&effect), "effect=prompt effect_id=4");
        assert_eq!(facts(&json!({"hash": "ab".repeat(32)})), "hash=abababababab");
        assert_eq!(facts(&json!(null)), "");
    }
}
