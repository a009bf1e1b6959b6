//! `dalsegno demo`

mod project;
mod report;
mod screen;
mod watch;

use std::path::PathBuf;

use crate::error::CliError;
use crate::out;
use project::Project;

/// See the product work: three issues, a scripted agent, three branches; no key and no network needed
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Kill the daemon with SIGKILL at random moments while it works, and show that nothing is lost or done twice
    #[arg(long)]
    crash: bool,
    /// Where to put it: the project at DIR/project, its remote at DIR/remote.git [default: a new directory below ~/.dalsegno]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Open no browser (this version has no page to open)
    #[arg(long)]
    no_open: bool,
    /// Seed of the random moments, to see the same ones again
    #[arg(long, requires = "crash")]
    seed: Option<u64>,
}

/// SIGKILLs of `--crash`.
const KILLS: u32 = 6;

pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let Args { crash, dir, no_open: _, seed } = args;
    let project = Project::make(dir)?;
    out::line("A small git project with failing tests is made at");
    out::line(&format!("  {}\n", project.dir().display()));
    for (identifier, title, _) in project::ISSUES {
        out::line(&format!("  {identifier}  {title}"));
    }
    let kills = crash.then(|| watch::Kills::new(KILLS, seed.unwrap_or_else(random_seed)));
    match &kills {
        Some(kills) => out::line(&format!(
            "\nA scripted agent works on them, and the daemon gets {KILLS} SIGKILLs at random moments (seed {}).\n",
            kills.seed()
        )),
        None => out::line("\nA scripted agent works on them, two at a time. No key, no network.\n"),
    }
    let place = project.dir().join("project");
    super::end_on_ctrl_c_after(move || {
        // The daemon gets the same signal from the terminal, and ends in good order by itself.
        out::line("\nStopped. The same work goes on from where it stands with");
        out::line(&format!("  dalsegno run --once --dir {}", place.display()));
    })?;
    let watched = watch::watch(&project, kills)?;
    report::report(&project, &watched)
}

fn random_seed() -> u64 {
    let mut bytes = [0_u8; 4];
    // Without randomness the demo shows the same moments every time; that is no reason not to show it.
    let _ = getrandom::fill(&mut bytes);
    u64::from(u32::from_le_bytes(bytes))
}
