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
#[path = "../support/shared_set.rs"]
mod shared_set;

mod atomicity;
mod audit;
mod idempotency;
mod inbox;
mod lifecycle;
mod lists;
mod nodes;
mod orders;
mod outbox;
mod records;
mod rounds;
mod stock;
mod unique;
mod versions;
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
                    mongo.discard().await;
                })*
            })*
        }
    };
}

every_engine_keeps! {
    records {
        a_new_store_is_empty
        products_come_back_as_written
        many_products_are_found_by_their_ids
        numbers_come_back_as_written
        carts_come_back_as_written
        accounts_and_sessions_come_back_as_written
        movements_come_back_as_written
    }
    versions {
        a_first_version_is_stored_once
        a_next_version_needs_the_one_before
        versions_follow_each_other_within_a_batch
        of_two_that_decided_on_the_same_version_the_first_wins
    }
    unique {
        a_sku_belongs_to_one_product
        products_without_a_sku_do_not_meet
        a_deleted_product_gives_its_sku_up_and_still_shows_it
        a_sku_moves_on_within_a_batch
        a_sku_is_free_when_its_product_is_deleted_in_the_same_batch
        an_address_belongs_to_one_account
        what_is_taken_counts_after_what_is_stale
    }
    stock {
        changes_of_one_batch_are_one_version_and_one_event
        whoever_comes_too_late_hears_what_is_left
        every_short_line_is_named
        low_and_depleted_are_told_when_they_begin
        what_changes_nothing_leaves_nothing
        a_new_product_without_stock_has_no_stock_events
        a_wanted_version_is_checked
        more_than_can_be_counted_is_refused
        movements_are_read_newest_first_by_page
        batches_side_by_side_never_sell_what_is_not_there
    }
    orders {
        orders_come_back_as_written
        orders_are_read_newest_first_by_page
        orders_are_due_when_their_time_to_pay_is_over
        orders_due_are_read_by_page
        a_whole_checkout_is_one_commit
        each_step_may_fail_and_nothing_is_half_done
        a_refused_checkout_leaves_no_order
        pending_orders_of_a_user_are_limited
        stock_of_a_deleted_product_still_moves
        who_asks_first_is_served_first
    }
    audit {
        products_are_audited_by_page_deleted_ones_too
        orders_are_audited_with_what_they_have_moved
        events_are_audited
        what_is_off_is_found_and_repaired
        an_audit_beside_changes_finds_nothing
        a_repair_beside_changes_corrects_once
    }
    atomicity {
        a_refused_commit_leaves_no_trace
        refused_commits_take_no_other_with_them
        a_commit_that_cannot_be_stored_takes_no_other_with_it
        a_batch_may_be_empty_or_all_refused
        the_news_is_what_has_changed
    }
    idempotency {
        a_repeat_gets_the_first_answer_also_later
        answers_of_any_form_come_back
        a_key_is_for_one_request_of_one_owner
        a_repeat_may_share_the_batch_of_its_first
        a_repeat_of_a_refused_first_is_decided_anew
        a_stock_answer_is_that_of_the_whole_batch
        what_changes_nothing_is_not_remembered
        a_key_is_forgotten_after_a_day
        repeats_side_by_side_change_one_thing
    }
    inbox {
        a_message_is_carried_out_once_also_later
        a_message_may_come_twice_in_one_batch
        a_refused_message_may_come_again
        a_message_that_changes_nothing_is_carried_out_too
        two_writers_carry_a_message_out_once
    }
    outbox {
        events_stand_in_commit_order_also_over_a_restart
        an_event_comes_back_as_it_was_told
        events_are_read_by_page_and_found_by_id
        the_last_ten_thousand_events_are_kept
        how_far_events_were_published_never_goes_back
        events_are_kept_until_they_were_published
    }
    lists {
        carts_left_lying_are_found
        live_sessions_are_neither_revoked_nor_over
        revoked_sessions_are_found_by_time
        an_admin_is_seen
        products_are_read_by_page_with_their_stock
        times_are_kept_to_the_millisecond
    }
    lifecycle {
        reads_see_what_was_acknowledged_before
        what_was_acknowledged_outlives_a_store_that_was_not_closed
        a_closed_store_takes_and_tells_nothing
        closing_applies_what_was_taken_and_refuses_the_rest
        a_caller_that_leaves_does_not_stop_its_change
    }
    writer {
        many_commits_at_once_get_each_its_own_outcome
        repeats_at_once_are_done_once
        a_transaction_has_no_more_writes_than_it_can_end
        what_comes_too_late_is_not_begun
        the_writer_ends_when_everything_queued_is_applied
        a_closed_writer_applies_what_waits_and_takes_no_more
        a_closed_store_means_not_applied
    }
}
