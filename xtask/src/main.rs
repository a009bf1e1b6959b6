//! The project's own chores: one verb, one file.
//!
//! `cargo xtask test` is the whole test suite, `cargo xtask ci` is everything that continuous integration looks at.
//! This crate stays cheap to compile: nothing but clap, serde, the list of parts
//! and the standard library.

mod bench;
mod ci;
mod compare;
mod crash;
mod fuzz;
mod kill;
mod layers;
mod licences;
mod load;
mod metadata;
mod mutants;
mod newcomer;
mod openapi;
mod parts;
mod purity;
mod real;
mod shell;
mod sim;
mod spdx;
mod steps;
mod tally;
mod test;
mod tidy;
mod tool;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::shell::say;

/// The project's own chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Test(test::Arguments),
    Ci(ci::Arguments),
    Tidy(tidy::Arguments),
    Layers(layers::Arguments),
    Licences(licences::Arguments),
    Purity(purity::Arguments),
    Bench(bench::Arguments),
    Load(load::Arguments),
    Compare(compare::Arguments),
    Crash(crash::Arguments),
    Kill(kill::Arguments),
    Real(real::Arguments),
    Sim(sim::Arguments),
    Fuzz(fuzz::Arguments),
    Mutants(mutants::Arguments),
    Parts(parts::Arguments),
    Newcomer(newcomer::Arguments),
    Openapi(openapi::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Test(arguments) => test::run(&arguments),
        Verb::Ci(arguments) => ci::run(&arguments),
        Verb::Tidy(arguments) => tidy::run(&arguments),
        Verb::Layers(arguments) => layers::run(&arguments),
        Verb::Licences(arguments) => licences::run(&arguments),
        Verb::Purity(arguments) => purity::run(&arguments),
        Verb::Bench(arguments) => bench::run(&arguments),
        Verb::Load(arguments) => load::run(&arguments),
        Verb::Compare(arguments) => compare::run(&arguments),
        Verb::Crash(arguments) => crash::run(&arguments),
        Verb::Kill(arguments) => kill::run(&arguments),
        Verb::Real(arguments) => real::run(&arguments),
        Verb::Parts(arguments) => parts::run(&arguments),
        Verb::Fuzz(arguments) => fuzz::run(&arguments),
        Verb::Mutants(arguments) => mutants::run(&arguments),
        Verb::Sim(arguments) => sim::run(&arguments),
        Verb::Newcomer(arguments) => newcomer::run(&arguments),
        Verb::Openapi(arguments) => openapi::run_verb(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            say(format_args!("error: {problem}"));
            ExitCode::FAILURE
        }
    }
}
