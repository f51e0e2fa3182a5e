//! A store that is another than it was: nothing is committed on top of a loss, and what was lost is restored.

use std::time::Duration;

use accrual::store::redis::RedisStore;
use accrual::store::{
    CommitBucket, Committed, LeaseId, LeaseRequest, Located, Receipt, RestoreBucket, Restored,
    RestoredAccount, RestoredEvent, ServerId, Store, StoreSettings,
};
use accrual::types::{Bucket, CampaignId, Points};

use crate::ground::{BUCKETS, Ground, MONTH, account, at_home, load, receipt, write};
use crate::support::RedisServer;

const BUCKET: Bucket = Bucket(5);

fn commit(member: &str, expected: u64) -> [CommitBucket; 1] {
    [CommitBucket {
        bucket: BUCKET,
        accounts: vec![write(member, expected)],
        receipts: vec![],
        records: vec![],
        outbox: vec![],
        published: vec![],
        grants: vec![],
        returned: vec![],
        due: vec![],
    }]
}

/// The server of the bucket.
fn server(store: &mut dyn Store) -> ServerId {
    let located: Vec<Located> = store.locate().unwrap();
    located.into_iter().find(|located| located.bucket == BUCKET).unwrap().server
}

pub fn who_has_not_adopted_the_server_commits_nothing(ground: &Ground) {
    let mut home = ground.open();
    let mut stranger = ground.open_a_stranger();
    let ann = ground.name("ann");
    assert_eq!(stranger.commit(&commit(&ann, 0)).unwrap(), [Committed::Unconfirmed]);
    assert!(!stranger.is_unmoved(&[BUCKET]).unwrap());
    assert_eq!(load(&mut *stranger, BUCKET, &[&ann], &[]).accounts, [None]);
    let located = stranger.locate().unwrap();
    assert_eq!(
        located.iter().map(|located| located.bucket.0).collect::<Vec<_>>(),
        (0..BUCKETS).collect::<Vec<_>>()
    );
    assert!(located.iter().all(Located::is_confirmed), "somebody found it whole: {located:?}");
    assert!(stranger.adopt(&located) && !stranger.adopt(&located));
    assert!(stranger.is_unmoved(&[BUCKET]).unwrap());
    assert_eq!(stranger.commit(&commit(&ann, 0)).unwrap(), [Committed::Written]);
    assert_eq!(home.commit(&commit(&ann, 1)).unwrap(), [Committed::Written]);
}

pub fn nothing_is_confirmed_or_restored_on_another_server(ground: &Ground) {
    let mut store = ground.open();
    let other = ServerId::new("0123456789");
    let located = Located { bucket: BUCKET, server: other.clone(), confirmed: None };
    assert!(!store.confirm(std::slice::from_ref(&located)).unwrap());
    let ann = ground.name("ann");
    let account =
        RestoredAccount { member: ann.as_str().into(), version: 1, json: account(&ann, 1), due: None };
    let wanted = RestoreBucket { bucket: BUCKET, server: other, events: vec![], accounts: vec![account] };
    assert_eq!(store.restore(&[wanted]).unwrap(), None);
    assert_eq!(load(&mut *store, BUCKET, &[&ann], &[]).accounts, [None]);
    store.adopt(&[located]);
    assert!(!store.is_unmoved(&[BUCKET]).unwrap());
    assert_eq!(store.commit(&commit(&ann, 0)).unwrap(), [Committed::Unconfirmed]);
}

pub fn what_is_there_stays_and_what_is_not_is_restored_once(ground: &Ground) {
    let mut store = ground.open();
    let (ann, bob, eve) = (ground.name("ann"), ground.name("bob"), ground.name("eve"));
    let partition = ground.partition("orders");
    let campaign: CampaignId = ground.name("campaign").into();
    let key = |text: &str| format!("{text} {ann}").into_boxed_str();
    let with = |offset, record: &str| Receipt { record: Some(record.into()), ..receipt(&partition, offset) };
    // bob is there in a later version, ann's first event with its order, and eve is not.
    let mut there = commit(&bob, 4);
    there[0].accounts[0].expected = 0;
    there[0].receipts =
        vec![(key("e first"), receipt(&partition, 1)), (key("order.paid first"), with(1, r#"{"old":1}"#))];
    assert_eq!(store.commit(&there).unwrap(), [Committed::Written]);

    let event = |name: &str, offset, others: Vec<_>| RestoredEvent {
        key: key(&format!("e {name}")),
        receipt: receipt(&partition, offset),
        others,
        budgets: vec![(campaign.clone(), Points(30))],
    };
    let restored = |member: &str, version, due| RestoredAccount {
        member: member.into(),
        version,
        json: account(member, version),
        due,
    };
    let wanted = RestoreBucket {
        bucket: BUCKET,
        server: server(&mut *store),
        events: vec![
            event("first", 1, vec![(key("order.paid first"), with(1, r#"{"never":1}"#))]),
            event(
                "second",
                2,
                vec![
                    (key("order.paid second"), with(2, r#"{"new":2}"#)),
                    (key("o rule"), receipt(&partition, 2)),
                ],
            ),
            // A refund: it changed the record of an order that is there, and of one that is not.
            event(
                "refund",
                3,
                vec![
                    (key("order.paid first"), with(1, r#"{"old":2}"#)),
                    (key("order.paid lost"), with(9, "{}")),
                ],
            ),
        ],
        accounts: vec![restored(&ann, 3, Some(77)), restored(&bob, 4, None), restored(&eve, 12, None)],
    };
    for (round, events, accounts) in [("first", 2, 2), ("again", 0, 0)] {
        let restored = store.restore(std::slice::from_ref(&wanted)).unwrap();
        assert_eq!(restored, Some(Restored { events, accounts }), "{round}");
        let found = load(
            &mut *store,
            BUCKET,
            &[&ann, &bob, &eve],
            &[
                &key("e second"),
                &key("o rule"),
                &key("order.paid first"),
                &key("order.paid second"),
                &key("order.paid lost"),
            ],
        );
        let versions = [account(&ann, 3), account(&bob, 5), account(&eve, 12)].map(Some);
        assert_eq!(found.accounts, versions, "{round}");
        let receipts = [
            Some(receipt(&partition, 2)),
            Some(receipt(&partition, 2)),
            Some(with(1, r#"{"old":2}"#)),
            Some(with(2, r#"{"new":2}"#)),
            None,
        ];
        assert_eq!(found.receipts, receipts, "{round}");
        // Two events were restored, each with thirty points of the budget.
        let all = LeaseRequest {
            campaign: campaign.clone(),
            budget: Points(100),
            lease: LeaseId::new_random(),
            needed: Points(100),
            life: Duration::from_mins(1),
        };
        assert_eq!(store.lease(&all).unwrap().points, Points(40), "{round}");
        store.end_lease(&campaign, all.lease).unwrap();
    }
}

#[test]
fn a_server_that_was_started_anew_takes_nothing_until_it_was_found_whole() {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let settings = StoreSettings { buckets: BUCKETS, dedupe_window: MONTH, refunds_window: MONTH };
    let mut store = at_home(RedisStore::connect(&server.url(), &settings).unwrap());
    assert_eq!(store.commit(&commit("ann", 0)).unwrap(), [Committed::Written]);
    server.kill();
    server.start_again();
    // The first call finds the old connection broken.
    let _away = store.locate();
    assert!(!store.is_unmoved(&[BUCKET]).unwrap());
    assert_eq!(store.commit(&commit("ann", 1)).unwrap(), [Committed::Unconfirmed]);
    let located = store.locate().unwrap();
    assert!(
        located.iter().all(|located| located.confirmed.is_some() && !located.is_confirmed()),
        "{located:?}"
    );
    let mut store = at_home(store);
    assert_eq!(store.commit(&commit("ann", 1)).unwrap(), [Committed::Written]);
    server.command(&["FLUSHALL"]);
    assert_eq!(
        store.commit(&commit("ann", 0)).unwrap(),
        [Committed::Unconfirmed],
        "nobody has found this whole"
    );
}
