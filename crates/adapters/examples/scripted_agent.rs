//! The scripted agent as a program of its own, called like the binary: `agent scripted --script FILE --issue=IDENT
//! --state-dir DIR`. Tests start it.

use std::path::PathBuf;
use std::process::ExitCode;

use dalsegno_adapters::agent::scripted::{Options, serve};

#[tokio::main]
async fn main() -> ExitCode {
    let Some(options) = options(std::env::args().skip(1)) else {
        complain("usage: scripted_agent agent scripted --script FILE --issue=IDENT --state-dir DIR");
        return ExitCode::from(2);
    };
    let code = match serve(tokio::io::stdin(), tokio::io::stdout(), options).await {
        Ok(code) => code,
        Err(failure) => {
            complain(&failure.to_string());
            2
        }
    };
    // A thread may be waiting for standard input, and a normal end would wait for it.
    std::process::exit(i32::from(code))
}

fn options(mut arguments: impl Iterator<Item = String>) -> Option<Options> {
    let (mut script, mut issue, mut state_dir) = (None, None, None);
    if (arguments.next()?, arguments.next()?) != ("agent".to_owned(), "scripted".to_owned()) {
        return None;
    }
    while let Some(argument) = arguments.next() {
        match argument.split_once('=') {
            Some(("--issue", value)) => issue = Some(value.to_owned()),
            Some(_) => return None,
            None if argument == "--script" => script = Some(PathBuf::from(arguments.next()?)),
            None if argument == "--state-dir" => state_dir = Some(PathBuf::from(arguments.next()?)),
            None => return None,
        }
    }
    Some(Options { script: script?, issue: issue?, state_dir: state_dir? })
}

#[allow(clippy::print_stderr, reason = "the program's own standard error")]
fn complain(text: &str) {
    eprintln!("{text}");
}
