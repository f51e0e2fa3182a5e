//! `accrual account`: a member's account, for support: as a page of text or as the JSON that HTTP gives.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::setup::{SettingsArgs, Setup};
use crate::account_view::{AccountView, EntryView, LimitView, MeasureView, TierView, find};
use crate::programme::{Measure, Period, Programme};
use crate::store::Store;
use crate::types::{Buckets, MemberId, Points};

/// What `accrual account` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct AccountArgs {
    /// The member's id.
    member: String,
    /// Print the JSON that `GET /v1/accounts/{member}` answers with.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Shows an account, and fails where the member has none.
///
/// # Errors
/// Where the store does not answer.
pub fn account(args: &AccountArgs) -> anyhow::Result<ExitCode> {
    let Some(setup) = Setup::load_or_say(&args.settings, jiff::Timestamp::now()) else {
        return Ok(ExitCode::from(2));
    };
    if setup.config.store.url().is_none() {
        bail!(
            "the store is `memory`: its accounts end with their worker; ask that worker, GET /v1/accounts/…"
        );
    }
    let mut store = setup.stores().open()?;
    let member = MemberId::from(args.member.as_str());
    let buckets = setup.config.buckets;
    let now = Timestamp::now();
    let shown = show(store.as_mut(), setup.versions.at(now), buckets, &member, args.json, now)?;
    Ok(if shown { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints a member's account as it stands at `now`; false, and a word on stderr, where there is none.
///
/// # Errors
/// Where the store does not answer or the account cannot be read.
pub fn show(
    store: &mut dyn Store,
    programme: &Programme,
    buckets: Buckets,
    member: &MemberId,
    json: bool,
    now: Timestamp,
) -> anyhow::Result<bool> {
    let Some(account) = find(store, buckets, member)? else {
        eprintln!("member {member:?} has no account: nothing has counted for them yet");
        return Ok(false);
    };
    let view = AccountView::of(programme, &account, now);
    let text = if json {
        let json = serde_json::to_string_pretty(&view).context("rendering the account")?;
        format!("{json}\n")
    } else {
        page(&view, &programme.zone)
    };
    std::io::stdout().write_all(text.as_bytes()).context("printing the account")?;
    Ok(true)
}

/// The account as text; times are those of the programme's zone.
fn page(view: &AccountView, zone: &TimeZone) -> String {
    let time = |time: &Timestamp| zone.to_datetime(*time).strftime("%Y-%m-%d %H:%M").to_string();
    let AccountView { member_id, version, available, pending, tier, lots, limits, history } = view;
    let mut head = vec![["member".to_owned(), format!("{member_id}, version {version}")]];
    let held = if *pending == Points::ZERO { String::new() } else { format!(", {pending} more pending") };
    head.push(["points".to_owned(), format!("{available} available{held}")]);
    if let Some(tier) = tier {
        let since = tier.since.as_ref().map(|since| format!(", since {}", time(since))).unwrap_or_default();
        let kept = tier.kept_until.as_ref().map(|until| format!(", kept until {}", time(until)));
        head.push(["tier".to_owned(), format!("{}{since}{}", tier.id, kept.unwrap_or_default())]);
        head.push(["next tier".to_owned(), progress(tier)]);
        if !tier.benefits.is_empty() {
            head.push(["benefits".to_owned(), tier.benefits.join(", ")]);
        }
    }
    let mut page = table(&[], head);
    let expiry = |at: &Option<Timestamp>| at.as_ref().map_or_else(|| "never".to_owned(), time);
    let lots = lots.iter().map(|lot| {
        let held = lot.held_until.as_ref().map(|until| format!(", held until {}", time(until)));
        [lot.points.to_string(), format!("{}{}", expiry(&lot.expires_at), held.unwrap_or_default())]
    });
    section(&mut page, &["points", "expire"], lots);
    section(&mut page, &["left", "per", "limit of"], limits.iter().map(limit));
    section(
        &mut page,
        &["points", "time", "by", "why", "event"],
        history.iter().map(|line| entry(line, time(&line.time))),
    );
    page
}

fn progress(tier: &TierView) -> String {
    let MeasureView { measure, amount, window } = &tier.measured;
    let (unit, verb) = match measure {
        Measure::Earned => ("points", "earned"),
        Measure::Spend => ("of money", "spent"),
    };
    let measured = format!("{amount} {verb} ({window})");
    match &tier.next {
        Some(next) => format!("{}: {} {unit} missing, {measured}", next.id, next.missing),
        None => format!("none, this is the highest, {measured}"),
    }
}

fn limit(limit: &LimitView) -> [String; 3] {
    let times = limit.times_left.map(|times| format!("{times} times"));
    let points = limit.points_left.map(|points| format!("{points} points"));
    let per = match limit.per {
        Period::Day => "day",
        Period::Week => "week",
        Period::Month => "month",
        Period::Year => "year",
        Period::Ever => "ever",
    };
    let rule = limit.rule.as_ref().map(ToString::to_string);
    let campaign = limit.campaign.as_ref().map(|campaign| format!("campaign {campaign}"));
    [times.or(points).unwrap_or_default(), per.to_owned(), rule.or(campaign).unwrap_or_default()]
}

fn entry(entry: &EntryView, time: String) -> [String; 5] {
    let by = [
        entry.rule.as_ref().map(ToString::to_string),
        entry.streak_of.as_ref().map(|rule| format!("streak of {rule}")),
        entry.tier.as_ref().map(|tier| format!("tier {tier}")),
        entry.campaign.as_ref().map(|campaign| format!("campaign {campaign}")),
        entry.redemption.as_ref().map(|reward| format!("reward {reward}")),
        entry.act.map(|act| act.as_str().to_owned()),
    ];
    let by = by.into_iter().flatten().next().unwrap_or_default();
    let cut = entry.declined.map(|declined| format!(", {declined} declined")).unwrap_or_default();
    let reward = entry.reward.as_ref();
    let why = match entry.reason {
        Some(reason) => {
            let kept = reward.map(|reward| format!(", {reward} not given")).unwrap_or_default();
            format!("{}{cut}{kept}", reason.as_str().replace('_', " "))
        }
        None => match entry.kind.as_str() {
            "points.pending" => "held".to_owned(),
            "points.released" => "released".to_owned(),
            "points.redeemed" => "redeemed".to_owned(),
            "points.returned" => "given back".to_owned(),
            "points.reversed" => "taken back".to_owned(),
            "points.expiring" => "will expire".to_owned(),
            "points.expired" => "expired".to_owned(),
            _ => reward.map(|reward| format!("gives {reward}")).unwrap_or_default(),
        },
    };
    [format!("{:+}", entry.points.0), time, by, why, entry.event.to_string()]
}

fn section<const N: usize>(page: &mut String, header: &[&str; N], rows: impl Iterator<Item = [String; N]>) {
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        page.push('\n');
        page.push_str(&table(header, rows));
    }
}

/// Rows in columns. Numbers, which come first in every table with a header, stand to the right.
fn table<const N: usize>(header: &[&str], rows: Vec<[String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    if !header.is_empty() {
        table.set_header(header.iter().map(|name| name.to_uppercase()));
    }
    table.add_rows(rows);
    if let Some(numbers) = table.column_mut(0).filter(|_| !header.is_empty()) {
        numbers.set_cell_alignment(CellAlignment::Right);
    }
    format!("{}\n", table.trim_fmt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_a_page_that_support_can_read_out() {
        let view = serde_json::json!({
            "member_id": "m-1", "version": 7, "available": 1205, "pending": 30,
            "tier": {
                "id": "silver", "since": "2026-03-01T00:00:00Z", "kept_until": "2027-03-01T00:00:00Z",
                "benefits": ["priority_service"],
                "measured": {"measure": "earned", "amount": 1205, "window": "P12M"},
                "next": {"id": "gold", "missing": 3795},
            },
            "lots": [{"points": 1200, "expires_at": "2026-12-31T16:00:00Z"}, {"points": 5, "expires_at": null},
                {"points": 30, "expires_at": "2027-11-21T16:00:00Z", "held_until": "2026-12-05T02:00:00Z"}],
            "limits": [{"rule": "sign-in", "per": "day", "times_left": 0}],
            "history": [
                {"time": "2026-11-21T19:00:00Z", "type": "points.redeemed", "points": -900,
                 "redemption": "ten-off", "reward": "ten-off", "event": {"source": "/app", "id": "4"}},
                {"time": "2026-11-21T18:00:00Z", "type": "points.reversed", "points": -12,
                 "rule": "purchase", "event": {"source": "/app", "id": "3"}},
                {"time": "2026-11-21T17:00:00Z", "type": "points.declined", "points": 0, "declined": 5,
                 "rule": "sign-in", "reason": "limit_times", "event": {"source": "/app", "id": "2"}},
                {"time": "2026-11-21T16:30:00Z", "type": "points.earned", "points": 5,
                 "tier": "silver", "event": {"source": "/app", "id": "1"}},
                {"time": "2026-11-21T16:10:00Z", "type": "reward.granted", "points": 0,
                 "rule": "gift", "reward": "ten-off", "event": {"source": "/app", "id": "0"}},
                {"time": "2026-11-21T16:00:00Z", "type": "points.declined", "points": 0,
                 "rule": "gift", "reward": "ten-off", "reason": "already_paid", "event": {"source": "/app", "id": "0"}},
            ],
        });
        let view: AccountView = serde_json::from_value(view).unwrap();
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        let expected = "
 member     m-1, version 7
 points     1205 available, 30 more pending
 tier       silver, since 2026-03-01 08:00, kept until 2027-03-01 08:00
 next tier  gold: 3795 points missing, 1205 earned (P12M)
 benefits   priority_service

 POINTS  EXPIRE
   1200  2027-01-01 00:00
      5  never
     30  2027-11-22 00:00, held until 2026-12-05 10:00

    LEFT  PER  LIMIT OF
 0 times  day  sign-in

 POINTS  TIME              BY              WHY                              EVENT
   -900  2026-11-22 03:00  reward ten-off  redeemed                         /app 4
    -12  2026-11-22 02:00  purchase        taken back                       /app 3
     +0  2026-11-22 01:00  sign-in         limit times, 5 declined          /app 2
     +5  2026-11-22 00:30  tier silver                                      /app 1
     +0  2026-11-22 00:10  gift            gives ten-off                    /app 0
     +0  2026-11-22 00:00  gift            already paid, ten-off not given  /app 0
";
        assert_eq!(format!("\n{}", page(&view, &zone)), expected);
    }
}
