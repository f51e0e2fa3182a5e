//! The command line: parses it, runs the command, says what went wrong.

use std::io::IsTerminal;
use std::process::ExitCode;

use accrual::commands::{check, probe, run};
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Allocation is a tenth of a lane's time with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs a shop's loyalty programme as a Kafka worker: events in, points and tiers out, exactly once.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the worker.
    Run(run::RunArgs),
    /// Check settings and programme without consuming anything.
    Check(check::CheckArgs),
    /// Ask a worker's health, for healthchecks in images without curl.
    Probe(probe::ProbeArgs),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log_to_stderr();
    let result = match &arguments.command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::check(args),
        Command::Probe(args) => probe::probe(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// One JSON line an event worth knowing; text on a terminal. `ACCRUAL_LOG=debug` says more, which may
/// name members.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("ACCRUAL_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        subscriber.with_target(false).init();
    } else {
        subscriber.json().flatten_event(true).with_current_span(false).init();
    }
}
