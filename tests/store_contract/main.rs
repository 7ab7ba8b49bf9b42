//! The contract of every storage engine, as tests that run unchanged against each of them.
//!
//! A case is a function with a [`Harness`](harness::Harness) parameter. The macro call below lists
//! every case once and generates a test for each engine; an unlisted case is dead code, which fails
//! the build.

#![cfg(test)]

mod embedded;
mod fixtures;
mod harness;
#[path = "../support/replica_set.rs"]
mod replica_set;
#[path = "../support/shared_replica_set.rs"]
mod shared_replica_set;

mod atomicity;
mod audit;
mod batch_cost;
mod dead_nodes;
mod deep_check;
mod ended_records;
mod erasure;
mod expected_state;
mod failed_steps;
mod guest_orders;
mod idempotency;
mod inbox;
mod lifecycle;
mod lists;
mod login_failures;
mod mails;
mod migration;
mod nodes;
mod order_ids;
mod order_lists;
mod orders;
mod outbox;
mod partitions;
mod payments;
mod pricing_rules;
mod promotion_uses;
mod purchase_limits;
mod records;
mod retention;
mod rights;
mod staff;
mod stock;
mod unique;
mod versions;
mod webhooks;
mod writer;

macro_rules! every_engine_keeps {
    ($($topic:ident { $($case:ident)* })*) => {
        mod sqlite {
            $(mod $topic {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    crate::$topic::$case(&crate::harness::Sqlite::new()).await;
                })*
            })*
        }

        mod mongo {
            $(mod $topic {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let Some(mongo) = crate::harness::Mongo::new().await else { return };
                    crate::$topic::$case(&mongo).await;
                    mongo.drop_database().await;
                })*
            })*
        }
    };
}

every_engine_keeps! {
    records {
        new_store_is_empty
        products_round_trip
        products_are_found_by_ids
        numbers_round_trip
        carts_round_trip
        accounts_and_sessions_round_trip
        movements_round_trip
    }
    versions {
        first_version_is_stored_once
        next_version_requires_the_previous_one
        versions_follow_each_other_within_a_batch
        first_of_two_commits_on_the_same_version_wins
    }
    unique {
        active_products_are_found_by_sku
        sku_belongs_to_one_product
        products_without_a_sku_do_not_conflict
        deleted_product_frees_its_sku_but_still_shows_it
        sku_can_move_within_a_batch
        sku_is_freed_by_a_delete_in_the_same_batch
        email_belongs_to_one_account
        stale_version_is_reported_before_a_taken_sku
    }
    stock {
        batch_makes_one_stock_version_and_one_event
        shortage_reports_the_remaining_stock
        every_short_line_is_reported
        low_and_depleted_events_mark_the_transition
        no_op_stock_changes_leave_no_trace
        new_product_without_stock_has_no_stock_events
        expected_stock_version_is_checked
        stock_overflow_is_rejected
        movements_are_paged_newest_first
        concurrent_batches_never_oversell
    }
    rights {
        rights_round_trip_and_special_ones_are_listed
        changes_of_rights_are_told_to_caches
        one_admin_remains
        users_are_filtered_and_paged
    }
    staff {
        api_keys_round_trip_and_deleted_ones_stay
        use_of_api_keys_is_recorded
        api_keys_of_one_maker_are_limited
        changes_of_api_keys_are_told_to_caches
        actions_are_written_with_what_they_changed
        what_changes_nothing_is_no_action
        actions_are_filtered_and_paged_newest_first
    }
    erasure {
        address_books_round_trip
        erased_account_is_gone_from_every_record
        mails_to_an_erased_account_are_deleted
        email_of_an_erased_account_is_free_in_the_same_batch
        account_with_an_open_order_is_not_erased
        erased_rights_are_told_to_caches
    }
    order_ids {
        restarted_process_repeats_no_order_number
        first_lease_begins_after_older_orders
    }
    guest_orders {
        orders_of_guests_round_trip
        orders_are_found_by_email
        moved_order_belongs_to_the_account
        order_does_not_move_to_an_erased_account
        orders_of_guests_are_erased_with_their_verified_email
        promotion_is_counted_by_email_too
    }
    order_lists {
        orders_are_paged_newest_first
        orders_are_filtered
    }
    orders {
        orders_round_trip
        order_is_placed_and_paid_in_one_commit
        orders_are_due_after_their_payment_deadline
        due_orders_are_paged
        checkout_is_one_commit
        refused_checkout_leaves_no_order
        pending_orders_per_user_are_limited
        stock_of_a_deleted_product_still_moves
        commits_are_served_in_queue_order
    }
    payments {
        payments_are_due_until_somebody_claims_them
        orders_are_found_by_the_provider_s_id
        method_manual_is_never_due
    }
    pricing_rules {
        pricing_rules_round_trip
        unique_keys_belong_to_one_rule
        commits_can_depend_on_the_rules
        changes_of_rules_are_told_to_caches
    }
    promotion_uses {
        charges_round_trip
        uses_are_limited_and_given_back
        buyers_have_a_promotion_so_often
        erased_orders_keep_the_place_without_the_postal_code
    }
    purchase_limits {
        purchase_limit_counts_orders_that_stand
        purchase_limit_counts_the_batch
        unpaid_units_per_user_are_limited
    }
    failed_steps {
        failed_step_leaves_no_partial_change
    }
    audit {
        audit_pages_include_deleted_products
        audited_orders_include_their_movements
        event_positions_are_audited
        inconsistencies_are_found_and_repaired
        audit_during_changes_reports_nothing
        repair_during_changes_corrects_once
    }
    atomicity {
        refused_commit_leaves_no_trace
        refused_commits_do_not_affect_others
        unstorable_commit_does_not_affect_others
        batch_may_be_empty_or_all_refused
        committed_changes_match_the_batch
    }
    idempotency {
        repeat_gets_the_first_response_after_reopening
        responses_of_any_form_are_remembered
        key_identifies_one_request_of_one_owner
        repeat_in_the_same_batch_is_replayed
        repeat_of_a_refused_request_is_decided_again
        refusal_bars_earlier_attempts_on_other_nodes
        stored_replies_are_counted_and_compressed
        stock_response_reflects_the_whole_batch
        unchanged_stock_is_remembered
        commit_may_hold_only_a_response
        key_is_forgotten_after_a_day
        keys_expire_by_the_given_clock
        concurrent_repeats_change_stock_once
    }
    inbox {
        message_is_applied_once
        duplicate_message_in_one_batch_applies_once
        refused_message_can_be_redelivered
        no_op_message_is_recorded_as_applied
        two_writers_apply_a_message_once
    }
    outbox {
        events_keep_commit_order_across_a_restart
        events_are_read_back_unchanged
        events_are_paged
        last_ten_thousand_events_are_kept
        published_cursor_never_moves_back
        events_are_kept_until_published
    }
    lists {
        idle_carts_are_found
        live_sessions_exclude_revoked_and_expired
        stale_sessions_are_those_not_refreshed_for_longest
        revoked_sessions_are_found_by_time
        has_admin_reports_admins
        products_are_paged_with_their_stock
        timestamps_keep_milliseconds
    }
    login_failures {
        failures_are_counted_per_key_and_survive_reopening
        failures_are_forgotten_after_their_window
        concurrent_failures_are_all_counted
        greatest_password_hash_has_the_highest_cost
    }
    mails {
        mails_round_trip_and_are_listed_when_due
        mail_is_claimed_once_and_removed
        mail_and_account_are_one_commit
    }
    webhooks {
        webhooks_round_trip_and_are_listed
        requested_deliveries_are_found_until_they_are_made
        request_during_an_attempt_stays
        progress_is_kept_of_the_node_that_delivers
        waiting_deliveries_are_listed_by_due_time
        attempts_are_paged_and_trimmed
        last_attempt_has_the_position_of_the_first
        remains_of_deleted_webhooks_are_deleted
        nodes_share_the_endpoints_of_a_shop
        events_are_kept_for_endpoints_that_have_not_heard_them
    }
    ended_records {
        ended_sessions_and_guest_carts_are_deleted
        ended_records_are_deleted_a_few_at_a_time
        deleting_beside_commits_loses_nothing
    }
    lifecycle {
        store_that_takes_no_changes_is_not_writable
        reads_see_acknowledged_writes
        acknowledged_writes_survive_an_unclosed_store
        closed_store_rejects_reads_and_writes
        close_applies_accepted_batches_and_rejects_the_rest
        dropped_caller_does_not_cancel_its_change
    }
    writer {
        concurrent_commits_get_their_own_outcomes
        concurrent_repeats_apply_once
        batch_size_is_limited_by_writes
        expired_commit_is_not_started
        writer_ends_after_the_queue_is_applied
        closed_writer_drains_its_queue_and_rejects_new_commits
        closed_store_applies_nothing
    }
}
