//! The checker detects anomalies: each test changes one thing in a valid history.

use super::{Outcome, Span, carts, stock};

/// The span of the n-th operation of a sequential client.
const fn nth(n: u64) -> Span {
    Span { begun: 10 * n, ended: 10 * n + 5 }
}

/// A span from the n-th to the m-th operation.
const fn between(n: u64, m: u64) -> Span {
    Span { begun: 10 * n, ended: 10 * m + 5 }
}

#[track_caller]
fn assert_rejected(checked: Result<(), String>, reason: &str) {
    let found = checked.expect_err("an impossible history is accepted");
    assert!(found.contains(reason), "{found}");
}

mod cart_histories {
    use super::{
        Outcome, Span, assert_rejected, between,
        carts::{Change, ChangeRequest, History, Lines, Read, View},
        nth,
    };

    fn view(version: u64, tea: u64) -> View {
        View {
            version,
            lines: if tea == 0 { Lines::new() } else { Lines::from([("tea".into(), tea)]) },
        }
    }

    fn add(span: Span, quantity: u64, outcome: Outcome<View>) -> ChangeRequest {
        ChangeRequest { span, change: Change::Add("tea".into(), quantity), outcome }
    }

    fn set(span: Span, quantity: u64, outcome: Outcome<View>) -> ChangeRequest {
        ChangeRequest { span, change: Change::Set("tea".into(), quantity), outcome }
    }

    fn read_at(span: Span, version: u64, tea: u64) -> Read {
        Read { span, view: view(version, tea) }
    }

    /// Sequentially: add two units, add one, set nine, add one.
    fn valid() -> History {
        History {
            changes: vec![
                add(nth(1), 2, Outcome::Done(view(1, 2))),
                add(nth(3), 1, Outcome::Done(view(2, 3))),
                set(nth(5), 9, Outcome::Done(view(3, 9))),
                add(nth(7), 1, Outcome::Done(view(4, 10))),
            ],
            reads: vec![
                read_at(nth(0), 0, 0),
                read_at(nth(2), 1, 2),
                read_at(nth(4), 2, 3),
                read_at(nth(6), 3, 9),
                read_at(nth(8), 4, 10),
            ],
        }
    }

    #[test]
    fn valid_history_is_accepted() {
        valid().check().unwrap();
    }

    #[test]
    fn concurrent_change_may_be_visible_or_not() {
        for seen in [read_at(nth(7), 3, 9), read_at(nth(7), 4, 10)] {
            let mut history = valid();
            history.reads.push(seen);
            history.check().unwrap();
        }
    }

    #[test]
    fn stale_read_is_detected() {
        for stale in [read_at(nth(8), 3, 9), read_at(nth(3), 0, 0), read_at(nth(9), 1, 2)] {
            let mut history = valid();
            history.reads.push(stale);
            assert_rejected(history.check(), "comes before it");
        }
    }

    #[test]
    fn non_monotonic_reads_are_detected() {
        let mut history = valid();
        history.changes[3].span = between(7, 20);
        history.reads[4].span = nth(10);
        history.check().unwrap();
        history.reads.push(read_at(nth(11), 3, 9));
        assert_rejected(history.check(), "comes before it");
    }

    #[test]
    fn read_from_the_future_is_detected() {
        let mut history = valid();
        history.reads.push(read_at(nth(0), 1, 2));
        assert_rejected(history.check(), "comes before it");
    }

    #[test]
    fn lost_add_is_detected() {
        // Its version is assigned to another change.
        let mut history = valid();
        history.changes[1].outcome = Outcome::Done(view(1, 2));
        assert_rejected(history.check(), "was given to");
        // Its version exists without the added units.
        let mut history = valid();
        history.changes[1].outcome = Outcome::Done(view(2, 2));
        history.reads[2].view = view(2, 2);
        assert_rejected(history.check(), "version 2 is not the sum");
        // The units are there and disappear.
        let mut history = valid();
        history.reads.push(read_at(nth(9), 4, 9));
        assert_rejected(history.check(), "was shown as");
        // The last read is older than an acknowledged change.
        let mut history = valid();
        history.changes.push(add(nth(9), 1, Outcome::Done(view(5, 11))));
        history.reads.push(read_at(nth(10), 4, 10));
        assert_rejected(history.check(), "comes before it");
    }

    #[test]
    fn duplicate_add_is_detected() {
        let mut history = valid();
        history.reads.push(read_at(nth(9), 5, 11));
        assert_rejected(history.check(), "version 5 is not the sum");
        let mut history = valid();
        history.changes[3].outcome = Outcome::Done(view(4, 11));
        history.reads[4].view = view(4, 11);
        assert_rejected(history.check(), "version 4 is not the sum");
    }

    #[test]
    fn reordered_change_is_detected() {
        let mut history = valid();
        (history.changes[0].span, history.changes[1].span) = (nth(3), nth(1));
        history.reads.clear();
        assert_rejected(history.check(), "comes before it");
    }

    #[test]
    fn unknown_outcome_may_apply_once_or_never() {
        let mut history = valid();
        history.changes.push(add(nth(6), 5, Outcome::Unknown));
        history.check().unwrap();
        history.reads.push(read_at(nth(9), 5, 15));
        history.check().unwrap();
        let mut twice = history.clone();
        twice.reads.push(read_at(nth(10), 6, 20));
        assert_rejected(twice.check(), "version 6 is not the sum");
        let mut wrong = history.clone();
        wrong.reads[5].view = view(5, 16);
        assert_rejected(wrong.check(), "version 5 is not the sum");
        // A refused change cannot apply.
        history.changes[4].outcome = Outcome::Refused;
        assert_rejected(history.check(), "version 5 is not the sum");
    }

    #[test]
    fn unknown_outcome_cannot_apply_before_its_request() {
        let mut history = valid();
        history.changes[1].outcome = Outcome::Unknown;
        history.check().unwrap();
        history.changes[1].span = nth(6);
        assert_rejected(history.check(), "version 2 is not the sum");
    }

    #[test]
    fn applied_unknown_outcomes_are_inferred() {
        let mut history = valid();
        for quantity in [1, 2, 2, 4, 8, 16] {
            history.changes.push(add(nth(9), quantity, Outcome::Unknown));
        }
        // 2, 2 and 16 were applied.
        history.reads.push(read_at(nth(20), 7, 30));
        history.check().unwrap();
        history.reads.push(read_at(nth(21), 8, 31));
        history.reads.push(read_at(nth(22), 10, 43));
        history.check().unwrap();
        history.reads.push(read_at(nth(23), 11, 44));
        assert_rejected(history.check(), "version 11 is not the sum");
    }
}

mod stock_histories {
    use super::{
        Outcome, Span, assert_rejected, between, nth,
        stock::{ChangeRequest, History, Movement, Read, View},
    };

    const fn view(version: u64, on_hand: i64) -> View {
        View { version, on_hand }
    }

    fn change(span: Span, reference: &str, delta: i64, outcome: Outcome<View>) -> ChangeRequest {
        ChangeRequest { span, reference: reference.into(), delta, outcome }
    }

    const fn read_at(span: Span, version: u64, on_hand: i64) -> Read {
        Read { span, view: view(version, on_hand) }
    }

    fn movement(sequence: u64, reference: &str, delta: i64) -> Movement {
        Movement { sequence, reference: Some(reference.into()), delta }
    }

    /// A hundred units; then 7 more; then 20 fewer and 3 more in one transaction.
    fn valid() -> History {
        History {
            changes: vec![
                change(nth(1), "a", 7, Outcome::Done(view(2, 107))),
                change(nth(3), "b", -20, Outcome::Done(view(3, 90))),
                change(nth(3), "c", 3, Outcome::Done(view(3, 90))),
            ],
            reads: vec![read_at(nth(0), 1, 100), read_at(nth(2), 2, 107), read_at(nth(4), 3, 90)],
            ledger: vec![
                Movement { sequence: 1, reference: None, delta: 100 },
                movement(2, "a", 7),
                movement(3, "b", -20),
                movement(4, "c", 3),
            ],
        }
    }

    #[test]
    fn valid_history_is_accepted() {
        valid().check().unwrap();
    }

    #[test]
    fn stale_read_is_detected() {
        for stale in [read_at(nth(4), 2, 107), read_at(nth(2), 1, 100)] {
            let mut history = valid();
            history.reads.push(stale);
            assert_rejected(history.check(), "comes before it");
        }
    }

    #[test]
    fn partial_transaction_read_is_detected() {
        let mut history = valid();
        history.reads.push(read_at(nth(3), 3, 87));
        assert_rejected(history.check(), "was shown as");
        history.reads.pop();
        history.reads.push(read_at(nth(3), 4, 87));
        assert_rejected(history.check(), "is no sum of movements");
    }

    #[test]
    fn lost_change_is_detected() {
        let mut history = valid();
        history.ledger.pop();
        assert_rejected(history.check(), "is no sum of movements");
        history.changes[1].outcome = Outcome::Done(view(3, 87));
        history.changes[2].outcome = Outcome::Done(view(3, 87));
        history.reads[2].view = view(3, 87);
        assert_rejected(history.check(), "not in the ledger");
    }

    #[test]
    fn duplicate_change_is_detected() {
        let mut history = valid();
        history.ledger.push(movement(5, "c", 3));
        assert_rejected(history.check(), "made twice");
    }

    #[test]
    fn unrequested_change_is_detected() {
        for stray in [movement(5, "d", 1), Movement { sequence: 5, reference: None, delta: 1 }] {
            let mut history = valid();
            history.ledger.push(stray);
            assert_rejected(history.check(), "not requested");
        }
        let mut history = valid();
        history.ledger[3].delta = 4;
        assert_rejected(history.check(), "not requested");
    }

    #[test]
    fn ledger_gap_is_detected() {
        let mut history = valid();
        history.ledger.remove(2);
        assert_rejected(history.check(), "line 3 of the ledger");
    }

    #[test]
    fn applied_refused_change_is_detected() {
        let mut history = valid();
        history.changes[2].outcome = Outcome::Refused;
        assert_rejected(history.check(), "though refused");
    }

    #[test]
    fn reordered_ledger_is_detected() {
        let mut history = valid();
        history.changes.truncate(1);
        history.changes.push(change(nth(3), "b", -20, Outcome::Unknown));
        history.changes.push(change(nth(3), "c", 3, Outcome::Unknown));
        history.check().unwrap();
        // The change begins after its successor in the ledger has ended.
        history.changes[1].span = between(5, 6);
        assert_rejected(history.check(), "comes before it");
    }

    #[test]
    fn unknown_outcome_may_apply_once_or_never() {
        let mut history = valid();
        history.changes.push(change(nth(4), "d", -1, Outcome::Unknown));
        history.check().unwrap();
        history.ledger.push(movement(5, "d", -1));
        history.check().unwrap();
        history.reads.push(read_at(nth(9), 4, 89));
        history.check().unwrap();
    }
}
