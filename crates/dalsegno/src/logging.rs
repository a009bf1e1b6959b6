//! Logs: structured lines on standard error for people (or JSON), and JSON in a rotating file of the state
//! directory. A failing sink never stops the daemon.

use std::path::Path;

use tracing_appender::non_blocking::WorkerGuard;
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::error::CliError;
use crate::settings;

/// Files that are kept, one a day.
const FILES: usize = 7;

/// Keeps the log's file open; what is buffered is written when it is dropped.
#[must_use]
pub(crate) struct Log {
    _file: Option<WorkerGuard>,
}

/// Starts logging. Without a writable log directory, standard error is all there is, and it says so.
pub(crate) fn start(state_dir: &Path, json: bool) -> Result<Log, CliError> {
    let filter = || EnvFilter::try_new(settings::log_filter()).unwrap_or_else(|_| EnvFilter::new("info"));
    let errors = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(settings::color_errors())
        .with_target(false);
    let errors = if json { errors.json().boxed() } else { errors.compact().boxed() };
    let file = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("dalsegno")
        .filename_suffix("log")
        .max_log_files(FILES)
        .build(state_dir.join("log"));
    let (file, guard, failure) = match file {
        Ok(file) => {
            let (writer, guard) = tracing_appender::non_blocking(file);
            (Some(tracing_subscriber::fmt::layer().json().with_writer(writer).with_filter(filter())), Some(guard), None)
        }
        Err(error) => (None, None, Some(error)),
    };
    tracing_subscriber::registry()
        .with(errors.with_filter(filter()))
        .with(file)
        .try_init()
        .map_err(|error| CliError::new("log_unavailable", error.to_string()))?;
    if let Some(error) = failure {
        tracing::warn!(%error, "no log file; lines go to standard error alone");
    }
    Ok(Log { _file: guard })
}
