//! What every store promises, held against memory, a real Redis and a real Redis Cluster; and what only
//! Redis must get right: how it goes away and comes back.
//!
//! Real Redis is the one at `REDIS_URL` where that is set (nothing of it is deleted: each test has names
//! of its own), else a server of the test's own. `ACCRUAL_TEST_REDIS_CLUSTER` may name a cluster, as
//! `redis-cluster://a,b,c`. What must break a server has its own in any case.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::missing_panics_doc
)]

#[path = "support/redis.rs"]
mod support;

#[path = "store_contract/ground.rs"]
mod ground;
#[path = "store_contract/measure.rs"]
mod measure;
#[path = "store_contract/redis_only.rs"]
mod redis_only;
#[path = "store_contract/rules.rs"]
mod rules;
#[path = "store_contract/same_answers.rs"]
mod same_answers;

use ground::Ground;

/// Makes each rule a test on memory and one on Redis, and all of them one test on a cluster, which
/// takes some seconds to start.
macro_rules! hold {
    ($($rule:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $rule() { super::rules::$rule(&super::Ground::memory()); })*
        }
        mod redis {
            $(#[test] fn $rule() { super::rules::$rule(&super::Ground::redis()); })*
        }
        #[test]
        fn every_rule_holds_on_a_cluster() {
            let cluster = Ground::cluster();
            $(eprintln!("{}", stringify!($rule)); rules::$rule(&cluster);)*
        }
    };
}

hold! {
    what_is_committed_is_loaded_in_the_order_asked_for,
    a_commit_is_all_or_nothing,
    a_stale_version_refuses_the_whole_bucket,
    a_version_is_compared_whole_and_not_by_its_first_digits,
    buckets_are_committed_each_by_itself,
    an_existing_receipt_refuses,
    receipts_of_one_bucket_are_unknown_in_another,
    receipts_survive_one_generation_and_vanish_after_two,
    what_is_paid_once_ever_is_remembered_beyond_every_window_and_refuses,
    published_outbox_entries_go_even_on_refusal,
    a_commit_repeated_after_a_lost_reply_is_refused_and_its_receipts_and_outbox_are_found,
    the_outbox_is_listed_by_partition_read_and_cleared,
    five_thousand_members_are_committed_and_loaded_in_one_call,
    members_with_odd_names_are_kept_apart,
    processed_ranges_that_touch_or_overlap_are_merged,
    ranges_added_by_two_threads_at_once_are_all_there,
    nothing_asked_is_nothing_answered,
    a_store_can_be_probed,
}

#[test]
fn a_deployment_is_written_down_once_and_told_to_all_in_memory() {
    rules::a_deployment_is_written_down_once_and_told_to_all(&Ground::memory());
}

#[test]
fn a_deployment_is_written_down_once_and_told_to_all_in_redis() {
    rules::a_deployment_is_written_down_once_and_told_to_all(&Ground::own_redis());
}
