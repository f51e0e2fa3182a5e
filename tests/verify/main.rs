//! `accrual verify` over the real lane, with a log and a store in memory that somebody tampers with: whatever is as it was
//! written is found to be, in whatever order it was published, and whatever was altered, removed or put in is named.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::missing_panics_doc
)]

#[allow(dead_code, reason = "only a part of it is used here")]
#[path = "../ten_years/calendar.rs"]
mod calendar;
#[allow(dead_code, reason = "only a part of it is used here")]
#[path = "../ten_years/life.rs"]
mod life;
#[path = "../simulation/rng.rs"]
mod rng;
mod shop;
mod tampering;

use std::collections::BTreeSet;

use accrual::types::MemberId;
use accrual::verify::{Findings, Note};
use proptest::prelude::*;
use rng::Rng;
use shop::Shop;

fn assert_sound(findings: &Findings, what: &str) {
    assert!(findings.is_sound(), "{what}: {:#?}", findings.differences);
    assert!(findings.undecided.is_empty() && findings.notes.is_empty(), "{what}: {findings:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_and_in_whatever_order_it_was_published_nothing_differs(seed in any::<u64>()) {
        let mut shop = Shop::after(seed, 25, 150);
        let plain = shop.verify();
        assert_sound(&plain, "as the lane wrote it");
        prop_assert!(plain.members >= 10 && plain.records > 100 && plain.snapshots >= plain.members, "{plain:?}");
        prop_assert!(plain.receipts > 50 && plain.budgets == 2, "{plain:?}");
        prop_assert_eq!(plain.members, plain.sound);

        let mut rng = Rng::new(seed);
        shop.log.scatter(4, &mut rng);
        let scattered = shop.verify();
        assert_sound(&scattered, "out of order, over partitions, some twice");
        prop_assert_eq!((scattered.members, scattered.sound, scattered.passes), (plain.members, plain.sound, 1));

        shop.memory = 1;
        let in_parts = shop.verify();
        assert_sound(&in_parts, "with hardly any memory");
        prop_assert!(in_parts.passes > 1 && in_parts.members == plain.members, "{in_parts:?}");

        let members: Vec<MemberId> = shop.store.accounts().into_keys().collect();
        let each = shop.verify_members(&members);
        assert_sound(&each, "each of them");
        prop_assert_eq!((each.members, each.sound), (plain.members, plain.sound));
        assert_sound(&shop.verify_quickly(&members[..3]), "three of them, in a hurry");
    }
}

#[test]
fn heads_that_were_written_down_are_found_again_later() {
    let mut shop = Shop::after(7, 10, 80);
    let heads = shop.heads();
    assert_eq!(heads.lines().collect::<BTreeSet<_>>().len() as u64, shop.verify().members);
    shop.live(40);
    let findings = shop.verify_against(&heads);
    assert_sound(&findings, "later");
    assert_eq!(findings.heads, heads.lines().count() as u64);
}

#[test]
fn what_is_published_while_it_is_verified_is_no_difference() {
    for seed in 0..6 {
        let mut shop = Shop::after(seed, 20, 100);
        // A part of the topics is seen only once the accounts were read.
        shop.log.comes_later(seed as usize % 3 + 1, 40);
        assert_sound(&shop.verify(), "the ledger grows meanwhile");
    }
}

#[test]
fn what_still_lies_in_the_outbox_is_no_difference() {
    let mut shop = Shop::after(3, 10, 80);
    let member = shop.longest();
    let records = shop.log.unpublish(&member, 3);
    shop.put_into_outbox(&member, &records);
    let findings = shop.verify();
    assert!(findings.is_sound(), "{:#?}", findings.differences);
    assert!(shop.verify_members(&[member]).is_sound());
}

#[test]
fn a_ledger_whose_first_records_retention_removed_is_verified_from_the_first_that_is_there() {
    let mut shop = Shop::after(5, 10, 120);
    let whole = shop.verify();
    shop.log.cut_off(whole.records as usize / 2);
    let findings = shop.verify();
    assert!(findings.is_sound(), "{:#?}", findings.differences);
    let begun = &findings.notes[&Note::Begun];
    assert!(begun.members > 3 && begun.some.iter().any(|(_, version)| *version > 1), "{begun:?}");
    let is_left = |(member, version): &&(MemberId, u64)| *version > 1 && shop.log.ledger_of(member).len() > 2;
    let (member, _) = begun.some.iter().find(is_left).unwrap().clone();
    assert!(shop.verify_members(std::slice::from_ref(&member)).notes.contains_key(&Note::Begun));
    // The chain holds from there on.
    shop.log.alter_last(&member, "\"version\":", "\"version\" :");
    let findings = shop.verify();
    assert_eq!(findings.differences[0].what, accrual::verify::What::Altered, "{:#?}", findings.differences);
}

#[test]
fn a_ledger_of_before_there_was_a_chain_is_sound_and_says_what_cannot_be_told() {
    let mut shop = Shop::after(9, 10, 80);
    shop.without_chain();
    let findings = shop.verify();
    assert!(findings.is_sound() && findings.undecided.len() == 1, "{findings:#?}");
    assert!(findings.undecided[0].starts_with("budgets:"), "{:?}", findings.undecided);
    assert_eq!((findings.sound, findings.receipts), (findings.members, 0));
}
