//! Logs: structured lines on standard error for people (or JSON), and JSON in a rotating file of the state
//! directory. A sink that fails, or that takes nothing any more, never stops the daemon.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Level, Subscriber};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::error::CliError;
use crate::sink::Sink;
use crate::{settings, text};

/// Files that are kept, one a day.
const FILES: usize = 7;

/// Longest wait for what is still to be written at the end, for each sink.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The log of this process. When it is dropped, what waits is written, and what is missing is told where it can be.
#[must_use]
pub(crate) struct Log {
    errors: Sink,
    file: Option<Sink>,
}

impl Drop for Log {
    fn drop(&mut self) {
        let sinks = [Some((&self.errors, "standard error")), self.file.as_ref().map(|file| (file, "the log file"))];
        let mut whole = true;
        for (sink, what) in sinks.iter().flatten() {
            let missing = sink.settle(LAST_LINES);
            if missing > 0 {
                whole = false;
                tracing::warn!(missing, "lines are missing in {what}, which did not take them in time");
            }
        }
        if !whole {
            for (sink, _) in sinks.iter().flatten() {
                sink.settle(LAST_LINES);
            }
        }
    }
}

/// Starts logging. Without a writable log directory, standard error is all there is, and it says so.
pub(crate) fn start(state_dir: &Path, json: bool) -> Result<Log, CliError> {
    let unavailable = |error: std::io::Error| CliError::new("log_unavailable", error.to_string());
    let filter = || EnvFilter::try_new(settings::log_filter()).unwrap_or_else(|_| EnvFilter::new("info"));
    // A descriptor of our own: a writer that is stuck has no lock that the rest of the program waits for.
    let descriptor = std::io::stderr().as_fd().try_clone_to_owned().map_err(unavailable)?;
    let missing = if json { missing_as_json } else { missing_in_words };
    let errors_sink = Sink::new("stderr", File::from(descriptor), missing).map_err(unavailable)?;
    let errors = tracing_subscriber::fmt::layer()
        .with_writer(errors_sink.clone())
        .with_ansi(settings::color_errors())
        .with_target(false);
    let errors = match (json, std::io::stderr().is_terminal()) {
        (true, _) => errors.json().boxed(),
        (false, true) => errors.event_format(ForPeople).boxed(),
        (false, false) => errors.compact().boxed(),
    };
    let file = made(state_dir).and_then(|folder| appender(&folder).map_err(|error| error.to_string()));
    let file = file.and_then(|file| Sink::new("file", file, missing_as_json).map_err(|error| error.to_string()));
    let (file_sink, failure) = match file {
        Ok(sink) => (Some(sink), None),
        Err(error) => (None, Some(error)),
    };
    let file =
        file_sink.clone().map(|sink| tracing_subscriber::fmt::layer().json().with_writer(sink).with_filter(filter()));
    tracing_subscriber::registry()
        .with(errors.with_filter(filter()))
        .with(file)
        .try_init()
        .map_err(|error| CliError::new("log_unavailable", error.to_string()))?;
    if let Some(error) = failure {
        tracing::warn!(%error, "no log file; lines go to standard error alone");
    }
    Ok(Log { errors: errors_sink, file: file_sink })
}

/// What stands where lines are missing.
fn missing_in_words(missing: u64) -> String {
    let now = jiff::Timestamp::now();
    format!("{now:.6}  WARN lines are missing here, which were not taken in time missing={missing}\n")
}

fn missing_as_json(missing: u64) -> String {
    let message = "lines are missing here, which were not taken in time";
    let line = serde_json::json!({
        "timestamp": format!("{:.6}", jiff::Timestamp::now()), "level": "WARN",
        "fields": {"message": message, "missing": missing},
    });
    format!("{line}\n")
}

fn appender(folder: &Path) -> Result<RollingFileAppender, tracing_appender::rolling::InitError> {
    RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("dalsegno")
        .filename_suffix("log")
        .max_log_files(FILES)
        .build(folder)
}

/// The folder of the log. Whoever comes first makes the state directory, and it is nobody else's to read.
fn made(state_dir: &Path) -> Result<PathBuf, String> {
    let folder = state_dir.join("log");
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(|error| error.to_string())?;
    Ok(folder)
}

/// Lines for people who sit in front of them: time of day, sentence, outcome and reason. What finds an event again
/// is in the file, and in the lines that go anywhere else than to a terminal.
struct ForPeople;

impl<S, N> FormatEvent<S, N> for ForPeople
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        let mut seen = Seen::default();
        event.record(&mut seen);
        let color = writer.has_ansi_escapes();
        let time = jiff::Zoned::now().strftime("%H:%M:%S").to_string();
        let level = *event.metadata().level();
        let (tag, code) = match level {
            Level::ERROR => ("ERROR ", "31"),
            Level::WARN => ("WARN  ", "33"),
            Level::INFO => ("", ""),
            Level::DEBUG | Level::TRACE => ("debug ", "2"),
        };
        let words = format!("{tag}{}", seen.message);
        let words = match (color, seen.outcome.as_str()) {
            (true, "handed_off") => format!("\u{1b}[32m{words}\u{1b}[0m"),
            (true, _) if !code.is_empty() => format!("\u{1b}[{code}m{words}\u{1b}[0m"),
            _ => words,
        };
        write!(writer, "{}  {words}", text::dim(&time, color))?;
        // A sentence says most outcomes already; these it does not.
        if matches!(seen.outcome.as_str(), "failed" | "interrupted" | "canceled") {
            write!(writer, " ({})", seen.outcome)?;
        }
        // Why a next run is needed, the line of the last one says.
        if !seen.reason.is_empty() && seen.outcome != "retrying" {
            write!(writer, ": {}", seen.reason)?;
        }
        if !seen.rest.is_empty() {
            write!(writer, "  {}", text::dim(&seen.rest, color))?;
        }
        writeln!(writer)
    }
}

/// What an event carries.
#[derive(Debug, Default)]
struct Seen {
    message: String,
    outcome: String,
    reason: String,
    rest: String,
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let value = text::clean(&format!("{value:?}"));
        self.take(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field.name(), text::clean(value));
    }
}

impl Seen {
    fn take(&mut self, name: &str, value: String) {
        match name {
            "message" => self.message = value,
            "outcome" => self.outcome = value,
            "reason" => self.reason = value,
            // The sentence says these.
            "issue_id" | "issue_identifier" | "run" | "session_id" | "seq" | "url" | "pid" | "state_dir" => {}
            _ => {
                let gap = if self.rest.is_empty() { "" } else { " " };
                self.rest += &format!("{gap}{name}={value}");
            }
        }
    }
}
