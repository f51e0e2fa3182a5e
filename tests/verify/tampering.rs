//! Each kind of tampering is named: the member, the version, what was expected and what was found.

use accrual::entry::Chain;
use accrual::log::Record;
use accrual::store::{CommitBucket, Grant, LeaseId, LeaseRequest, Store, take_as_whole};
use accrual::types::{Bucket, CampaignId, MemberId, Points};
use accrual::verify::{Difference, Note, Remedy, What};

use crate::shop::{ACCOUNTS, Shop, altered, json, link, sealed, unsealed, version};

/// A shop, a member with a long ledger, and a version in the midst of it that is an entry which earned points.
fn shop() -> (Shop, MemberId, u64) {
    let shop = Shop::after(11, 8, 120);
    let member = shop.longest();
    let ledger = shop.log.ledger_of(&member);
    let earned = |record: &Record| {
        let event = json(record);
        event["type"] == "points.earned" && event["data"]["points"].as_i64() > Some(1)
    };
    let found =
        ledger.iter().skip(5).find(|(version, record)| earned(record) && **version + 3 < ledger.len() as u64);
    let version = *found.expect("an entry that earned").0;
    (shop, member, version)
}

/// The differences, which must be the same whether everybody or the member alone is looked at; budgets aside, which an edited
/// store does not have.
fn found(shop: &Shop, member: &MemberId) -> Vec<Difference> {
    let without_budgets = |mut differences: Vec<Difference>| {
        differences.retain(|difference| difference.what != What::Budget);
        differences
    };
    let all = without_budgets(shop.verify().differences);
    let alone = without_budgets(shop.verify_members(std::slice::from_ref(member)).differences);
    assert_eq!(all, alone, "everybody, and the member alone");
    assert!(all.iter().all(|difference| difference.member_id.as_ref() == Some(member)), "{all:#?}");
    all
}

fn whats(differences: &[Difference]) -> Vec<(What, Option<u64>)> {
    differences.iter().map(|difference| (difference.what, difference.version)).collect()
}

#[test]
fn an_altered_entry_is_named() {
    let (mut shop, member, at) = shop();
    let points = json(&shop.log.ledger_of(&member)[&at])["data"]["points"].as_i64().unwrap();
    let (from, to) = (format!("\"points\":{points},"), format!("\"points\":{},", points + 1_000));
    shop.log.edit(&member, |version, record| {
        Some(if version == at { altered(record, &from, &to) } else { record })
    });
    let differences = found(&shop, &member);
    let first = &differences[0];
    assert_eq!((first.what, first.version), (What::Altered, Some(at)), "{differences:#?}");
    assert!(first.at.as_ref().unwrap().starts_with("awards/0/") && first.entry.is_some(), "{first:?}");
    assert!(first.event.as_ref().unwrap().contains(' '), "{first:?}");
    assert!(whats(&differences).contains(&(What::Balance, Some(at))), "the entry prints what it had come to");
    assert!(
        differences.iter().all(|difference| difference.remedy.is_none()),
        "a ledger that lies brings nothing back"
    );
}

#[test]
fn an_entry_that_was_altered_with_its_link_is_told_by_the_next() {
    let (mut shop, member, at) = shop();
    let before = link(&shop.log.ledger_of(&member)[&(at - 1)]);
    shop.log.edit(&member, |version, record| {
        Some(if version == at {
            sealed(&altered(record, "\"time\":\"20", "\"time\":\"19"), Some(before))
        } else {
            record
        })
    });
    assert_eq!(whats(&found(&shop, &member))[0], (What::Altered, Some(at + 1)));
}

#[test]
fn an_entry_whose_event_was_altered_is_named() {
    let (mut shop, member, at) = shop();
    shop.log.edit(&member, |version, record| {
        Some(if version == at {
            altered(record, "\"event\":{\"source\":\"", "\"event\":{\"source\":\"x")
        } else {
            record
        })
    });
    let differences = found(&shop, &member);
    let unreadable = differences.iter().find(|difference| difference.what == What::Unreadable).unwrap();
    assert!(unreadable.found.contains("is not that of its event"), "{unreadable:?}");
    assert!(whats(&differences).contains(&(What::Removed, Some(at))), "{differences:#?}");
}

#[test]
fn a_removed_entry_is_named() {
    let (mut shop, member, at) = shop();
    shop.log.edit(&member, |version, record| (version != at).then_some(record));
    let differences = found(&shop, &member);
    assert_eq!(whats(&differences)[0], (What::Removed, Some(at)), "{differences:#?}");
    assert_eq!(differences[0].expected, format!("version {at} of the ledger"));
    assert!(!differences.iter().any(|difference| difference.what == What::Altered), "{differences:#?}");
}

#[test]
fn removed_entries_at_the_end_are_named() {
    let (mut shop, member, _) = shop();
    let last = shop.account(&member).version;
    shop.log.unpublish(&member, 2);
    let differences = found(&shop, &member);
    assert_eq!(whats(&differences), [(What::Removed, Some(last - 1))]);
}

#[test]
fn an_entry_that_was_put_in_is_named_where_it_stands() {
    let (mut shop, member, at) = shop();
    let forged = shop.log.ledger_of(&member)[&at].clone();
    let points = json(&forged)["data"]["points"].as_i64().unwrap();
    let forged = altered(forged, &format!("\"points\":{points},"), &format!("\"points\":{},", points * 9));
    shop.log.append(forged);
    let differences = found(&shop, &member);
    assert_eq!(whats(&differences), [(What::Inserted, Some(at))]);
    let end = shop.log.topics["awards"][0].len() - 1;
    assert_eq!(differences[0].at, Some(format!("awards/0/{end}")));
}

#[test]
fn an_entry_that_was_put_behind_the_last_with_a_link_of_its_own_is_named() {
    let (mut shop, member, at) = shop();
    let last = shop.account(&member).version;
    let forged = shop.log.ledger_of(&member)[&at].clone();
    let forged = altered(forged, &format!("\"version\":{at},"), &format!("\"version\":{},", last + 1));
    let forged = sealed(&forged, shop.account(&member).chain);
    shop.log.append(forged);
    let differences = found(&shop, &member);
    assert!(whats(&differences).contains(&(What::Ahead, Some(last + 1))), "{differences:#?}");
}

#[test]
fn entries_that_changed_places_are_named() {
    let (mut shop, member, at) = shop();
    let [one, other] = [format!("\"version\":{at},"), format!("\"version\":{},", at + 1)];
    shop.log.edit(&member, |version, record| {
        Some(match version {
            version if version == at => altered(record, &one, &other),
            version if version == at + 1 => altered(record, &other, &one),
            _ => record,
        })
    });
    let altered = whats(&found(&shop, &member));
    assert!(
        altered.contains(&(What::Altered, Some(at))) && altered.contains(&(What::Altered, Some(at + 1))),
        "{altered:?}"
    );
}

#[test]
fn an_entry_that_lost_its_link_is_named() {
    let (mut shop, member, at) = shop();
    shop.log.edit(&member, |version, record| {
        Some(if version == at { Record { payload: Some(unsealed(&record)), ..record } } else { record })
    });
    assert_eq!(whats(&found(&shop, &member))[0], (What::Unchained, Some(at)));
}

#[test]
fn an_entry_under_another_members_key_is_named() {
    let (mut shop, member, at) = shop();
    let record = shop.log.ledger_of(&member)[&at].clone();
    let other = shop.store.accounts().into_keys().find(|other| *other != member).unwrap();
    shop.log.append(Record { key: Some(other.as_str().as_bytes().to_vec()), ..record });
    let differences = found(&shop, &other);
    assert_eq!(whats(&differences), [(What::Misplaced, Some(at))]);
    assert_eq!(differences[0].found, format!("one of member {member}"));
}

#[test]
fn a_chain_that_was_rewritten_to_its_end_is_told_by_heads_that_lie_elsewhere() {
    let (mut shop, member, at) = shop();
    let heads = shop.heads();
    let mut chain: Option<Chain> = None;
    let mut links = std::collections::BTreeMap::new();
    for (version, record) in shop.log.ledger_of(&member) {
        let record = if version == at { altered(record, "\"day\":\"20", "\"day\":\"19") } else { record };
        let record = sealed(&record, chain);
        chain = Some(link(&record));
        links.insert(version, record);
    }
    shop.log.edit(&member, |version, _| Some(links[&version].clone()));
    shop.edit_account(&member, |account| account.chain = chain);
    let everything_else = found(&shop, &member);
    assert!(
        !everything_else.iter().any(|difference| difference.what == What::Altered),
        "{everything_else:#?}"
    );
    let differences = shop.verify_against(&heads).differences;
    let head =
        differences.iter().find(|difference| difference.what == What::Head).expect("the head is named");
    assert_eq!((head.member_id.as_ref(), head.version), (Some(&member), Some(shop.account(&member).version)));
}

#[test]
fn a_ledger_that_ends_before_a_head_is_named() {
    let (mut shop, member, _) = shop();
    let heads = shop.heads();
    let last = shop.account(&member).version;
    shop.log.unpublish(&member, 2);
    let found = whats(&shop.verify_against(&heads).differences);
    assert!(found.contains(&(What::Head, Some(last))), "{found:?}");
}

#[test]
fn points_that_were_put_into_an_account_are_named_and_an_adjustment_is_proposed() {
    let (mut shop, member, _) = shop();
    let had = shop.account(&member).available;
    let version = Some(shop.account(&member).version);
    shop.edit_account(&member, |account| account.available.0 += 1_000);
    let differences = found(&shop, &member);
    assert_eq!(whats(&differences), [(What::Account, version)]);
    let [expected, edited] = [had.0, had.0 + 1_000].map(|points| format!("available {points}"));
    assert_eq!((&differences[0].expected, &differences[0].found), (&expected, &edited));
    // An adjustment would take them from lots that were earned.
    assert_eq!(differences[0].remedy, Some(Remedy::Rebuild));

    shop.edit_account(&member, |account| {
        account.lots.add(accrual::account::Lot::open(Points(1_000), Some(1 << 33))).unwrap();
    });
    let differences = found(&shop, &member);
    assert_eq!(whats(&differences), [(What::Account, version), (What::Account, version)]);
    let adjustment = Some(Remedy::Adjustment(Points(-1_000)));
    assert!(differences.iter().all(|difference| difference.remedy == adjustment), "{differences:#?}");
}

#[test]
fn whatever_else_of_an_account_was_edited_is_named_and_it_is_to_be_made_anew() {
    type Edit = fn(&mut accrual::account::Account);
    let edits: [(&str, Edit); 8] = [
        ("pending", |account| account.pending.0 += 5),
        ("earned", |account| account.earned.total.0 += 9_000),
        ("newest", |account| account.newest += 86_400),
        // Lines that are others; one less might be another setting.
        ("history", |account| {
            let lines = account.history.entries().into_iter().flatten();
            account.history = lines.rev().collect();
        }),
        ("activity", |account| account.activity.orders += 1),
        ("used", |account| account.used.clear()),
        ("chain", |account| account.chain = None),
        ("closed", |account| account.closed = Some(accrual::account::Closed::Left {})),
    ];
    let (shop, member, _) = shop();
    for (field, edit) in edits {
        let mut shop = shop.copy();
        shop.edit_account(&member, edit);
        let differences = found(&shop, &member);
        assert_eq!(whats(&differences), [(What::Account, Some(shop.account(&member).version))], "{field}");
        assert!(
            differences[0].expected.contains(field) && differences[0].found.contains(field),
            "{differences:?}"
        );
        assert_eq!(differences[0].remedy, Some(Remedy::Rebuild), "{field}");
    }
}

#[test]
fn an_edit_that_an_adjustment_took_back_is_told_of_and_is_no_difference_any_more() {
    let (mut shop, member, _) = shop();
    let before = shop.account(&member);
    // The account as it was edited, and as the worker left it once it had taken the adjustment.
    let adjusted = |balance: i64, version: u64| {
        format!(
            r#"{{"specversion":"1.0","id":"ID","source":"accrual/decade","type":"points.adjusted","subject":"{member}","time":"2026-11-26T10:00:00Z","datacontenttype":"application/json","data":{{"member_id":"{member}","points":-1000,"available":{balance},"pending":{},"version":{version},"act":"adjustment","day":"2026-11-26","lots":[],"adjustment_id":"v","operator":"accrual verify","explanation":"an edit","event":{{"source":"accrual/verify","id":"v","type":"points.adjusted"}},"programme":{{"name":"decade","version":"0123456789ab"}}}}}}"#,
            before.pending
        )
    };
    let event = accrual::types::EventId { source: "accrual/verify".into(), id: "v".into() };
    let by = accrual::entry::Origin::Act(accrual::entry::Act::Adjustment);
    let id = accrual::entry::Renderer::new("decade").entry_id(&event, &by, 0).to_string();
    let mut payload =
        adjusted(before.available.0, before.version + 1).replace("\"ID\"", &format!("\"{id}\"")).into_bytes();
    let mut chain = before.chain;
    Chain::seal(&mut chain, &mut payload);
    let change = accrual::ledger::Published::parse(&payload).unwrap().change;
    let mut record = shop
        .log
        .ledger_of(&member)
        .into_values()
        .find(|record| record.at.topic.as_str() == "awards")
        .unwrap();
    record.payload = Some(payload);
    shop.log.append(record);
    let retention = accrual::account::Retention { history: 5, months: 14, days: 30 };
    shop.edit_account(&member, |account| {
        account.available.0 += 1_000;
        account.lots.add(accrual::account::Lot::open(Points(1_000), Some(1 << 33))).unwrap();
        account.evolve(&change, &retention).unwrap();
        account.chain = chain;
    });
    let findings = shop.verify_members(std::slice::from_ref(&member));
    assert!(findings.is_sound(), "{:#?}", findings.differences);
    assert_eq!(findings.notes[&Note::Adjusted].members, 1);
    // Had it been made anew from its ledger as well, it would lack what the adjustment took.
    shop.edit_account(&member, |account| {
        account.available.0 -= 1_000;
        account.lots.take(Points(1_000));
    });
    let differences = shop.verify_members(std::slice::from_ref(&member)).differences;
    assert_eq!(differences[0].remedy, Some(Remedy::Adjustment(Points(1_000))), "{differences:#?}");
}

#[test]
fn an_account_that_was_removed_and_one_that_was_put_in_are_named() {
    let (mut shop, member, _) = shop();
    let last = shop.account(&member).version;
    shop.edit(|of, json| (*of != member).then_some(json), |_, receipt| Some(receipt), |_, at| Some(at));
    let differences = found(&shop, &member);
    assert_eq!(whats(&differences), [(What::NoAccount, Some(last))]);

    let stranger = MemberId::from("stranger");
    shop.log.topics.values_mut().flatten().for_each(|partition| {
        partition.retain(|record| record.key.as_deref() != Some(member.as_str().as_bytes()));
    });
    let account =
        accrual::account::Account { version: 3, ..accrual::account::Account::new(stranger.clone()) };
    shop.put(&stranger, account.to_json());
    assert_eq!(whats(&found(&shop, &stranger)), [(What::Unknown, None)]);
}

#[test]
fn receipts_that_are_missing_or_others_are_named() {
    let (shop, member, at) = shop();
    let event = json(&shop.log.ledger_of(&member)[&at])["data"]["event"]["id"].as_str().unwrap().to_owned();
    let source =
        json(&shop.log.ledger_of(&member)[&at])["data"]["event"]["source"].as_str().unwrap().to_owned();
    let key = format!("e {source} {event}");

    let mut missing = shop.copy();
    missing.edit(|_, json| Some(json), |of, receipt| (**of != *key).then_some(receipt), |_, at| Some(at));
    let differences = found(&missing, &member);
    assert_eq!(differences.len(), 1, "{differences:#?}");
    assert_eq!(
        (differences[0].what, &*differences[0].found),
        (What::Receipt, format!("`{key}`: none").as_str())
    );

    let mut other = shop.copy();
    let moved = |of: &accrual::store::ReceiptKey, mut receipt: accrual::store::Receipt| {
        receipt.at.offset += i64::from(**of == *key);
        Some(receipt)
    };
    other.edit(|_, json| Some(json), moved, |_, at| Some(at));
    assert_eq!(
        found(&other, &member).iter().map(|difference| difference.what).collect::<Vec<_>>(),
        [What::Receipt]
    );
}

#[test]
fn a_record_of_an_order_that_was_edited_is_named() {
    let (mut shop, member, _) = shop();
    let begin = format!("order.paid {}:{member} ", member.as_str().len());
    let mut keys =
        shop.store.receipts().into_keys().map(|(_, key)| key).filter(|key| key.starts_with(&begin));
    let key = keys.next().unwrap();
    let edited = |of: &accrual::store::ReceiptKey, mut receipt: accrual::store::Receipt| {
        if *of == key {
            let record = receipt.record.take().unwrap();
            receipt.record = Some(record.replacen("{\"a\":\"", "{\"a\":\"9", 1).into());
        }
        Some(receipt)
    };
    shop.edit(|_, json| Some(json), edited, |_, at| Some(at));
    let differences = found(&shop, &member);
    assert_eq!(differences.len(), 1, "{differences:#?}");
    assert!(differences[0].what == What::Record && differences[0].found.contains(&*key), "{differences:?}");
}

#[test]
fn who_would_fall_due_unnoticed_is_named_and_who_is_looked_at_too_early_is_not() {
    let (shop, _, _) = shop();
    let (member, _) = shop.store.due().into_iter().next().unwrap();
    let with_due = |moment: Option<i64>| {
        let mut shop = shop.copy();
        shop.edit(
            |_, json| Some(json),
            |_, receipt| Some(receipt),
            |of, at| if *of == member { moment } else { Some(at) },
        );
        whats(&found(&shop, &member))
    };
    let version = Some(shop.account(&member).version);
    assert_eq!(with_due(None), [(What::Due, version)]);
    assert_eq!(with_due(Some(1 << 40)), [(What::Due, version)]);
    assert_eq!(with_due(Some(0)), []);
}

#[test]
fn a_snapshot_that_was_altered_is_named() {
    let (mut shop, member, _) = shop();
    let key = member.as_str().as_bytes();
    let snapshots = &mut shop.log.topics.get_mut(ACCOUNTS).unwrap()[0];
    let last = snapshots.iter_mut().rev().find(|record| record.key.as_deref() == Some(key)).unwrap();
    *last = altered(last.clone(), "\"available\":", "\"available\":1");
    let differences = found(&shop, &member);
    assert_eq!(differences.len(), 1, "{differences:#?}");
    assert_eq!(differences[0].what, What::Snapshot);
    assert!(differences[0].at.as_ref().unwrap().starts_with("accounts/0/"), "{differences:?}");
}

#[test]
fn a_budget_that_has_counted_something_else_is_named() {
    let (mut shop, member, _) = shop();
    let campaign = CampaignId::from("member-day");
    let request = LeaseRequest {
        campaign: campaign.clone(),
        budget: Points(60_000),
        lease: LeaseId::new_random(),
        needed: Points(500),
        life: std::time::Duration::from_mins(5),
    };
    let lease = shop.store.lease(&request).unwrap();
    let grant = Grant {
        campaign: campaign.clone(),
        lease: request.lease,
        points: Points(77),
        deadline: lease.deadline,
    };
    take_as_whole(&mut shop.store).unwrap();
    shop.store.commit(&[CommitBucket { grants: vec![grant], ..shop.nothing(Bucket(0)) }]).unwrap();
    let differences = shop.verify().differences;
    assert_eq!(whats(&differences), [(What::Budget, None)]);
    let number = |text: &str| text.split(' ').next().unwrap().parse::<i64>().unwrap();
    assert_eq!(number(&differences[0].found) - number(&differences[0].expected), 77);
    assert!(shop.verify_members(&[member]).is_sound(), "no member's fault");
    assert!(shop.log.ledger_of(&"m0".into()).values().all(|record| version(record) > 0));
}
