//! `ci`: what continuous integration looks at. `.ci/run` calls it.

use crate::shell::{self, Done, cargo};
use crate::steps::Steps;
use crate::{compare, fuzz, licences, purity, test, tidy};

/// Run everything that must hold before a change lands: format, lints, licences, tidiness, documentation, tests.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave the test suite out.
    #[arg(long)]
    no_test: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let mut steps = Steps::default();
    steps.take("fmt", || {
        shell::run(&mut cargo(&["fmt", "--all", "--check"]))?;
        // What is outside the workspace looks the same.
        compare::MANIFESTS
            .iter()
            .chain(&[fuzz::MANIFEST])
            .try_for_each(|manifest| shell::run(&mut cargo(&["fmt", "--all", "--check", "--manifest-path", manifest])))
    });
    steps.take("tidy", || tidy::run(&tidy::Arguments::default()));
    steps.take("licences", || licences::run(&licences::Arguments::default()));
    steps.take("clippy", || {
        shell::run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))
    });
    steps.take("purity", || purity::run(&purity::Arguments::default()));
    steps.take("docs", || {
        shell::run(cargo(&["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings"))
    });
    if arguments.no_test {
        steps.skip("test", "left out by --no-test");
    } else {
        steps.take("test", || test::run(&test::Arguments::default()));
    }
    steps.print_table();
    steps.verdict()
}
