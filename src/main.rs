//! The command line: parses it, runs the command, says what went wrong.

use std::io::IsTerminal;
use std::process::ExitCode;

use accrual::commands::{
    accept_recreated, account, check, dead_letters, demo, explain, generate, probe, rebuild, run, schemas,
    test, verify,
};
use clap::{Parser, Subcommand};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

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
    /// Try a programme on scenarios: events, and the entries that must come of them.
    Test(test::TestArgs),
    /// Show a member's account.
    Account(account::AccountArgs),
    /// Show why an event paid what it paid, rule by rule.
    Explain(explain::ExplainArgs),
    /// Check that every account is what its ledger comes to, and that nobody altered either.
    Verify(verify::VerifyArgs),
    /// Look at what could not count, and put it back once what was wrong is mended.
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Fill a Redis that lost everything, or a new one, from what was published.
    Rebuild(rebuild::RebuildArgs),
    /// Say that an input topic was deleted and made anew, so that the worker reads it from its beginning.
    AcceptRecreated(accept_recreated::AcceptRecreatedArgs),
    /// Write the JSON Schemas of events, of what is published and, for editors, of a programme.
    Schemas(schemas::SchemasArgs),
    /// Show the whole job with nothing else installed.
    Demo(demo::DemoArgs),
    /// Make a shop's traffic, to Kafka or to a file.
    Generate(generate::GenerateArgs),
    /// Ask a worker's health, for healthchecks in images without curl.
    Probe(probe::ProbeArgs),
}

/// Ends quietly where nobody reads on, as in `accrual test | head`. The standard library panics where other
/// programs end by SIGPIPE; the exit code is that of theirs.
fn end_where_nobody_reads() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload().downcast_ref::<String>().map_or("", String::as_str);
        if said.starts_with("failed printing to stdout") && said.contains("Broken pipe") {
            std::process::exit(128 + 13);
        }
        usual(panic);
    }));
}

fn main() -> ExitCode {
    end_where_nobody_reads();
    let arguments = Arguments::parse();
    // The demo's tables are not to be read between log lines.
    log_to_stderr(if matches!(arguments.command, Command::Demo(_)) { "warn" } else { "info" });
    let result = match &arguments.command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::check(args),
        Command::Test(args) => test::test(args),
        Command::Account(args) => account::account(args),
        Command::Explain(args) => explain::explain(args),
        Command::Verify(args) => verify::verify(args),
        Command::DeadLetters(args) => dead_letters::dead_letters(args),
        Command::Rebuild(args) => rebuild::rebuild(args),
        Command::AcceptRecreated(args) => accept_recreated::accept_recreated(args),
        Command::Schemas(args) => schemas::schemas(args),
        Command::Demo(args) => demo::demo(args),
        Command::Generate(args) => generate::generate(args).map(|()| ExitCode::SUCCESS),
        Command::Probe(args) => probe::probe(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// One JSON line an event worth knowing; text on a terminal. `ACCRUAL_LOG=debug` says more, which may
/// name members.
fn log_to_stderr(default: &str) {
    let wanted = std::env::var("ACCRUAL_LOG").unwrap_or_else(|_| default.to_owned());
    let (filter, fault) = match wanted.parse::<Targets>() {
        Ok(filter) => (filter, None),
        Err(error) => (Targets::new().with_default(tracing::Level::INFO), Some(error)),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry();
    if std::io::stderr().is_terminal() {
        registry.with(lines.with_target(false).with_filter(filter)).init();
    } else {
        registry.with(lines.json().flatten_event(true).with_current_span(false).with_filter(filter)).init();
    }
    if let Some(error) = fault {
        tracing::warn!(%error, "ACCRUAL_LOG={wanted} cannot be read, expected such as info or accrual=debug");
    }
}
