//! Standard output. A reader that goes away ends the program without an error.

use std::io::{self, Write};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use serde::Serialize;

use crate::error::CliError;
use dalsegno_api::exit;

/// Longest wait for somebody to take the last words of a process that is through.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Prints last words, and does not wait for ever for somebody to take them: a process that is through ends, whatever
/// becomes of its output.
pub(crate) fn patiently(print: impl FnOnce() + Send + 'static) {
    let (printed, is_printed) = sync_channel(1);
    let thread = std::thread::Builder::new().name("last words".to_owned());
    let spawned = thread.spawn(move || {
        print();
        let _ = printed.send(());
    });
    if spawned.is_ok() {
        let _ = is_printed.recv_timeout(LAST_WORDS);
    }
}

/// Prints a line.
pub(crate) fn line(line: &str) {
    let mut stdout = io::stdout().lock();
    checked(stdout.write_all(line.as_bytes()).and_then(|()| stdout.write_all(b"\n")));
}

/// Prints text as it is, and hands it over at once.
pub(crate) fn text(text: &str) {
    let mut stdout = io::stdout().lock();
    checked(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()));
}

/// Prints a value as JSON over several lines.
pub(crate) fn json(value: &impl Serialize) {
    let mut stdout = io::stdout().lock();
    let written = serde_json::to_writer_pretty(&mut stdout, value).map_err(io::Error::from);
    checked(written.and_then(|()| stdout.write_all(b"\n")));
}

/// Prints a value as JSON on one line.
pub(crate) fn json_line(value: &impl Serialize) {
    let mut stdout = io::stdout().lock();
    let written = serde_json::to_writer(&mut stdout, value).map_err(io::Error::from);
    checked(written.and_then(|()| stdout.write_all(b"\n")));
}

/// Ends the program when nobody reads any more (no error), or when the output cannot be written (one).
fn checked(written: io::Result<()>) {
    let Err(error) = written else { return };
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(i32::from(exit::OK));
    }
    CliError::io("output_failed", &error).print(false);
    std::process::exit(i32::from(exit::FAILURE));
}
