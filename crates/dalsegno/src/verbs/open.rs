//! `dalsegno open`

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use dalsegno_api::{Client, Daemon, LoginLink};

use crate::error::CliError;
use crate::settings::Settings;
use crate::{out, presence};

/// What leads the browser on.
const PAGE_FILE: &str = "open.html";
/// Looks at whether a browser was found, at most.
const LOOKS: u32 = 10;
/// Wait between two of them.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Open the daemon's page in the browser, logged in
///
/// Makes a link that works once, within a minute, and gives the browser a session of 12 hours that ends with the daemon. The link
/// is handed over in a private file, as everybody on a machine can read the arguments of a program. A browser that may not
/// read the state directory takes the link that `--print` shows.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print the link, and open nothing
    #[arg(long)]
    print: bool,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let client = Client::discover(&settings.state_dir)?;
    let LoginLink { path, expires_in_s } = client.login_link()?;
    let daemon = Daemon::read(&settings.state_dir)?;
    let base = daemon.map(|daemon| daemon.url).unwrap_or_default();
    let url = format!("{}{path}", base.trim_end_matches('/'));
    if settings.json {
        out::json(&serde_json::json!({"url": url, "expires_in_s": expires_in_s}));
        return Ok(());
    }
    if args.print || !browse(&settings.state_dir, &url)? {
        out::line(&url);
    } else {
        out::line("The browser opens the page. If it does not: `dalsegno open --print` shows the link.");
    }
    Ok(())
}

/// Whether there was a browser to be asked.
fn browse(state_dir: &Path, url: &str) -> Result<bool, CliError> {
    let page =
        std::path::absolute(state_dir.join(PAGE_FILE)).map_err(|error| CliError::io("file_unwritable", &error))?;
    let html =
        format!("<!doctype html><meta http-equiv=\"refresh\" content=\"0; url={url}\"><a href=\"{url}\">Go on</a>\n");
    presence::write(&page, html.as_bytes()).map_err(|error| CliError::unwritable("file_unwritable", &page, &error))?;
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut command = Command::new(opener);
    command.arg(page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return Ok(false) };
    // It says soon that there is no browser; one that it starts may be its child as long as that lives.
    for _ in 0..LOOKS {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) => std::thread::sleep(LOOK_AGAIN),
            Err(_) => return Ok(false),
        }
    }
    Ok(true)
}
