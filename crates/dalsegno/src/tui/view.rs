//! Draws the model. Foreign text is cleaned: no agent moves the cursor.

use dalsegno_api::{BudgetLine, Handoff, Issue, IssueDetail, Run, TranscriptEntry};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use super::model::{ENTRIES, Model, Over, Page, field_of, rank};
use crate::text::{clean, clean_lines, count, short};

/// Below this many columns rows have no reasons.
const WIDE: u16 = 100;
const HELP: &[(&str, &str)] = &[
    ("↑ ↓  j k", "move"),
    ("PgUp PgDn  ^U ^D", "move by a page"),
    ("g G", "to the first, to the last"),
    ("Enter", "open the issue, then its transcript"),
    ("t", "the transcript of the issue's latest run"),
    ("a", "actions: those that would be accepted now"),
    ("/", "show only what contains these words (Esc: everything)"),
    ("r", "look again now"),
    ("Esc", "back"),
    ("q  Ctrl-C", "leave; the daemon goes on"),
];

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(header(model), head);
    match model.page {
        Page::List => list(frame, model, body),
        Page::Issue => issue(frame, model, body),
        Page::Transcript => transcript(frame, model, body),
    }
    frame.render_widget(footer(model), foot);
    match &model.over {
        None => {}
        Some(Over::Help) => over(frame, "Keys", help()),
        Some(Over::Actions { at }) => over(frame, "Actions", actions(model, *at)),
        Some(Over::Typing { kind, text }) => {
            let what = field_of(kind).map_or("", |(_, words)| words);
            let lines =
                vec![Line::from(what), Line::from(format!("> {}▏", clean(text))), hint("Enter: send   Esc: not")];
            over(frame, kind, lines);
        }
        Some(Over::Confirm { action }) => {
            let what = format!("{} {}", action.action_kind, clean(&action.target.id));
            over(frame, "Really?", vec![Line::from(what), hint("y: do it   n: not")]);
        }
    }
}

fn paint(model: &Model, color: Color) -> Style {
    if model.colour { Style::new().fg(color) } else { Style::new() }
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn hint(text: &'static str) -> Line<'static> {
    Line::styled(text, dim())
}

fn header(model: &Model) -> Line<'static> {
    if let Some(why) = &model.lost {
        let text = format!("NO DAEMON: {} (what is below is old)", clean(why));
        return Line::styled(text, paint(model, Color::Red).add_modifier(Modifier::BOLD));
    }
    let Some(state) = &model.state else { return Line::from("looking for the daemon …") };
    let counts = &state.counts;
    let needs = counts.parked + counts.waiting;
    let waits = counts.retrying + counts.queued;
    let readiness = model.readiness.as_ref().map_or("", |readiness| readiness.status.as_str());
    let mut spans = vec![
        Span::styled(
            format!("{needs} need you"),
            if needs > 0 { paint(model, Color::Yellow).add_modifier(Modifier::BOLD) } else { Style::new() },
        ),
        Span::raw(format!(" · {} run · {waits} wait", counts.running)),
    ];
    if counts.paused > 0 {
        spans.push(Span::raw(format!(" · {} paused", counts.paused)));
    }
    spans.push(match &model.day {
        Some(day) => today(model, day),
        None => Span::raw(format!(" · {} tokens", count(state.totals.total_tokens))),
    });
    if !readiness.is_empty() {
        let colour = if readiness == "ready" { Color::Green } else { Color::Yellow };
        spans.push(Span::styled(format!(" · {}", clean(readiness)), paint(model, colour)));
    }
    for (what, problem) in [("WORKFLOW.md", &state.workflow_error), ("tracker", &state.tracker_error)] {
        if let Some(problem) = problem {
            spans.push(Span::styled(format!(" · {what}: {}", clean(&problem.code)), paint(model, Color::Red)));
        }
    }
    Line::from(spans)
}

/// What this UTC day used, of what it may; red when a limit is reached, and nothing new starts.
fn today(model: &Model, day: &BudgetLine) -> Span<'static> {
    let of = |limit: Option<String>| limit.map_or_else(String::new, |limit| format!("/{limit}"));
    let mut text = format!(" · today {}{} tokens", count(day.tokens), of(day.tokens_limit.map(count)));
    // Where no price is known, no amount is one.
    if !day.unpriced || day.cost_usd > 0.0 || day.cost_usd_limit.is_some() {
        let least = if day.unpriced { "≥" } else { "" };
        text.push_str(&format!(
            ", {least}${:.2}{}",
            day.cost_usd,
            of(day.cost_usd_limit.map(|most| format!("${most:.2}")))
        ));
    }
    let reached = day.tokens_limit.is_some_and(|most| day.tokens >= most)
        || day.cost_usd_limit.is_some_and(|most| day.cost_usd >= most);
    Span::styled(text, if reached { paint(model, Color::Red).add_modifier(Modifier::BOLD) } else { Style::new() })
}

fn footer(model: &Model) -> Line<'static> {
    if model.filtering || (model.page == Page::List && !model.filter.is_empty()) {
        let cursor = if model.filtering { "▏" } else { "" };
        return Line::from(format!("/{}{cursor}", clean(&model.filter)));
    }
    if let Some(note) = &model.note {
        let colour = if note.bad { Color::Red } else { Color::Green };
        return Line::styled(clean(&note.text), paint(model, colour));
    }
    match model.page {
        Page::List => hint("Enter open   a act   / filter   ? keys   q leave"),
        Page::Issue => hint("t transcript   a act   Esc back   ? keys"),
        Page::Transcript => hint("↑ ↓ read   G newest   Esc back   ? keys"),
    }
}

fn mark(issue: &Issue) -> (&'static str, Color) {
    match (rank(issue), issue.status.as_str()) {
        (0, "parked") => ("■", Color::Yellow),
        (0, _) => ("?", Color::Yellow),
        (1, _) => ("▶", Color::Blue),
        (2, _) => ("‖", Color::Magenta),
        (3 | 4, _) => ("·", Color::Gray),
        (5, _) => ("✗", Color::Red),
        (6, _) => ("✓", Color::Green),
        _ => (" ", Color::Gray),
    }
}

fn list(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let rows = model.rows();
    if rows.is_empty() {
        let why = match (&model.state, model.filter.is_empty()) {
            (None, _) => "",
            (Some(_), true) => "No issues. `dalsegno issue new \"…\"` makes one.",
            (Some(_), false) => "No issue contains these words.",
        };
        frame.render_widget(Paragraph::new(why), area);
        return;
    }
    let at = model.at();
    let height = usize::from(area.height);
    // The chosen row stays in the middle, as far as there are rows.
    let first = at.saturating_sub(height / 2).min(rows.len().saturating_sub(height));
    let name = rows.iter().map(|issue| issue.identifier.chars().count()).max().unwrap_or(0).min(14);
    let lines = rows.iter().enumerate().skip(first).take(height).map(|(place, issue)| {
        let (sign, colour) = mark(issue);
        let identifier = short(&clean(&issue.identifier), name);
        let mut text = format!(" {identifier:<name$}  {:<16} {}", clean(&issue.status), clean(&issue.title));
        let reason = issue.question.as_ref().map(|question| question.text.clone()).or_else(|| issue.reason.clone());
        if let Some(reason) = reason.filter(|_| area.width >= WIDE && rank(issue) < 6) {
            text.push_str(&format!("  — {}", clean(&reason)));
        }
        let text = short(&text, usize::from(area.width).saturating_sub(2));
        let style = if place == at { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        let cursor = if place == at { ">" } else { " " };
        Line::from(vec![Span::raw(cursor), Span::styled(sign, paint(model, colour)), Span::styled(text, style)])
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), area);
}

fn issue(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let Some(detail) = &model.detail else {
        frame.render_widget(Paragraph::new("looking …"), area);
        return;
    };
    let scroll = u16::try_from(model.scroll).unwrap_or(u16::MAX);
    frame.render_widget(Paragraph::new(about(model, detail)).wrap(Wrap { trim: false }).scroll((scroll, 0)), area);
}

fn about(model: &Model, detail: &IssueDetail) -> Vec<Line<'static>> {
    let issue = &detail.issue;
    let (sign, colour) = mark(issue);
    let mut lines = vec![
        Line::styled(
            format!("{} {}", clean(&issue.identifier), clean(&issue.title)),
            Style::new().add_modifier(Modifier::BOLD),
        ),
        Line::from(vec![
            Span::styled(format!("{sign} {}", clean(&issue.status)), paint(model, colour)),
            Span::raw(format!(" · {} in the tracker", clean(&issue.tracker_state))),
            Span::raw(
                issue.due_at.as_deref().map(|due| format!(" · due {}", crate::text::relative(due))).unwrap_or_default(),
            ),
        ]),
    ];
    if let Some(reason) = &issue.reason {
        lines.push(Line::from(clean(reason)));
    }
    if let Some(question) = &issue.question {
        let asks = if question.wants == "permission" { "The agent wants a permission:" } else { "The agent asks:" };
        lines.push(Line::from(""));
        lines.push(Line::styled(asks, paint(model, Color::Yellow).add_modifier(Modifier::BOLD)));
        lines.extend(clean_lines(&question.text).map(|line| Line::from(format!("  {line}"))));
        let how = if question.wants == "permission" { "a: approve or deny it" } else { "a: answer it" };
        lines.push(hint(how));
    }
    lines.push(Line::from(""));
    let cost = issue.usage.cost_usd.map(|cost| format!(" · ${cost:.2}")).unwrap_or_default();
    lines.push(Line::from(format!("used     {} tokens{cost}", count(issue.usage.total_tokens))));
    if let Some(workspace) = &issue.workspace {
        lines.push(Line::from(format!("work     {}", clean(&workspace.path))));
    }
    if let Some(pull_request) = &issue.pull_request {
        lines.push(Line::from(format!("pull     #{} {}", pull_request.number, clean(&pull_request.url))));
    }
    if let Some(run) = &detail.last_run {
        lines.extend(of_run(model, run));
    }
    lines.push(Line::from(format!("actions  {}", issue.allowed_actions.join(", "))));
    if let Some(description) = detail.description.as_ref().filter(|text| !text.trim().is_empty()) {
        lines.push(Line::from(""));
        lines.extend(clean_lines(description).map(Line::from));
    }
    lines
}

fn of_run(model: &Model, run: &Run) -> Vec<Line<'static>> {
    let how = run.outcome.as_ref().unwrap_or(&run.phase);
    let mut lines = vec![Line::from(format!("run      {} · {} · {} turns", clean(&run.id), clean(how), run.turns))];
    if let Some(evidence) = &run.evidence {
        lines.push(Line::from(format!("evidence {}", clean(evidence))));
    }
    lines.extend(run.handoff.iter().map(|handoff| saga(model, handoff)));
    lines
}

/// The handoff as a line of steps.
fn saga(model: &Model, handoff: &Handoff) -> Line<'static> {
    let mut spans = vec![Span::raw("handoff  ")];
    for (at, step) in handoff.steps.iter().enumerate() {
        let (sign, colour) = match step.state.as_str() {
            "done" => ("✓", Color::Green),
            "pending" => ("·", Color::Gray),
            "parked" | "awaiting_approval" => ("■", Color::Yellow),
            "not_applied" | "undone" | "undoing" => ("↩", Color::Red),
            "skipped" => ("-", Color::Gray),
            _ => ("▶", Color::Blue),
        };
        let arrow = if at == 0 { "" } else { " → " };
        spans.push(Span::raw(arrow));
        spans.push(Span::styled(format!("{sign} {}", clean(&step.step)), paint(model, colour)));
    }
    Line::from(spans)
}

fn transcript(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let mut lines: Vec<Line<'static>> = Vec::new();
    if model.cut {
        lines.push(hint("older entries: `dalsegno logs`"));
    }
    for entry in model.transcript.iter().take(ENTRIES) {
        lines.extend(said(model, entry, usize::from(area.width)));
    }
    if lines.is_empty() {
        lines.push(hint("nothing was said yet"));
    }
    let height = usize::from(area.height);
    let scroll = model.scroll.min(lines.len().saturating_sub(height));
    let first = lines.len().saturating_sub(height).saturating_sub(scroll);
    let shown: Vec<Line<'static>> = lines.into_iter().skip(first).take(height).collect();
    frame.render_widget(Paragraph::new(shown), area);
}

/// An entry, in lines that fit.
fn said(model: &Model, entry: &TranscriptEntry, width: usize) -> Vec<Line<'static>> {
    let (sign, style) = match entry.kind.as_str() {
        "prompt" => ("»", paint(model, Color::Cyan)),
        "message" => (" ", Style::new()),
        "tool" => ("$", paint(model, Color::Blue)),
        "stderr" | "malformed" => ("!", paint(model, Color::Red)),
        _ => ("·", dim()),
    };
    let room = width.saturating_sub(2).max(8);
    let mut lines = Vec::new();
    for line in clean_lines(&entry.text) {
        let letters: Vec<char> = line.chars().collect();
        let parts = letters.chunks(room).map(|part| part.iter().collect::<String>());
        let parts: Vec<String> = if letters.is_empty() { vec![String::new()] } else { parts.collect() };
        for part in parts {
            let sign = if lines.is_empty() { sign } else { " " };
            lines.push(Line::styled(format!("{sign} {part}"), style));
        }
    }
    lines
}

fn actions(model: &Model, at: usize) -> Vec<Line<'static>> {
    let line = |(place, kind): (usize, String)| {
        let style = if place == at { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        Line::styled(format!("{} {kind}", if place == at { ">" } else { " " }), style)
    };
    let mut lines: Vec<Line<'static>> = model.allowed().into_iter().enumerate().map(line).collect();
    lines.push(hint("Enter: choose   Esc: none"));
    lines
}

fn help() -> Vec<Line<'static>> {
    HELP.iter().map(|(key, what)| Line::from(format!("{key:<18} {what}"))).collect()
}

/// A box in the middle, as wide and high as its text, if there is room.
fn over(frame: &mut Frame<'_>, title: &str, lines: Vec<Line<'static>>) {
    let area = frame.area();
    let widest = lines.iter().map(Line::width).max().unwrap_or(0).max(title.len() + 2);
    let width = u16::try_from(widest + 4).unwrap_or(u16::MAX).clamp(24.min(area.width), area.width);
    let inner = usize::from(width.saturating_sub(2).max(1));
    let rows: usize = lines.iter().map(|line| line.width().div_ceil(inner).max(1)).sum();
    let height = u16::try_from(rows + 2).unwrap_or(u16::MAX).min(area.height);
    let place = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    let block = Block::bordered().title(format!(" {title} "));
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), place);
}
