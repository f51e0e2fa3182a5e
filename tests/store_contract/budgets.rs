//! The contract on budgets: one rule a function. However lanes lease, grant, die and end, what was
//! granted and what is free make the budget.

use std::time::Duration;

use accrual::store::{
    CommitBucket, Committed, DueAt, Grant, Lease, LeaseId, LeaseRequest, ReceiptKey, Returned, Spent, Store,
};
use accrual::types::{Bucket, CampaignId, Points};

use crate::ground::{Ground, account, load, outbox_key, receipt, write};

/// Longer than a test takes.
const LONG: Duration = Duration::from_mins(10);
/// It lapses half a second after that.
const SHORT: Duration = Duration::from_secs(1);

/// A holder of one lease.
struct Holder {
    campaign: CampaignId,
    id: LeaseId,
    lease: Lease,
}

impl Holder {
    fn lease(store: &mut dyn Store, campaign: &CampaignId, budget: i64, needed: i64, life: Duration) -> Self {
        let id = LeaseId::new_random();
        let lease = store.lease(&request(campaign, budget, id, needed, life)).unwrap();
        Self { campaign: campaign.clone(), id, lease }
    }

    fn grant(&self, points: i64) -> Vec<Grant> {
        let (campaign, lease, deadline) = (self.campaign.clone(), self.id, self.lease.deadline);
        vec![Grant { campaign, lease, points: Points(points), deadline }]
    }

    fn end(&self, store: &mut dyn Store) {
        store.end_lease(&self.campaign, self.id).unwrap();
    }
}

fn request(campaign: &CampaignId, budget: i64, lease: LeaseId, needed: i64, life: Duration) -> LeaseRequest {
    LeaseRequest { campaign: campaign.clone(), budget: Points(budget), lease, needed: Points(needed), life }
}

fn campaign(ground: &Ground) -> CampaignId {
    ground.name("campaign").into()
}

/// What gives a member points in a bucket.
fn giving(bucket: u16, member: &str, expected: u64, grants: Vec<Grant>) -> CommitBucket {
    CommitBucket {
        records: Vec::new(),
        returned: Vec::new(),
        bucket: Bucket(bucket),
        accounts: vec![write(member, expected)],
        receipts: vec![],
        outbox: vec![],
        published: vec![],
        grants,
        due: vec![],
    }
}

/// Gives a member points in a bucket.
fn commit(store: &mut dyn Store, bucket: u16, member: &str, expected: u64, grants: Vec<Grant>) -> Committed {
    store.commit(&[giving(bucket, member, expected, grants)]).unwrap()[0]
}

/// What is neither spent nor leased.
fn free(store: &mut dyn Store, campaign: &CampaignId, budget: i64) -> i64 {
    let all = Holder::lease(store, campaign, budget, budget, LONG);
    all.end(store);
    all.lease.points.0
}

pub fn leases_shrink_with_what_is_free_and_together_are_the_budget(ground: &Ground) {
    const BUDGET: i64 = 1000;
    let mut store = ground.open();
    let campaign = campaign(ground);
    let mut leased = Vec::new();
    loop {
        let Lease { points, free, .. } = Holder::lease(&mut *store, &campaign, BUDGET, 3, LONG).lease;
        if points == Points::ZERO {
            break;
        }
        leased.push(points.0);
        assert_eq!(free.0, BUDGET - leased.iter().sum::<i64>());
    }
    assert_eq!(leased.iter().sum::<i64>(), BUDGET);
    assert_eq!(leased[..3], [62, 58, 55], "a sixteenth of what is free");
    let last = leased.pop().unwrap();
    assert!(leased.is_sorted_by(|a, b| a >= b) && last <= 3 && leased.last() == Some(&3), "{leased:?}");
}

pub fn one_who_needs_more_than_a_share_leases_it_and_at_most_what_is_free(ground: &Ground) {
    let mut store = ground.open();
    let campaign = campaign(ground);
    assert_eq!(Holder::lease(&mut *store, &campaign, 1000, 800, LONG).lease.points.0, 800);
    assert_eq!(Holder::lease(&mut *store, &campaign, 1000, 800, LONG).lease.points.0, 200);
    assert_eq!(Holder::lease(&mut *store, &campaign, 1000, 800, LONG).lease.points.0, 0);
    // The programme may be changed: what is spent or leased stays so.
    assert_eq!(Holder::lease(&mut *store, &campaign, 900, 800, LONG).lease.points.0, 0);
    assert_eq!(Holder::lease(&mut *store, &campaign, 1100, 800, LONG).lease.points.0, 100);
}

pub fn a_budget_of_as_many_points_as_a_programme_may_name_is_counted_exactly(ground: &Ground) {
    const BUDGET: i64 = 1_000_000_000_000_000;
    let mut store = ground.open();
    let (campaign, ann) = (campaign(ground), ground.name("ann"));
    let all = Holder::lease(&mut *store, &campaign, BUDGET, BUDGET - 1, LONG);
    assert_eq!((all.lease.points.0, all.lease.free.0), (BUDGET - 1, 1));
    assert_eq!(commit(&mut *store, 3, &ann, 0, all.grant(BUDGET - 2)), Committed::Written);
    all.end(&mut *store);
    assert_eq!(free(&mut *store, &campaign, BUDGET), 2);
}

pub fn points_that_come_back_are_free_again_and_no_commit_that_is_refused_brings_any(ground: &Ground) {
    let mut store = ground.open();
    let (campaign, ann, bob) = (campaign(ground), ground.name("ann"), ground.name("bob"));
    let all = Holder::lease(&mut *store, &campaign, 100, 100, LONG);
    assert_eq!(commit(&mut *store, 3, &ann, 0, all.grant(70)), Committed::Written);
    assert_eq!(commit(&mut *store, 5, &bob, 0, all.grant(30)), Committed::Written);
    all.end(&mut *store);
    assert_eq!(free(&mut *store, &campaign, 100), 0);
    let mut give_back = |bucket: u16, member: &str, expected, points| {
        let wanted = CommitBucket {
            bucket: Bucket(bucket),
            accounts: vec![write(member, expected)],
            returned: vec![Returned { campaign: campaign.clone(), points: Points(points) }],
            records: vec![],
            receipts: vec![],
            outbox: vec![],
            published: vec![],
            grants: vec![],
            due: vec![],
        };
        store.commit(&[wanted]).unwrap()[0]
    };
    assert_eq!(give_back(3, &ann, 0, 20), Committed::Refused);
    assert_eq!(give_back(3, &ann, 1, 20), Committed::Written);
    assert_eq!(give_back(5, &bob, 1, 7), Committed::Written);
    assert_eq!(give_back(3, &ann, 2, 1), Committed::Written);
    assert_eq!(free(&mut *store, &campaign, 100), 28);
    assert_eq!(free(&mut *store, &campaign, 90), 18, "the programme may be changed");
}

pub fn asking_twice_by_one_name_is_leasing_once(ground: &Ground) {
    let mut store = ground.open();
    let campaign = campaign(ground);
    let wanted = request(&campaign, 100, LeaseId::new_random(), 40, LONG);
    let first = store.lease(&wanted).unwrap();
    assert_eq!(store.lease(&wanted).unwrap(), first);
    assert_eq!(free(&mut *store, &campaign, 100), 60);
}

pub fn ending_a_lease_frees_what_was_not_granted_and_ending_twice_is_ending_once(ground: &Ground) {
    let (mut store, mut other) = (ground.open(), ground.open());
    let (campaign, ann, bob) = (campaign(ground), ground.name("ann"), ground.name("bob"));
    let holder = Holder::lease(&mut *store, &campaign, 100, 60, LONG);
    // In several buckets, and several times in one.
    assert_eq!(commit(&mut *store, 3, &ann, 0, holder.grant(10)), Committed::Written);
    assert_eq!(commit(&mut *store, 3, &ann, 1, holder.grant(5)), Committed::Written);
    assert_eq!(commit(&mut *store, 4, &bob, 0, holder.grant(20)), Committed::Written);
    assert_eq!(free(&mut *other, &campaign, 100), 40, "the rest is its holder's");
    for _again in 0..2 {
        holder.end(&mut *store);
        assert_eq!(free(&mut *other, &campaign, 100), 65);
    }
    store.end_lease(&campaign, LeaseId::new_random()).unwrap();
    assert_eq!(free(&mut *other, &campaign, 100), 65, "one that never was");
}

pub fn a_commit_that_is_refused_or_repeated_is_not_counted(ground: &Ground) {
    let mut store = ground.open();
    let (campaign, ann) = (campaign(ground), ground.name("ann"));
    let holder = Holder::lease(&mut *store, &campaign, 100, 100, LONG);
    assert_eq!(commit(&mut *store, 3, &ann, 7, holder.grant(10)), Committed::Refused);
    for outcome in [Committed::Written, Committed::Refused, Committed::Refused] {
        assert_eq!(commit(&mut *store, 3, &ann, 0, holder.grant(10)), outcome);
    }
    holder.end(&mut *store);
    assert_eq!(free(&mut *store, &campaign, 100), 90);
}

pub fn buckets_of_every_shape_are_counted_each_for_itself_in_one_commit(ground: &Ground) {
    let mut store = ground.open();
    let (campaign, ann, other) = (campaign(ground), ground.name("ann"), ground.partition("orders"));
    let holder = Holder::lease(&mut *store, &campaign, 100, 100, LONG);
    let due = |at| vec![DueAt { member: ann.as_str().into(), at }];
    let receipts = vec![
        (ReceiptKey::from(format!("e {ann}")), receipt(&other, 1)),
        (format!("o {ann}").into(), receipt(&other, 2)),
        (format!("order.paid {ann}").into(), receipt(&other, 3)),
    ];
    let blob = vec![(outbox_key(&other, 1, 3), b"blob".to_vec())];
    let buckets = [
        CommitBucket { due: due(Some(1 << 40)), ..giving(3, &ann, 0, holder.grant(10)) },
        // Of another version: nothing of it is written.
        CommitBucket {
            due: due(Some(1 << 40)),
            receipts: receipts.clone(),
            ..giving(4, &ann, 7, holder.grant(20))
        },
        CommitBucket { receipts: receipts.clone(), outbox: blob.clone(), ..giving(5, &ann, 0, Vec::new()) },
        CommitBucket {
            accounts: Vec::new(),
            published: vec![outbox_key(&other, 9, 9)],
            ..giving(6, &ann, 0, Vec::new())
        },
        // Larger than what goes into one call with others.
        CommitBucket {
            outbox: vec![(outbox_key(&other, 1, 3), vec![7; 300_000])],
            ..giving(7, &ann, 0, holder.grant(5))
        },
        CommitBucket {
            due: due(Some(1 << 41)),
            receipts,
            outbox: blob,
            ..giving(2, &ann, 0, holder.grant(1))
        },
    ];
    let refused = |at: usize| if at == 1 { Committed::Refused } else { Committed::Written };
    let expected: Vec<Committed> = (0..buckets.len()).map(refused).collect();
    assert_eq!(store.commit(&buckets).unwrap(), expected);
    let wanted: Vec<_> = buckets.iter().map(|wanted| (wanted.bucket, vec![ann.as_str().into()])).collect();
    let found = store.due_of(&wanted).unwrap().concat();
    assert_eq!(found, [Some(1 << 40), None, None, None, None, Some(1 << 41)]);
    for (bucket, version, receipts, blob) in
        [(3, 1, 0, 0), (4, 0, 0, 0), (5, 1, 3, 4), (6, 0, 0, 0), (7, 1, 0, 300_000), (2, 1, 3, 4)]
    {
        let keys = [format!("e {ann}"), format!("o {ann}"), format!("order.paid {ann}")];
        let loaded = load(&mut *store, Bucket(bucket), &[&ann], &keys.each_ref().map(String::as_str));
        assert_eq!(loaded.accounts[0], (version > 0).then(|| account(&ann, version)), "{bucket}");
        assert_eq!(loaded.receipts.iter().flatten().count(), receipts, "{bucket}");
        let entry = store.outbox_entry(Bucket(bucket), &outbox_key(&other, 1, 3)).unwrap();
        assert_eq!(entry.map_or(0, |blob| blob.len()), blob, "{bucket}");
    }
    holder.end(&mut *store);
    assert_eq!(free(&mut *store, &campaign, 100), 84);
}

pub fn grants_of_several_campaigns_are_counted_each_for_itself(ground: &Ground) {
    let mut store = ground.open();
    let (one, other, ann) = (campaign(ground), campaign(ground), ground.name("ann"));
    let of_one = Holder::lease(&mut *store, &one, 100, 50, LONG);
    let of_other = Holder::lease(&mut *store, &other, 100, 50, LONG);
    let grants = [of_one.grant(7), of_other.grant(9)].concat();
    assert_eq!(commit(&mut *store, 3, &ann, 0, grants), Committed::Written);
    of_one.end(&mut *store);
    of_other.end(&mut *store);
    assert_eq!((free(&mut *store, &one, 100), free(&mut *store, &other, 100)), (93, 91));
}

pub fn what_is_spent_is_what_was_granted_whether_its_lease_has_ended_or_not(ground: &Ground) {
    let mut store = ground.open();
    let (campaign, other, ann) = (campaign(ground), campaign(ground), ground.name("ann"));
    let [ends, stays] = [100, 200].map(|budget| Holder::lease(&mut *store, &campaign, budget, 50, LONG));
    let of_other = Holder::lease(&mut *store, &other, 100, 50, LONG);
    assert_eq!(store.spent(&campaign).unwrap(), Spent::default());
    let grants = [ends.grant(7), stays.grant(9), of_other.grant(1)].concat();
    assert_eq!(commit(&mut *store, 3, &ann, 0, grants), Committed::Written);
    assert_eq!(commit(&mut *store, 5, &ann, 0, stays.grant(20)), Committed::Written);
    let spent = Spent { granted: Points(36), returned: Points(0) };
    assert_eq!(store.spent(&campaign).unwrap(), spent);
    ends.end(&mut *store);
    assert_eq!(store.spent(&campaign).unwrap(), spent, "with one of both leases ended");
}

pub fn a_lease_past_its_deadline_grants_nothing_and_what_is_published_goes_all_the_same(ground: &Ground) {
    let mut store = ground.open();
    let (campaign, ann) = (campaign(ground), ground.name("ann"));
    let expired = Holder::lease(&mut *store, &campaign, 100, 20, SHORT);
    let valid = Holder::lease(&mut *store, &campaign, 100, 20, LONG);
    ground.wait_until(ground.now() + 2);
    let grants = [valid.grant(5), expired.grant(5)].concat();
    assert_eq!(commit(&mut *store, 3, &ann, 0, grants), Committed::LeaseExpired);
    assert_eq!(load(&mut *store, Bucket(3), &[&ann], &[]).accounts, [None]);
    assert_eq!(commit(&mut *store, 3, &ann, 7, expired.grant(5)), Committed::Refused, "for another reason");
    assert_eq!(commit(&mut *store, 3, &ann, 0, valid.grant(5)), Committed::Written);
    expired.end(&mut *store);
    valid.end(&mut *store);
    assert_eq!(free(&mut *store, &campaign, 100), 95);
}

pub fn what_a_dead_holder_did_not_grant_comes_back_after_its_lease_lapsed_and_only_that(ground: &Ground) {
    let (mut store, mut other) = (ground.open(), ground.open());
    let (campaign, ann, bob) = (campaign(ground), ground.name("ann"), ground.name("bob"));
    let dead = Holder::lease(&mut *store, &campaign, 100, 60, SHORT);
    let granted =
        [commit(&mut *store, 3, &ann, 0, dead.grant(10)), commit(&mut *store, 5, &bob, 0, dead.grant(15))];
    let alive = Holder::lease(&mut *other, &campaign, 100, 30, LONG);
    let before = free(&mut *other, &campaign, 100);
    if ground.now() * 1000 < dead.lease.deadline {
        assert_eq!((granted, before), ([Committed::Written; 2], 10));
    }
    ground.wait_until(dead.lease.deadline / 1000 + 2);
    let spent: i64 =
        granted.iter().zip([10, 15]).filter(|(g, _)| **g == Committed::Written).map(|g| g.1).sum();
    assert_eq!(free(&mut *other, &campaign, 100), 100 - 30 - spent);
    assert_eq!(
        commit(&mut *store, 3, &ann, 1, dead.grant(10)),
        Committed::LeaseExpired,
        "it was dead to all"
    );
    // Should it come back to life, it has nothing to end.
    dead.end(&mut *store);
    alive.end(&mut *other);
    assert_eq!(free(&mut *other, &campaign, 100), 100 - spent);
}

pub fn however_many_lease_grant_die_and_end_at_once_a_budget_is_never_overspent(ground: &Ground) {
    const BUDGET: i64 = 3000;
    let campaign = campaign(ground);
    let begun = ground.now();
    let granted: i64 = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..4u64)
            .map(|lane| {
                let (campaign, mut store, member) = (campaign.clone(), ground.open(), ground.name("ann"));
                scope.spawn(move || {
                    let (mut granted, mut version) = (0, 0);
                    for turn in 0..40 {
                        let needed = 1 + ((turn * 7 + lane * 13) % 40) as i64;
                        let holder = Holder::lease(&mut *store, &campaign, BUDGET, needed, SHORT);
                        for part in 0..2 {
                            let points = holder.lease.points.0 / 2 - part;
                            let bucket = ((turn + lane) % 8) as u16;
                            // Each bucket has an account of its own for the lane.
                            let member = format!("{member}-{bucket}-{version}");
                            if points > 0
                                && commit(&mut *store, bucket, &member, 0, holder.grant(points))
                                    == Committed::Written
                            {
                                granted += points;
                            }
                            version += 1;
                        }
                        // One in four dies, and one in four is not sure whether it has ended.
                        match turn % 4 {
                            0 => {}
                            1 => (0..2).for_each(|_| holder.end(&mut *store)),
                            _ => holder.end(&mut *store),
                        }
                    }
                    granted
                })
            })
            .collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).sum()
    });
    assert!((1..=BUDGET).contains(&granted), "{granted}");
    ground.wait_until(ground.now().max(begun) + 3);
    assert_eq!(free(&mut *ground.open(), &campaign, BUDGET), BUDGET - granted);
}
