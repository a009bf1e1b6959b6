//! Standard output. A reader that goes away ends the program without an error.

use std::io::{self, Write};

use serde::Serialize;

use crate::error::CliError;
use dalsegno_api::exit;

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
