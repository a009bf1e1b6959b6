//! `dalsegno tui`: the issues in a terminal, live.
//!
//! The [`model`] is pure: a key or an answer of the daemon goes in, and what is to be asked comes out. [`view`] draws it.
//! [`feed`] asks the daemon, on threads of its own, so that a daemon that is slow or gone never holds up a key.

mod feed;
mod keys;
mod model;
mod view;

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEventKind};

use crate::error::CliError;
use crate::settings::{Settings, color, user};
use feed::Feed;
use model::{Model, Said};

/// Longest wait for a key before answers of the daemon are looked for.
const LOOK: Duration = Duration::from_millis(50);
/// Keys that wait to be taken in.
const KEYS: usize = 256;

/// Shows the issues until the person leaves.
///
/// # Errors
/// `no_terminal`, `terminal_failed`.
pub(crate) fn run(settings: &Settings) -> Result<(), CliError> {
    if !(io::stdout().is_terminal() && io::stdin().is_terminal()) {
        return Err(CliError::new("no_terminal", "this is no terminal")
            .hint("`dalsegno status` and `dalsegno events -f` work everywhere"));
    }
    let failed = |error: io::Error| CliError::io("terminal_failed", &error);
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ended)).map_err(failed)?;
    }
    // Puts the terminal back also when something panics.
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let shown = show(&mut terminal, settings, &ended);
    ratatui::restore();
    shown.map_err(failed)
}

fn show(terminal: &mut ratatui::DefaultTerminal, settings: &Settings, ended: &AtomicBool) -> io::Result<()> {
    let feed = Feed::start(&settings.state_dir);
    let events = keys();
    let mut model = Model::new(user(), color());
    while !model.left && !ended.load(Ordering::Relaxed) {
        model.now_ms = jiff::Timestamp::now().as_millisecond();
        terminal.draw(|frame| view::draw(frame, &model))?;
        let mut said = Vec::new();
        match events.recv_timeout(LOOK) {
            Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => said.push(Said::Key(key.into())),
            Ok(Event::Paste(text)) => said.push(Said::Pasted(text)),
            Ok(Event::Key(_) | Event::Resize(..) | Event::Mouse(_) | Event::FocusGained | Event::FocusLost)
            | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("the terminal gives no keys any more")),
        }
        said.extend(feed.heard());
        for said in said {
            for ask in model.update(said) {
                if let Err(ask) = feed.ask(ask) {
                    model.busy(&ask);
                }
            }
        }
        feed.look_at(model.wanted());
    }
    Ok(())
}

/// What the terminal tells, read on a thread of its own: of a terminal that is gone no read ends, and we have to.
fn keys() -> Receiver<Event> {
    let (tell, events) = sync_channel(KEYS);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if tell.send(event).is_err() {
                return;
            }
        }
    });
    events
}

#[cfg(test)]
mod tests;
