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

#[path = "store_contract/budgets.rs"]
mod budgets;
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
#[path = "store_contract/sentinels.rs"]
mod sentinels;
#[path = "store_contract/servers.rs"]
mod servers;

use ground::Ground;

/// Makes each rule a test on memory and one on Redis, and all of them one test on a cluster, which
/// takes some seconds to start.
macro_rules! hold {
    ($($file:ident::$rule:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $rule() { super::$file::$rule(&super::Ground::memory()); })*
        }
        mod redis {
            $(#[test] fn $rule() { super::$file::$rule(&super::Ground::redis()); })*
        }
        #[test]
        fn every_rule_holds_on_a_cluster() {
            let cluster = Ground::cluster();
            $(eprintln!("{}", stringify!($rule)); $file::$rule(&cluster);)*
        }
    };
}

hold! {
    rules::what_is_committed_is_loaded_in_the_order_asked_for,
    rules::a_commit_is_all_or_nothing,
    rules::a_stale_version_refuses_the_whole_bucket,
    rules::a_version_is_compared_whole_and_not_by_its_first_digits,
    rules::buckets_are_committed_each_by_itself,
    rules::an_existing_receipt_refuses,
    rules::receipts_of_one_bucket_are_unknown_in_another,
    rules::receipts_survive_one_generation_and_vanish_after_two,
    rules::a_business_keys_receipt_outlives_those_of_events_and_carries_its_record,
    rules::a_record_is_written_with_the_account_that_it_belongs_to_or_not_at_all,
    rules::an_account_that_stays_as_it_is_refuses_where_it_has_another_version,
    rules::what_is_paid_once_ever_is_remembered_beyond_every_window_and_refuses,
    rules::published_outbox_entries_go_even_on_refusal,
    rules::a_commit_repeated_after_a_lost_reply_is_refused_and_its_receipts_and_outbox_are_found,
    rules::the_outbox_is_listed_by_partition_read_and_cleared,
    rules::five_thousand_members_are_committed_and_loaded_in_one_call,
    rules::members_with_odd_names_are_kept_apart,
    rules::processed_ranges_that_touch_or_overlap_are_merged,
    rules::what_is_known_of_a_topic_is_told_by_partition_and_forgotten_without_that_of_others,
    rules::ranges_added_by_two_threads_at_once_are_all_there,
    rules::nothing_asked_is_nothing_answered,
    rules::an_event_is_found_by_its_id_alone_under_each_of_its_sources,
    rules::a_store_can_be_probed,
    rules::who_falls_due_is_given_to_one_and_after_a_while_to_another,
    rules::a_commit_that_is_refused_does_not_say_when_something_falls_due,
    rules::when_something_falls_due_is_told_of_those_who_are_asked_for,
    rules::every_member_with_an_account_is_found,
    budgets::what_is_spent_is_what_was_granted_whether_its_lease_has_ended_or_not,
    servers::who_has_not_adopted_the_server_commits_nothing,
    servers::nothing_is_confirmed_or_restored_on_another_server,
    servers::what_is_there_stays_and_what_is_not_is_restored_once,
    budgets::leases_shrink_with_what_is_free_and_together_are_the_budget,
    budgets::one_who_needs_more_than_a_share_leases_it_and_at_most_what_is_free,
    budgets::a_budget_of_as_many_points_as_a_programme_may_name_is_counted_exactly,
    budgets::points_that_come_back_are_free_again_and_no_commit_that_is_refused_brings_any,
    budgets::asking_twice_by_one_name_is_leasing_once,
    budgets::ending_a_lease_frees_what_was_not_granted_and_ending_twice_is_ending_once,
    budgets::a_commit_that_is_refused_or_repeated_is_not_counted,
    budgets::buckets_of_every_shape_are_counted_each_for_itself_in_one_commit,
    budgets::grants_of_several_campaigns_are_counted_each_for_itself,
    budgets::a_lease_past_its_deadline_grants_nothing_and_what_is_published_goes_all_the_same,
    budgets::what_a_dead_holder_did_not_grant_comes_back_after_its_lease_lapsed_and_only_that,
    budgets::however_many_lease_grant_die_and_end_at_once_a_budget_is_never_overspent,
}

#[test]
fn a_deployment_is_written_down_once_and_told_to_all_in_memory() {
    rules::a_deployment_is_written_down_once_and_told_to_all(&Ground::memory());
}

#[test]
fn a_deployment_is_written_down_once_and_told_to_all_in_redis() {
    rules::a_deployment_is_written_down_once_and_told_to_all(&Ground::own_redis());
}
