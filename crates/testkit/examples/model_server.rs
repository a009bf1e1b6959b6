//! The scripted language model as a program, for tests from outside and for people.
//!
//! `model_server --port N --script FILE [--log FILE]`. It prints its address, and runs until it is ended. Port 0 is any.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;

use dalsegno_testkit::model::{ModelServer, Script};

const USAGE: &str = "usage: model_server --port N --script FILE [--log FILE]";

fn start() -> Result<ModelServer, String> {
    let (mut port, mut script, mut log) = (None, None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} has no value; {USAGE}"))?;
        match name.as_str() {
            "--port" => port = Some(value.parse::<u16>().map_err(|error| format!("--port {value}: {error}"))?),
            "--script" => script = Some(value),
            "--log" => log = Some(value),
            _ => return Err(format!("{name} is not known; {USAGE}")),
        }
    }
    let (Some(port), Some(script)) = (port, script) else { return Err(USAGE.to_owned()) };
    let text = std::fs::read_to_string(&script).map_err(|error| format!("{script}: {error}"))?;
    let script = Script::parse(&text).map_err(|problem| format!("{script}: {problem}"))?;
    let log = log
        .map(|path| {
            let file = OpenOptions::new().create(true).append(true).open(&path);
            file.map_err(|error| format!("{path}: {error}"))
        })
        .transpose()?;
    ModelServer::start_at(port, script, log).map_err(|error| format!("port {port}: {error}"))
}

fn main() -> ExitCode {
    match start() {
        Ok(server) => {
            let mut out = std::io::stdout().lock();
            // Whoever started it may have stopped listening; it serves all the same.
            let _ = writeln!(out, "{}", server.url()).and_then(|()| out.flush());
            loop {
                std::thread::park();
            }
        }
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "{problem}");
            ExitCode::from(2)
        }
    }
}
