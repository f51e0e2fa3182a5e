//! `accrual explain`: why an event paid what it paid, for support: as a page of text or as the JSON that HTTP gives.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::setup::{SettingsArgs, Setup};
use crate::explain::{ExplainError, Question, page};
use crate::types::MemberId;

/// What `accrual explain` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct ExplainArgs {
    /// The event's id; with --member also its order's or its review's.
    event_id: String,
    /// Whose event. Without it the receipts of all members are searched, which takes longer.
    #[arg(long)]
    member: Option<String>,
    /// The event's source, where several have an event of this id.
    #[arg(long)]
    source: Option<String>,
    /// How many seconds the member's ledger may be read for. Where that is too short, the answer says what it lacks.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    within: u64,
    /// Print the JSON that `GET /v1/accounts/{member}/explain/{event_id}` answers with.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Explains an event, and fails where there is none.
///
/// # Errors
/// Where the store or Kafka does not answer.
pub fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let Some(setup) = Setup::load_or_say(&args.settings, jiff::Timestamp::now()) else {
        return Ok(ExitCode::from(2));
    };
    if setup.config.store.url().is_none() {
        bail!(
            "the store is `memory`: its receipts end with their worker; ask that worker, GET /v1/accounts/…/explain/…"
        );
    }
    let question = Question {
        member: args.member.as_deref().map(MemberId::from),
        id: args.event_id.clone(),
        source: args.source.clone(),
    };
    let mut explainer = setup.explainer(&setup.stores())?;
    let deadline = Instant::now() + Duration::from_secs(args.within);
    let explanation = match explainer.explain(&question, deadline) {
        Ok(explanation) => explanation,
        Err(error @ (ExplainError::NotFound(_) | ExplainError::Several(_))) => {
            eprintln!("{error}");
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(error).context("explaining"),
    };
    let text = if args.json {
        let json = serde_json::to_string_pretty(&explanation).context("rendering the explanation")?;
        format!("{json}\n")
    } else {
        page(&explanation, &setup.versions.first().zone)
    };
    std::io::stdout().write_all(text.as_bytes()).context("printing the explanation")?;
    Ok(ExitCode::SUCCESS)
}
