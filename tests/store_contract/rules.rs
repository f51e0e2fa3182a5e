//! The contract, one rule a function.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use accrual::store::{
    AccountJson, AccountWrite, CommitBucket, Committed, Deployment, DueAt, LoadBucket, OffsetRange,
    OutboxKey, Receipt, ReceiptKey, Store, business_key, event_key, once_key,
};
use accrual::types::{Bucket, EventId, MemberId, TopicPartition};

use crate::ground::{Ground, account, load, outbox_key, receipt, write};

const BUCKET: Bucket = Bucket(3);

/// A commit of nothing, to be filled.
fn commit(bucket: Bucket) -> CommitBucket {
    CommitBucket {
        records: Vec::new(),
        returned: Vec::new(),
        bucket,
        accounts: vec![],
        receipts: vec![],
        outbox: vec![],
        published: vec![],
        grants: vec![],
        due: vec![],
    }
}

fn commit_one(store: &mut dyn Store, wanted: &CommitBucket) -> Committed {
    store.commit(std::slice::from_ref(wanted)).unwrap()[0]
}

/// The outbox of a bucket, but for what other tests left there.
fn outbox(store: &mut dyn Store, bucket: Bucket, partition: &TopicPartition) -> Vec<(OutboxKey, Vec<u8>)> {
    let mut found = load(store, bucket, &[], &["none"]).outbox;
    found.retain(|(key, _)| key.partition == *partition);
    found
}

pub fn what_is_committed_is_loaded_in_the_order_asked_for(ground: &Ground) {
    let mut store = ground.open();
    let (ann, bob, eve) = (ground.name("ann"), ground.name("bob"), ground.name("eve"));
    let (first, second) = (ground.name("first"), ground.name("second"));
    let partition = ground.partition("orders");
    let wanted = CommitBucket {
        accounts: vec![write(&ann, 0), write(&bob, 0)],
        receipts: vec![
            (first.as_str().into(), receipt(&partition, 8)),
            (second.as_str().into(), receipt(&partition, 9)),
        ],
        outbox: vec![
            (outbox_key(&partition, 8, 9), b"two".to_vec()),
            (outbox_key(&partition, 5, 5), vec![0, 255]),
        ],
        ..commit(BUCKET)
    };
    assert_eq!(commit_one(&mut *store, &wanted), Committed::Written);

    let found = load(&mut *store, BUCKET, &[&bob, &eve, &ann, &bob], &[&second, "unknown", &first]);
    assert_eq!(
        found.accounts,
        [Some(account(&bob, 1)), None, Some(account(&ann, 1)), Some(account(&bob, 1))]
    );
    assert_eq!(found.receipts, [Some(receipt(&partition, 9)), None, Some(receipt(&partition, 8))]);
    let of_this_test = outbox(&mut *store, BUCKET, &partition);
    let expected =
        [(outbox_key(&partition, 5, 5), vec![0, 255]), (outbox_key(&partition, 8, 9), b"two".to_vec())];
    assert_eq!(of_this_test, expected);

    let without_receipts = load(&mut *store, BUCKET, &[&eve, &ann], &[]);
    assert_eq!(without_receipts.accounts, [None, Some(account(&ann, 1))]);
    assert!(without_receipts.receipts.is_empty() && without_receipts.outbox.is_empty());
}

pub fn a_commit_is_all_or_nothing(ground: &Ground) {
    let mut store = ground.open();
    let (ann, bob) = (ground.name("ann"), ground.name("bob"));
    let partition = ground.partition("orders");
    let seen = ground.name("seen");
    let before =
        CommitBucket { receipts: vec![(seen.as_str().into(), receipt(&partition, 1))], ..commit(BUCKET) };
    assert_eq!(commit_one(&mut *store, &before), Committed::Written);

    // Each of these is refused for one reason, at the end of what is looked at.
    let fresh = ground.name("fresh");
    let whole = CommitBucket {
        accounts: vec![write(&ann, 0), write(&bob, 0)],
        receipts: vec![(fresh.as_str().into(), receipt(&partition, 2))],
        outbox: vec![(outbox_key(&partition, 2, 2), b"x".to_vec())],
        ..commit(BUCKET)
    };
    let mut by_version = whole.clone();
    by_version.accounts[1].expected = 4;
    let mut by_receipt = whole.clone();
    by_receipt.receipts.push((seen.as_str().into(), receipt(&partition, 2)));
    for refused in [&by_version, &by_receipt] {
        assert_eq!(commit_one(&mut *store, refused), Committed::Refused);
        let found = load(&mut *store, BUCKET, &[&ann, &bob], &[&fresh, &seen]);
        assert_eq!(found.accounts, [None, None]);
        assert_eq!(found.receipts, [None, Some(receipt(&partition, 1))]);
        assert!(outbox(&mut *store, BUCKET, &partition).is_empty());
    }
    assert_eq!(commit_one(&mut *store, &whole), Committed::Written);
}

pub fn a_stale_version_refuses_the_whole_bucket(ground: &Ground) {
    let (mut one, mut other) = (ground.open(), ground.open());
    let (ann, bob) = (ground.name("ann"), ground.name("bob"));
    let both = |version| CommitBucket {
        accounts: vec![write(&ann, version), write(&bob, version)],
        ..commit(BUCKET)
    };
    assert_eq!(commit_one(&mut *one, &both(0)), Committed::Written);
    assert_eq!(commit_one(&mut *other, &both(0)), Committed::Refused, "an account where none was expected");
    assert_eq!(commit_one(&mut *other, &both(1)), Committed::Written);
    assert_eq!(commit_one(&mut *one, &both(1)), Committed::Refused, "changed by the other");
    assert_eq!(commit_one(&mut *one, &both(3)), Committed::Refused, "a version that never was");
    let found = load(&mut *one, BUCKET, &[&ann, &bob], &[]).accounts;
    assert_eq!(found, [Some(account(&ann, 2)), Some(account(&bob, 2))]);
    let absent = CommitBucket { accounts: vec![write(&ground.name("eve"), 1)], ..commit(BUCKET) };
    assert_eq!(commit_one(&mut *one, &absent), Committed::Refused, "no account where one was expected");
}

pub fn a_version_is_compared_whole_and_not_by_its_first_digits(ground: &Ground) {
    let mut store = ground.open();
    let ann = ground.name("ann");
    let mut to_12 = CommitBucket { accounts: vec![write(&ann, 0)], ..commit(BUCKET) };
    to_12.accounts[0].json = account(&ann, 12).into();
    assert_eq!(commit_one(&mut *store, &to_12), Committed::Written);
    for other in [1, 2, 120, 0] {
        let stale = CommitBucket { accounts: vec![write(&ann, other)], ..commit(BUCKET) };
        assert_eq!(commit_one(&mut *store, &stale), Committed::Refused, "{other}");
    }
    let right = CommitBucket { accounts: vec![write(&ann, 12)], ..commit(BUCKET) };
    assert_eq!(commit_one(&mut *store, &right), Committed::Written);
}

pub fn buckets_are_committed_each_by_itself(ground: &Ground) {
    let mut store = ground.open();
    let members: Vec<String> = (0..4).map(|number| ground.name(&number.to_string())).collect();
    let buckets: Vec<CommitBucket> = (0u16..)
        .zip(&members)
        .map(|(number, member)| {
            let expected = u64::from(number == 2);
            CommitBucket { accounts: vec![write(member, expected)], ..commit(Bucket(number)) }
        })
        .collect();
    let outcome = store.commit(&buckets).unwrap();
    assert_eq!(outcome, [Committed::Written, Committed::Written, Committed::Refused, Committed::Written]);
    let wanted: Vec<LoadBucket> = (0u16..)
        .zip(&members)
        .map(|(number, member)| LoadBucket {
            outbox: false,
            bucket: Bucket(number),
            members: vec![member.as_str().into()],
            // Some with receipts and some without: they are read in different ways.
            receipts: if number % 2 == 0 { vec!["none".into()] } else { vec![] },
        })
        .collect();
    let found: Vec<bool> =
        store.load(&wanted).unwrap().iter().map(|bucket| bucket.accounts[0].is_some()).collect();
    assert_eq!(found, [true, true, false, true]);
}

pub fn an_existing_receipt_refuses(ground: &Ground) {
    let (mut one, mut other) = (ground.open(), ground.open());
    let (ann, bob) = (ground.name("ann"), ground.name("bob"));
    let partition = ground.partition("orders");
    let event = format!("e shop {}", ground.name("4711"));
    let of = |member: &str, offset| CommitBucket {
        accounts: vec![write(member, 0)],
        receipts: vec![(event.as_str().into(), receipt(&partition, offset))],
        ..commit(BUCKET)
    };
    assert_eq!(commit_one(&mut *one, &of(&ann, 1)), Committed::Written);
    assert_eq!(commit_one(&mut *other, &of(&bob, 2)), Committed::Refused);
    let found = load(&mut *other, BUCKET, &[&ann, &bob], &[&event]);
    assert_eq!(found.accounts, [Some(account(&ann, 1)), None]);
    assert_eq!(found.receipts, [Some(receipt(&partition, 1))], "the first stays");
}

pub fn receipts_of_one_bucket_are_unknown_in_another(ground: &Ground) {
    let mut store = ground.open();
    let partition = ground.partition("orders");
    let event = format!("e shop {}", ground.name("4711"));
    for bucket in [Bucket(1), Bucket(2)] {
        assert_eq!(load(&mut *store, bucket, &[], &[&event]).receipts, [None]);
        let wanted = CommitBucket {
            receipts: vec![(event.as_str().into(), receipt(&partition, 1))],
            ..commit(bucket)
        };
        assert_eq!(commit_one(&mut *store, &wanted), Committed::Written);
    }
}

pub fn receipts_survive_one_generation_and_vanish_after_two(ground: &Ground) {
    const WINDOW: u64 = 2;
    // Both handles live through the turn of generations, which the first one is told by a refusal.
    let mut store = ground.open_with(Duration::from_secs(WINDOW));
    let mut other = ground.open_with(Duration::from_secs(WINDOW));
    let partition = ground.partition("orders");
    for attempt in 0.. {
        assert!(attempt < 20, "this machine is too busy to look at a generation of {WINDOW} s");
        let event = format!("e shop {}", ground.name("4711"));
        let wanted = CommitBucket {
            receipts: vec![(event.as_str().into(), receipt(&partition, 1))],
            ..commit(BUCKET)
        };
        let generation = ground.now() / WINDOW;
        assert_eq!(commit_one(&mut *store, &wanted), Committed::Written);
        if ground.now() / WINDOW != generation {
            continue;
        }
        ground.wait_until((generation + 1) * WINDOW);
        let found = load(&mut *other, BUCKET, &[], &[&event]).receipts;
        let again = commit_one(&mut *store, &wanted);
        if ground.now() / WINDOW != generation + 1 {
            continue;
        }
        assert_eq!(found, [Some(receipt(&partition, 1))]);
        assert_eq!(again, Committed::Refused);

        ground.wait_until((generation + 2) * WINDOW);
        assert_eq!(load(&mut *store, BUCKET, &[], &[&event]).receipts, [None]);
        assert_eq!(commit_one(&mut *other, &wanted), Committed::Written);
        return;
    }
}

pub fn a_business_keys_receipt_outlives_those_of_events_and_carries_its_record(ground: &Ground) {
    const WINDOW: u64 = 2;
    // Refunds' window is three times as long.
    let mut store = ground.open_with(Duration::from_secs(WINDOW));
    let mut other = ground.open_with(Duration::from_secs(WINDOW));
    let partition = ground.partition("orders");
    for attempt in 0.. {
        assert!(attempt < 20, "this machine is too busy to look at a generation of {WINDOW} s");
        let (ann, order) = (ground.name("ann"), ground.name("4711"));
        let event = format!("e shop {order}");
        let key = business_key("order.paid", &ann.as_str().into(), &order);
        let paid = Receipt { record: Some(r#"{"a":"1 2"}"#.into()), ..receipt(&partition, 1) };
        let wanted = CommitBucket {
            receipts: vec![(event.as_str().into(), receipt(&partition, 1)), (key.clone(), paid.clone())],
            ..commit(BUCKET)
        };
        let long = ground.now() / (3 * WINDOW);
        assert_eq!(commit_one(&mut *store, &wanted), Committed::Written);
        if ground.now() / (3 * WINDOW) != long {
            continue;
        }
        ground.wait_until((long + 1) * 3 * WINDOW);
        let found = load(&mut *other, BUCKET, &[], &[&event, &key]).receipts;
        let again = commit_one(
            &mut *store,
            &CommitBucket { receipts: vec![(key.clone(), paid.clone())], ..commit(BUCKET) },
        );
        // A record that changes is kept from then on, and lives on with the generation of its change.
        let changed = Receipt { record: Some(r#"{"a":"1 2","r":"1"}"#.into()), ..paid.clone() };
        let rewrite = CommitBucket { records: vec![(key.clone(), changed.clone())], ..commit(BUCKET) };
        assert_eq!(commit_one(&mut *other, &rewrite), Committed::Written);
        if ground.now() / (3 * WINDOW) != long + 1 {
            continue;
        }
        assert_eq!(found.last(), Some(&Some(paid)));
        assert_eq!(again, Committed::Refused);
        assert_eq!(load(&mut *store, BUCKET, &[], &[&key]).receipts, [Some(changed.clone())]);
        ground.wait_until((long + 2) * 3 * WINDOW);
        assert_eq!(load(&mut *store, BUCKET, &[], &[&event, &key]).receipts, [None, Some(changed)]);
        ground.wait_until((long + 3) * 3 * WINDOW);
        assert_eq!(load(&mut *store, BUCKET, &[], &[&key]).receipts, [None]);
        return;
    }
}

pub fn a_record_is_written_with_the_account_that_it_belongs_to_or_not_at_all(ground: &Ground) {
    let mut store = ground.open();
    let partition = ground.partition("orders");
    let (ann, order) = (ground.name("ann"), ground.name("4711"));
    let key = business_key("order.paid", &ann.as_str().into(), &order);
    let of = |expected, text: &str| CommitBucket {
        accounts: vec![write(&ann, expected)],
        records: vec![(key.clone(), Receipt { record: Some(text.into()), ..receipt(&partition, 1) })],
        ..commit(BUCKET)
    };
    assert_eq!(commit_one(&mut *store, &of(0, "first")), Committed::Written);
    assert_eq!(commit_one(&mut *store, &of(0, "of who read the account before")), Committed::Refused);
    let record = |store: &mut dyn Store| {
        let found = load(store, BUCKET, &[], &[&key]).receipts.remove(0);
        found.and_then(|receipt| receipt.record).map(String::from)
    };
    assert_eq!(record(&mut *store).as_deref(), Some("first"));
    assert_eq!(commit_one(&mut *store, &of(1, "second")), Committed::Written);
    assert_eq!(record(&mut *store).as_deref(), Some("second"));
}

pub fn an_account_that_stays_as_it_is_refuses_where_it_has_another_version(ground: &Ground) {
    let mut store = ground.open();
    let (ann, bob) = (ground.name("ann"), ground.name("bob"));
    let partition = ground.partition("orders");
    let unchanged =
        |member: &str, expected| AccountWrite { json: AccountJson::default(), ..write(member, expected) };
    assert_eq!(
        commit_one(&mut *store, &CommitBucket { accounts: vec![write(&ann, 0)], ..commit(BUCKET) }),
        Committed::Written
    );
    let event = |number: u8| format!("e shop {}-{number}", ground.name("4711"));
    for (number, ann_has, bob_has, outcome) in
        [(1, 0, 0, Committed::Refused), (2, 1, 1, Committed::Refused), (3, 1, 0, Committed::Written)]
    {
        let event = event(number);
        let wanted = CommitBucket {
            accounts: vec![unchanged(&ann, ann_has), unchanged(&bob, bob_has)],
            receipts: vec![(event.as_str().into(), receipt(&partition, 1))],
            ..commit(BUCKET)
        };
        assert_eq!(commit_one(&mut *store, &wanted), outcome, "{number}");
        let found = load(&mut *store, BUCKET, &[&ann, &bob], &[&event]);
        assert_eq!(found.accounts, [Some(account(&ann, 1)), None]);
        assert_eq!(found.receipts[0].is_some(), outcome == Committed::Written, "{number}");
    }
}

pub fn what_is_paid_once_ever_is_remembered_beyond_every_window_and_refuses(ground: &Ground) {
    const WINDOW: u64 = 2;
    let mut store = ground.open_with(Duration::from_secs(WINDOW));
    let partition = ground.partition("orders");
    let once = once_key(&"survey".into(), &ground.name("ann").as_str().into(), "autumn");
    let event = |number: i64| ground.name(&format!("e shop {number}"));
    let wanted = |number| CommitBucket {
        receipts: vec![
            (event(number).as_str().into(), receipt(&partition, number)),
            (once.clone(), receipt(&partition, number)),
        ],
        ..commit(BUCKET)
    };
    assert_eq!(commit_one(&mut *store, &wanted(1)), Committed::Written);
    assert_eq!(commit_one(&mut *store, &wanted(2)), Committed::Refused);
    ground.wait_until((ground.now() / WINDOW + 3) * WINDOW);
    let found = load(&mut *store, BUCKET, &[], &[&event(1), &once, &event(2)]).receipts;
    assert_eq!(found, [None, Some(receipt(&partition, 1)), None]);
    assert_eq!(commit_one(&mut *store, &wanted(2)), Committed::Refused);
    let without =
        CommitBucket { receipts: vec![(event(2).as_str().into(), receipt(&partition, 2))], ..commit(BUCKET) };
    assert_eq!(commit_one(&mut *store, &without), Committed::Written);
}

pub fn published_outbox_entries_go_even_on_refusal(ground: &Ground) {
    let mut store = ground.open();
    let ann = ground.name("ann");
    let partition = ground.partition("orders");
    let entry = |first| (outbox_key(&partition, first, first), b"x".to_vec());
    let before = CommitBucket {
        accounts: vec![write(&ann, 0)],
        outbox: vec![entry(1), entry(2), entry(3)],
        ..commit(BUCKET)
    };
    assert_eq!(commit_one(&mut *store, &before), Committed::Written);

    let refused =
        CommitBucket { accounts: vec![write(&ann, 0)], published: vec![entry(1).0], ..commit(BUCKET) };
    assert_eq!(commit_one(&mut *store, &refused), Committed::Refused);
    assert_eq!(outbox(&mut *store, BUCKET, &partition), [entry(2), entry(3)]);

    // Again, as after a lost reply, and with a new entry of the same name as one that goes.
    let written = CommitBucket {
        accounts: vec![write(&ann, 1)],
        published: vec![entry(1).0, entry(2).0, entry(3).0],
        outbox: vec![(entry(3).0, b"new".to_vec())],
        ..commit(BUCKET)
    };
    assert_eq!(commit_one(&mut *store, &written), Committed::Written);
    assert_eq!(outbox(&mut *store, BUCKET, &partition), [(entry(3).0, b"new".to_vec())]);

    let only_published = CommitBucket { published: vec![entry(3).0], ..commit(BUCKET) };
    assert_eq!(commit_one(&mut *store, &only_published), Committed::Written);
    assert!(outbox(&mut *store, BUCKET, &partition).is_empty());
}

pub fn a_commit_repeated_after_a_lost_reply_is_refused_and_its_receipts_and_outbox_are_found(
    ground: &Ground,
) {
    let mut store = ground.open();
    let ann = ground.name("ann");
    let partition = ground.partition("orders");
    let event = format!("e shop {}", ground.name("4711"));
    let wanted = CommitBucket {
        accounts: vec![write(&ann, 0)],
        receipts: vec![(event.as_str().into(), receipt(&partition, 7))],
        outbox: vec![(outbox_key(&partition, 7, 7), b"awards".to_vec())],
        ..commit(BUCKET)
    };
    assert_eq!(commit_one(&mut *store, &wanted), Committed::Written);
    assert_eq!(commit_one(&mut *store, &wanted), Committed::Refused);
    let found = load(&mut *store, BUCKET, &[&ann], &[&event]);
    assert_eq!(found.accounts, [Some(account(&ann, 1))]);
    assert_eq!(found.receipts, [Some(receipt(&partition, 7))]);
    assert_eq!(outbox(&mut *store, BUCKET, &partition), [(outbox_key(&partition, 7, 7), b"awards".to_vec())]);
}

pub fn the_outbox_is_listed_by_partition_read_and_cleared(ground: &Ground) {
    let mut store = ground.open();
    // Topics may look like paths, and one may begin as the other does.
    let (mine, other) = (ground.partition("a/b"), ground.partition("a/b/3"));
    let sibling = TopicPartition { partition: 4, ..mine.clone() };
    for (bucket, partition, first) in
        [(5, &mine, 10), (1, &mine, 7), (1, &mine, 2), (1, &other, 1), (5, &sibling, 1)]
    {
        let outbox = vec![(outbox_key(partition, first, first + 1), first.to_string().into_bytes())];
        assert_eq!(
            commit_one(&mut *store, &CommitBucket { outbox, ..commit(Bucket(bucket)) }),
            Committed::Written
        );
    }
    let of_mine = store.outbox(std::slice::from_ref(&mine)).unwrap();
    let key = |bucket, first| (Bucket(bucket), outbox_key(&mine, first, first + 1));
    assert_eq!(of_mine, [key(1, 2), key(1, 7), key(5, 10)]);
    assert_eq!(store.outbox(&[mine.clone(), other.clone(), sibling.clone()]).unwrap().len(), 5);

    assert_eq!(store.outbox_entry(Bucket(1), &key(1, 7).1).unwrap(), Some(b"7".to_vec()));
    assert_eq!(store.outbox_entry(Bucket(2), &key(1, 7).1).unwrap(), None);
    for _repeated in 0..2 {
        store.clear_outbox(&[key(1, 2), key(5, 10)]).unwrap();
        assert_eq!(store.outbox(std::slice::from_ref(&mine)).unwrap(), [key(1, 7)]);
    }
    store
        .clear_outbox(&[
            key(1, 7),
            (Bucket(1), outbox_key(&other, 1, 2)),
            (Bucket(5), outbox_key(&sibling, 1, 2)),
        ])
        .unwrap();
    assert!(store.outbox(&[mine, other, sibling]).unwrap().is_empty());
}

pub fn five_thousand_members_are_committed_and_loaded_in_one_call(ground: &Ground) {
    const MEMBERS: i64 = 5000;
    let mut store = ground.open();
    let partition = ground.partition("orders");
    let tag = ground.name("");
    let members: Vec<String> = (0..MEMBERS).map(|number| format!("{tag}{number}")).collect();
    let keys: Vec<ReceiptKey> = (0..2 * MEMBERS).map(|number| format!("e {tag} {number}").into()).collect();
    let entry = |number| outbox_key(&partition, number, number);
    let full = CommitBucket {
        accounts: members.iter().map(|member| write(member, 0)).collect(),
        receipts: (0..).zip(&keys).map(|(number, key)| (key.clone(), receipt(&partition, number))).collect(),
        outbox: (0..MEMBERS).map(|number| (entry(number), vec![b'x'; 200])).collect(),
        ..commit(BUCKET)
    };
    assert_eq!(commit_one(&mut *store, &full), Committed::Written);

    let wanted = LoadBucket {
        outbox: false,
        bucket: BUCKET,
        members: members.iter().map(|member| member.as_str().into()).collect(),
        receipts: keys.clone(),
    };
    let found = store.load(std::slice::from_ref(&wanted)).unwrap().pop().unwrap();
    assert!(found.accounts.iter().zip(&members).all(|(found, member)| *found == Some(account(member, 1))));
    assert!((0..).zip(&found.receipts).all(|(number, found)| *found == Some(receipt(&partition, number))));
    assert_eq!(found.receipts.len(), keys.len());
    assert_eq!(outbox(&mut *store, BUCKET, &partition).len(), 5000);

    // Only the very last account, and then only the very last receipt, is in the way.
    let mut stale = full.clone();
    stale.receipts.clear();
    stale.accounts.iter_mut().for_each(|write| write.expected = 1);
    stale.accounts[4999].expected = 2;
    assert_eq!(commit_one(&mut *store, &stale), Committed::Refused);
    let mut seen = full.clone();
    seen.accounts.clear();
    seen.receipts.iter_mut().for_each(|(key, _)| *key = format!("{key} new").into());
    seen.receipts[9999].0 = keys[9999].clone();
    seen.published = (0..MEMBERS).map(entry).collect();
    seen.outbox.clear();
    assert_eq!(commit_one(&mut *store, &seen), Committed::Refused);
    assert!(outbox(&mut *store, BUCKET, &partition).is_empty(), "what is published went");
    assert_eq!(load(&mut *store, BUCKET, &[&members[0]], &[]).accounts, [Some(account(&members[0], 1))]);
}

pub fn members_with_odd_names_are_kept_apart(ground: &Ground) {
    let mut store = ground.open();
    let tag = ground.name("");
    let odd = [
        "",
        " ",
        "a b",
        "{}",
        "{0}",
        "}{",
        "a{b}c",
        "a:b",
        "a\nb",
        "a\r\n",
        "\0",
        "会员",
        "é",
        "e\u{301}",
        "\"",
        "\\",
        "*",
        "..",
        "NULL",
        "accrual:{3}:outbox",
    ];
    let members: Vec<String> = odd.iter().map(|odd| format!("{tag}{odd}")).collect();
    let partition = ground.partition("orders");
    for (offset, member) in (0..).zip(&members) {
        let wanted = CommitBucket {
            accounts: vec![write(member, 0)],
            receipts: vec![(format!("e {member}").into(), receipt(&partition, offset))],
            ..commit(BUCKET)
        };
        assert_eq!(commit_one(&mut *store, &wanted), Committed::Written, "{member:?}");
    }
    let names: Vec<&str> = members.iter().map(String::as_str).collect();
    let keys: Vec<String> = members.iter().map(|member| format!("e {member}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let with_receipts = load(&mut *store, BUCKET, &names, &keys);
    let without = load(&mut *store, BUCKET, &names, &[]);
    for (offset, member) in (0i64..).zip(&members) {
        let place = usize::try_from(offset).unwrap();
        assert_eq!(with_receipts.accounts[place], Some(account(member, 1)), "{member:?}");
        assert_eq!(without.accounts[place], Some(account(member, 1)), "{member:?}");
        assert_eq!(with_receipts.receipts[place], Some(receipt(&partition, offset)), "{member:?}");
    }
}

fn range(from: i64, until: i64) -> OffsetRange {
    OffsetRange { from, until }
}

pub fn processed_ranges_that_touch_or_overlap_are_merged(ground: &Ground) {
    let mut store = ground.open();
    let (one, other) = (ground.partition("a/b"), ground.partition("a"));
    assert_eq!(store.processed(&[one.clone(), other.clone()]).unwrap(), [vec![], vec![]]);
    // Beyond 2^32 and beyond 10^15, where numbers are written otherwise by some.
    const FAR: i64 = 4_000_000_000_000_000;
    let steps: [(OffsetRange, &[OffsetRange]); 9] = [
        (range(10, 20), &[range(10, 20)]),
        (range(30, 40), &[range(10, 20), range(30, 40)]),
        (range(FAR, FAR + 5), &[range(10, 20), range(30, 40), range(FAR, FAR + 5)]),
        (range(20, 22), &[range(10, 22), range(30, 40), range(FAR, FAR + 5)]),
        (range(5, 5), &[range(10, 22), range(30, 40), range(FAR, FAR + 5)]),
        (range(0, 5), &[range(0, 5), range(10, 22), range(30, 40), range(FAR, FAR + 5)]),
        (range(12, 15), &[range(0, 5), range(10, 22), range(30, 40), range(FAR, FAR + 5)]),
        (range(21, 30), &[range(0, 5), range(10, 40), range(FAR, FAR + 5)]),
        (range(4, FAR), &[range(0, FAR + 5)]),
    ];
    for (added, expected) in steps {
        store.add_processed(&[(one.clone(), added)]).unwrap();
        assert_eq!(store.processed(std::slice::from_ref(&one)).unwrap(), [expected.to_vec()], "{added:?}");
    }
    // Several at once, twice the same partition, and in the order asked for.
    store
        .add_processed(&[
            (other.clone(), range(1, 2)),
            (one.clone(), range(0, 1)),
            (other.clone(), range(2, 3)),
        ])
        .unwrap();
    assert_eq!(store.processed(&[other, one]).unwrap(), [vec![range(1, 3)], vec![range(0, FAR + 5)]]);
}

pub fn what_is_known_of_a_topic_is_told_by_partition_and_forgotten_without_that_of_others(ground: &Ground) {
    let mut store = ground.open();
    let (topic, other) = (ground.partition("orders"), ground.partition("orders/2"));
    let second = TopicPartition { partition: topic.partition + 10, ..topic.clone() };
    assert_eq!(store.sources(&topic.topic).unwrap(), []);
    store
        .add_processed(&[
            (second.clone(), range(3, 4)),
            (topic.clone(), range(0, 5)),
            (topic.clone(), range(7, 9)),
            (other.clone(), range(1, 2)),
        ])
        .unwrap();
    let known = [(topic.clone(), vec![range(0, 5), range(7, 9)]), (second.clone(), vec![range(3, 4)])];
    assert_eq!(store.sources(&topic.topic).unwrap(), known);
    store.forget_processed(&[]).unwrap();
    for _ in 0..2 {
        store.forget_processed(std::slice::from_ref(&topic)).unwrap();
        assert_eq!(store.sources(&topic.topic).unwrap(), [(second.clone(), vec![range(3, 4)])]);
    }
    assert_eq!(store.processed(&[topic, other]).unwrap(), [vec![], vec![range(1, 2)]]);
}

pub fn ranges_added_by_two_threads_at_once_are_all_there(ground: &Ground) {
    const EACH: i64 = 200;
    let partition = ground.partition("orders");
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (partition, mut store) = (partition.clone(), ground.open());
            scope.spawn(move || {
                for number in 0..EACH {
                    let from = 2 * number + thread;
                    store.add_processed(&[(partition.clone(), range(from, from + 1))]).unwrap();
                }
            });
        }
    });
    assert_eq!(ground.open().processed(&[partition]).unwrap(), [vec![range(0, 2 * EACH)]]);
}

pub fn nothing_asked_is_nothing_answered(ground: &Ground) {
    let mut store = ground.open();
    assert!(store.load(&[]).unwrap().is_empty());
    assert!(store.commit(&[]).unwrap().is_empty());
    let empty = || LoadBucket { bucket: BUCKET, members: vec![], receipts: vec![], outbox: false };
    let ann = ground.name("ann");
    assert_eq!(
        commit_one(&mut *store, &CommitBucket { accounts: vec![write(&ann, 0)], ..commit(BUCKET) }),
        Committed::Written
    );
    let one = LoadBucket { members: vec![ann.as_str().into()], ..empty() };
    let found = store.load(&[empty(), one, empty()]).unwrap();
    assert_eq!(found.iter().map(|bucket| bucket.accounts.len()).collect::<Vec<_>>(), [0, 1, 0]);
    assert_eq!(found[1].accounts, [Some(account(&ann, 1))]);
    assert_eq!(commit_one(&mut *store, &commit(BUCKET)), Committed::Written);
    assert!(store.outbox(&[]).unwrap().is_empty());
    assert!(store.processed(&[]).unwrap().is_empty());
    store.clear_outbox(&[]).unwrap();
    store.add_processed(&[]).unwrap();
}

pub fn a_store_can_be_probed(ground: &Ground) {
    ground.open().probe().unwrap();
}

pub fn a_deployment_is_written_down_once_and_told_to_all(ground: &Ground) {
    let first = Deployment { buckets: 8, programme: "shop".into(), timezone: "Asia/Shanghai".into() };
    let other = Deployment { buckets: 128, programme: "shop two".into(), timezone: "UTC".into() };
    assert_eq!(ground.open().check_deployment(&first).unwrap(), first);
    assert_eq!(ground.open().check_deployment(&other).unwrap(), first, "the mismatch is told");
    assert_eq!(ground.open().check_deployment(&first).unwrap(), first);
}

/// Of a bucket's members for whom something has fallen due, those of a test.
fn claim(store: &mut dyn Store, bucket: Bucket, mine: &[&str], hold: Duration) -> Vec<MemberId> {
    let claimed = store.claim_due(&[Bucket(9), bucket], 100_000, hold).unwrap();
    assert_eq!(claimed.members.len(), 2);
    assert!(claimed.members[0].iter().all(|member| !mine.contains(&member.as_str())));
    claimed.members[1].iter().filter(|member| mine.contains(&member.as_str())).cloned().collect()
}

pub fn who_falls_due_is_given_to_one_and_after_a_while_to_another(ground: &Ground) {
    let (mut store, mut other) = (ground.open(), ground.open());
    let names = ["ann", "bob", "eve", "joe"].map(|name| ground.name(name));
    let mine: Vec<&str> = names.iter().map(String::as_str).collect();
    let [ann, bob, eve, joe] = names.each_ref();
    let due = |member: &str, at| DueAt { member: member.into(), at };
    let wanted = CommitBucket {
        receipts: vec![(ground.name("due").into(), receipt(&ground.partition("orders"), 1))],
        due: vec![due(bob, Some(-5)), due(ann, Some(-60)), due(eve, Some(1 << 40)), due(joe, Some(-1))],
        ..commit(BUCKET)
    };
    assert_eq!(commit_one(&mut *store, &wanted), Committed::Written);
    store.set_due(&[(BUCKET, due(joe, None))]).unwrap();

    // The longest due first; what lies ahead and what was taken back, not.
    assert_eq!(
        claim(&mut *store, BUCKET, &mine, Duration::from_secs(1)),
        [ann.as_str().into(), bob.as_str().into()]
    );
    assert_eq!(claim(&mut *other, BUCKET, &mine, Duration::from_secs(1)), []);
    other.set_due(&[(BUCKET, due(bob, Some(1 << 40)))]).unwrap();
    ground.wait_until(ground.now() + 2);
    assert_eq!(claim(&mut *other, BUCKET, &mine, Duration::from_mins(1)), [ann.as_str().into()]);
}

pub fn a_commit_that_is_refused_does_not_say_when_something_falls_due(ground: &Ground) {
    let mut store = ground.open();
    let ann = ground.name("ann");
    let wanted = CommitBucket {
        accounts: vec![write(&ann, 7)],
        due: vec![DueAt { member: ann.as_str().into(), at: Some(0) }],
        receipts: vec![(ground.name("due").into(), receipt(&ground.partition("orders"), 1))],
        ..commit(Bucket(7))
    };
    assert_eq!(commit_one(&mut *store, &wanted), Committed::Refused);
    // A bucket of its own, because what is claimed is kept from the other test.
    assert_eq!(claim(&mut *store, Bucket(7), &[&ann], Duration::from_mins(1)), []);
}

pub fn an_event_is_found_by_its_id_alone_under_each_of_its_sources(ground: &Ground) {
    let mut store = ground.open();
    let partition = ground.partition("orders");
    // What a pattern would take for more than itself, and what is no event.
    let id = ground.name("o-*[1]?");
    let event = |source: &str, id: &str| EventId { source: source.into(), id: id.into() };
    let written = [
        (event_key(&event("shop/web", &id)), BUCKET, 1),
        (event_key(&event("shop/app", &id)), BUCKET, 2),
        (event_key(&event("shop/web", &id.replace('*', "x"))), BUCKET, 3),
        (format!("order.paid 1:m {id}").into(), BUCKET, 4),
        (event_key(&event("till", &id)), Bucket(BUCKET.0 + 1), 5),
    ];
    for (key, bucket, offset) in written {
        let wanted = CommitBucket { receipts: vec![(key, receipt(&partition, offset))], ..commit(bucket) };
        assert_eq!(commit_one(&mut *store, &wanted), Committed::Written);
    }
    let soon = Instant::now() + Duration::from_mins(1);
    let (app, web, till) = (event("shop/app", &id), event("shop/web", &id), event("till", &id));
    let here = [(app, receipt(&partition, 2)), (web, receipt(&partition, 1))];
    assert_eq!(store.find_events(&[BUCKET], &id, soon).unwrap(), here);
    let everywhere = store.find_events(&[Bucket(BUCKET.0 + 1), BUCKET], &id, soon).unwrap();
    assert_eq!(everywhere, [&here[..], &[(till, receipt(&partition, 5))]].concat());
    assert_eq!(store.find_events(&[BUCKET], "none", soon).unwrap(), []);
}

pub fn when_something_falls_due_is_told_of_those_who_are_asked_for(ground: &Ground) {
    let mut store = ground.open();
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|name| MemberId::from(ground.name(name)));
    let due = |member: &MemberId, at| DueAt { member: member.clone(), at: Some(at) };
    let other = Bucket(BUCKET.0 + 1);
    store
        .set_due(&[
            (BUCKET, due(&ann, 1 << 40)),
            (BUCKET, due(&bob, (1 << 40) + 1)),
            (other, due(&ann, 1 << 41)),
        ])
        .unwrap();
    let wanted = [(BUCKET, vec![bob, eve, ann.clone()]), (BUCKET, vec![]), (other, vec![ann])];
    let found = store.due_of(&wanted).unwrap();
    assert_eq!(found, [vec![Some((1 << 40) + 1), None, Some(1 << 40)], vec![], vec![Some(1 << 41)]]);
}

pub fn every_member_with_an_account_is_found(ground: &Ground) {
    let mut store = ground.open();
    let odd = ["plain", "with a space", "br{a}ce:*", "account:x", "é"];
    let names: Vec<(Bucket, String)> = (0..2_500_u16)
        .map(|n| (Bucket(n % 8), format!("{} {n}", odd[usize::from(n) % odd.len()])))
        .map(|(bucket, name)| (bucket, ground.name(&name)))
        .collect();
    for bucket in (0..8).map(Bucket) {
        let of_bucket = names.iter().filter(|(of, _)| *of == bucket);
        let accounts = of_bucket.map(|(_, name)| write(name, 0)).collect();
        let receipts = vec![(ground.name("members").into(), receipt(&ground.partition("orders"), 1))];
        let wanted = CommitBucket { accounts, receipts, ..commit(bucket) };
        assert_eq!(commit_one(&mut *store, &wanted), Committed::Written);
    }
    let asked: Vec<Bucket> = [1, 2, 3, 5].map(Bucket).into();
    let mut found = BTreeSet::new();
    store.each_member(&asked, &mut |bucket, member| _ = found.insert((bucket, member.to_string()))).unwrap();
    let expected: BTreeSet<(Bucket, String)> =
        names.into_iter().filter(|(bucket, _)| asked.contains(bucket)).collect();
    // Others use the same Redis.
    assert!(found.is_superset(&expected), "{:?}", expected.difference(&found).collect::<Vec<_>>());
    assert!(found.iter().all(|(bucket, _)| asked.contains(bucket)));
}
