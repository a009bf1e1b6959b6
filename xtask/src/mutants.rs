//! `mutants`: small changes to the rules, one by one, to find what no test asserts.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::shell::{self, Done, root, say};
use crate::sim::seconds;
use crate::tool::Tool;

const CARGO_MUTANTS: Tool = Tool { name: "cargo-mutants", version: "27.1.0" };
/// Longest that the tests of one mutant may take, in seconds.
const HANGS: u32 = 60;
/// Where it writes what became of each.
const OUTPUT: &str = "target/mutants.out";

/// Change the core or the durable rules in small ways, in a fixed order, and see that a test notices each; cargo-mutants is
/// installed first where it is missing. Changes that change nothing are left out by `.cargo/mutants.toml`, which says why.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The package whose code is changed, and whose tests have to notice.
    #[arg(long, default_value = "dalsegno-core", value_parser = ["dalsegno-core", "dalsegno-durable"])]
    package: String,
    /// Only files that match, such as `budget.rs`; may be repeated.
    #[arg(long)]
    file: Vec<String>,
    /// A part of all, such as `0/8`: every eighth, from the first on.
    #[arg(long)]
    shard: Option<String>,
    /// How long at most, such as `10m`; what is left then is not tried.
    #[arg(long = "for", default_value = "25m", value_parser = seconds)]
    time: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let program = CARGO_MUTANTS.find_or_install()?;
    let mut command = Command::new("timeout");
    command.args(["--signal=INT", "--kill-after=60", &arguments.time.to_string()]).arg(program);
    command.args(["mutants", "--package", &arguments.package, "--test-package", &arguments.package, "--no-shuffle"]);
    let of_sagas = arguments.package == "dalsegno-durable";
    if of_sagas {
        // What sagas do when they are killed is tested there.
        command.args(["--test-package", "dalsegno-testkit"]);
    }
    command.args(["--jobs", "1", "--timeout", &HANGS.to_string(), "--output", "target"]);
    for file in &arguments.file {
        command.args(["--file", file]);
    }
    if let Some(shard) = &arguments.shard {
        command.args(["--shard", shard, "--sharding", "round-robin"]);
    }
    if of_sagas {
        command.args(["--", "--", "--skip", "sim::"]);
    }
    // Nobody reads where it broke, and it takes as long as the change.
    command.env("CARGO_PROFILE_DEV_DEBUG", "0").current_dir(root()).stdin(Stdio::null());
    let ran = shell::run(&mut command);
    let of = |name: &str| lines(&root().join(OUTPUT).join(format!("{name}.txt")));
    let (caught, missed, late, unviable) = (of("caught"), of("missed"), of("timeout"), of("unviable"));
    if caught.is_empty() {
        return ran;
    }
    let counts = [&caught, &missed, &late, &unviable].map(Vec::len);
    let [caught, survived, late, unviable] = counts;
    say(format_args!(
        "{} tried: {caught} caught, {late} never came to an end, {survived} survived, {unviable} do not compile",
        counts.iter().sum::<usize>()
    ));
    if missed.is_empty() {
        return Ok(());
    }
    Err(format!("no test notices:\n{}", missed.join("\n")))
}

fn lines(path: &Path) -> Vec<String> {
    // It writes the file with the first of its kind.
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}
