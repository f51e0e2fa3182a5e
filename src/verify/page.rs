//! The findings as text, for a terminal.

use std::fmt::Write;

use super::{Difference, Findings, Note, Noted, Remedy, What};

impl What {
    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "removed from the ledger",
            Self::Inserted => "inserted into the ledger",
            Self::Altered => "altered: the chain is broken",
            Self::Unchained => "without a link of the chain",
            Self::Unreadable => "no record of the ledger",
            Self::Misplaced => "under another member's key",
            Self::Balance => "balances do not follow",
            Self::Ahead => "ahead of the account",
            Self::Account => "account differs",
            Self::NoAccount => "no account",
            Self::Unknown => "unknown to the ledger",
            Self::Snapshot => "snapshot differs",
            Self::Receipt => "receipt missing or another",
            Self::Record => "record differs",
            Self::Due => "would fall due unnoticed",
            Self::Budget => "budget differs",
            Self::Head => "not the link that was written down",
        }
    }
}

/// The findings as text.
pub fn page(findings: &Findings) -> String {
    let mut page = String::new();
    let mut of_member: Option<Option<&str>> = None;
    for difference in &findings.differences {
        let member = difference.member_id.as_ref().map(crate::types::MemberId::as_str);
        if of_member != Some(member) {
            of_member = Some(member);
            let whose = member.map_or_else(|| "all members".to_owned(), |member| format!("member {member}"));
            line(&mut page, &whose);
        }
        show(&mut page, difference);
    }
    if !findings.differences.is_empty() {
        page.push('\n');
    }
    table(&mut page, findings);
    for (note, noted) in &findings.notes {
        page.push('\n');
        tell(&mut page, *note, noted);
    }
    for why in &findings.undecided {
        line(&mut page, &format!("\nnot decided: {why}"));
    }
    remedies(&mut page, findings);
    let verdict = if !findings.is_sound() {
        "the accounts and their ledger DIFFER"
    } else if findings.undecided.is_empty() && !findings.notes.contains_key(&Note::InFlux) {
        "all is well: every account is what its ledger comes to"
    } else {
        "nothing differs, as far as it could be decided"
    };
    line(&mut page, &format!("\n{verdict}"));
    page
}

fn line(page: &mut String, text: &str) {
    page.push_str(text);
    page.push('\n');
}

fn show(page: &mut String, difference: &Difference) {
    let Difference { what, version, entry, event, at, expected, found, .. } = difference;
    let version = version.map(|version| format!("version {version}: ")).unwrap_or_default();
    // Writing to a string does not fail.
    _ = writeln!(page, "  {version}{}", what.as_str());
    let record = [
        at.as_ref().map(|at| format!("at {at}")),
        entry.as_ref().map(|entry| format!("entry {entry}")),
        event.as_ref().map(|event| format!("of event {event}")),
    ];
    let record: Vec<String> = record.into_iter().flatten().collect();
    if !record.is_empty() {
        _ = writeln!(page, "    {}", record.join(", "));
    }
    _ = writeln!(page, "    expected  {expected}\n    found     {found}");
}

fn table(page: &mut String, findings: &Findings) {
    let Findings { members, records, sound, snapshots, receipts, budgets, heads, differing, .. } = *findings;
    let rows = [
        ("members", members, true),
        ("records of the ledger", records, true),
        ("snapshots compared", snapshots, true),
        ("receipts asked for", receipts, true),
        ("budgets compared", budgets, budgets > 0),
        ("heads found again", heads, heads > 0),
        ("accounts that are their ledger", sound, true),
        ("members with a difference", differing, true),
    ];
    for (what, number, is_shown) in rows {
        if is_shown {
            _ = writeln!(page, "{what:<32}{:>15}", crate::commands::progress::grouped(number));
        }
    }
    let named = findings.differences.iter().filter_map(|difference| difference.member_id.as_ref());
    let mut named: Vec<_> = named.collect();
    named.dedup();
    if differing > named.len() as u64 {
        _ = writeln!(page, "of which are named{:>29}", named.len());
    }
}

fn tell(page: &mut String, note: Note, noted: &Noted) {
    let Noted { members, some } = noted;
    let text = match note {
        Note::Begun => {
            "whose first records the topic's retention has removed: not verifiable before the version named"
        }
        Note::InFlux => {
            "in flux: they changed each time they were looked at; their ledger and balances are as they should be, \
                         receipts and what falls due were not compared"
        }
        Note::Adjusted => "an edit of whose account was taken back by an adjustment (see docs/verify.md)",
        Note::OtherSettings => {
            "that keep more or less history or months than settings say now; the rest is equal"
        }
    };
    let some: Vec<String> = some.iter().map(|(member, version)| format!("{member} ({version})")).collect();
    let more = if *members > some.len() as u64 { ", …" } else { "" };
    let who = if *members == 1 { "1 member".to_owned() } else { format!("{members} members") };
    _ = writeln!(page, "{who} {text}: {}{more}", some.join(", "));
}

/// What can be done.
fn remedies(page: &mut String, findings: &Findings) {
    let has = |wanted: fn(&Option<Remedy>) -> bool| {
        let mut members: Vec<&str> = findings
            .differences
            .iter()
            .filter(|difference| wanted(&difference.remedy))
            .filter_map(|difference| difference.member_id.as_ref().map(crate::types::MemberId::as_str))
            .collect();
        members.dedup();
        members
    };
    let adjusted = has(|remedy| matches!(remedy, Some(Remedy::Adjustment(_))));
    let rebuilt = has(|remedy| matches!(remedy, Some(Remedy::Rebuild)));
    if !adjusted.is_empty() {
        _ = writeln!(
            page,
            "\n{} where only spendable points differ. Their ledger is sound, so the account was edited. Either make it\n\
             anew from what was published (docs/verify.md), or `accrual verify --fix` sends an adjustment that takes the edit\n\
             back and stays in the ledger; never both",
            shown(&adjusted)
        );
    }
    if !rebuilt.is_empty() {
        _ = writeln!(
            page,
            "\n{} whose ledger is sound, and whose account or what stands beside it is not. No event mends that:\n\
             `accrual rebuild` restores from what was published, once what is wrong is removed (docs/verify.md)",
            shown(&rebuilt)
        );
    }
    let is_lost = |difference: &&Difference| difference.remedy.is_none() && difference.member_id.is_some();
    if findings.differences.iter().any(|difference| is_lost(&difference)) {
        line(
            page,
            "\nWhere the ledger itself is not as it was written, nothing is proposed: compare the records named with a mirror or \
             a backup of the topics, and see docs/verify.md",
        );
    }
}

fn shown(members: &[&str]) -> String {
    const MOST: usize = 5;
    let some = members.iter().take(MOST).copied().collect::<Vec<_>>().join(", ");
    let more = if members.len() > MOST { ", …" } else { "" };
    format!("{} member{} ({some}{more})", members.len(), if members.len() == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{EventId, Points};
    use crate::verify::Place;

    #[test]
    fn what_differs_is_named_before_the_numbers_and_what_can_be_done_after_them() {
        let at = crate::types::Coordinates { topic: "awards".into(), partition: 3, offset: 117 };
        let event = EventId { source: "shop".into(), id: "o-1".into() };
        let altered = Difference::of(What::Altered, &"ann".into(), Some(7), "one link", "another");
        let edited = Difference::of(What::Account, &"bob".into(), Some(9), "available 5", "available 1005");
        let mut findings = Findings {
            members: 1_234,
            records: 20_000,
            sound: 1_232,
            differing: 2,
            differences: vec![
                altered.shown_by(&Place::Topic(at), Some("e0"), Some(&event)),
                Difference { remedy: Some(Remedy::Adjustment(Points(-1_000))), ..edited },
            ],
            ..Findings::default()
        };
        findings.note(Note::Begun, &"eve".into(), 41);
        let expected = "
member ann
  version 7: altered: the chain is broken
    at awards/3/117, entry e0, of event shop o-1
    expected  one link
    found     another
member bob
  version 9: account differs
    expected  available 5
    found     available 1005

members                                   1,234
records of the ledger                    20,000
snapshots compared                            0
receipts asked for                            0
accounts that are their ledger            1,232
members with a difference                     2

1 member whose first records the topic's retention has removed: not verifiable before the version named: eve (41)

1 member (bob) where only spendable points differ. Their ledger is sound, so the account was edited. Either make it
anew from what was published (docs/verify.md), or `accrual verify --fix` sends an adjustment that takes the edit
back and stays in the ledger; never both

Where the ledger itself is not as it was written, nothing is proposed: compare the records named with a mirror or a \
backup of the topics, and see docs/verify.md

the accounts and their ledger DIFFER
";
        assert_eq!(format!("\n{}", page(&findings)), expected);
    }
}
