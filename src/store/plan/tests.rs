//! Applies random batches to a model of the store: a batch has the same effect as its commits have
//! one by one.

mod conditions;
mod drafts;
mod erasure;
mod model_rules;
mod model_store;
mod stale_nodes;

use std::collections::BTreeSet;

use proptest::prelude::*;

use self::{
    drafts::{DraftCommit, draft_commits, mail_at_version},
    model_rules::rule_at_version,
    model_store::{
        ModelStore, commit_of, idempotency_record, is_stock_reply, numbered_id, order_at_version,
        product_details, session_at_version, stock_write, user_at_version,
    },
};
use super::*;
use crate::{
    domain::{
        account::Email,
        cart::{Cart, CartOwner},
        catalog::product::Product,
        clock::Timestamp,
        inventory::StockChange,
        order::{Buyer, BuyerKey, LimitedLine, OrderStatus},
        pricing::UseChange,
    },
    store::commit::Condition,
};

/// Applies drafts one by one. Returns the commits built from them, and their outcomes.
fn apply_one_by_one(
    store: &mut ModelStore,
    drafts: &[DraftCommit],
) -> (Vec<Commit>, Vec<CommitOutcome>) {
    let mut done = (Vec::new(), Vec::new());
    for (number, draft) in drafts.iter().enumerate() {
        let commit = draft.to_commit(store, number);
        let before = store.clone();
        let outcome = store.apply(std::slice::from_ref(&commit)).remove(0);
        assert_eq!(
            store.unversioned_stock(),
            before.expected_stock_after(&commit, &outcome),
            "{commit:?}"
        );
        done.1.push(outcome);
        done.0.push(commit);
    }
    done
}

/// An outcome without stock levels: in a batch they are those after the last commit.
fn without_stock_levels(outcome: &CommitOutcome) -> CommitOutcome {
    match outcome {
        Ok(done) => Ok(CommitReceipt {
            stock: done.stock.iter().map(|level| StockLevel::empty(level.product_id)).collect(),
        }),
        Err(CommitError::Replayed(reply)) if is_stock_reply(reply) => {
            Err(CommitError::Replayed(StoredReply { body: Bytes::new() }))
        }
        Err(error) => Err(error.clone()),
    }
}

fn check_ledgers(store: &ModelStore) -> Result<(), TestCaseError> {
    for level in store.stock.values() {
        let movements: Vec<&StockMovement> =
            store.movements.iter().filter(|m| m.product_id == level.product_id).collect();
        let sequences: Vec<u64> = movements.iter().map(|movement| movement.sequence).collect();
        prop_assert_eq!(
            sequences,
            (1..=level.last_movement).collect::<Vec<_>>(),
            "without gaps, in order"
        );
        let on_hand: i64 = movements.iter().map(|movement| movement.delta.on_hand).sum();
        prop_assert_eq!(on_hand, level.on_hand as i64);
        let reserved: i64 = movements.iter().map(|movement| movement.delta.reserved).sum();
        prop_assert_eq!(reserved, level.reserved as i64);
        prop_assert!(level.reserved <= level.on_hand);
        let versions = store.events.iter().filter_map(|event| match &event.payload {
            DomainEvent::StockChanged(changed) if changed.product_id == level.product_id => {
                Some(changed.version)
            }
            _ => None,
        });
        prop_assert_eq!(
            versions.collect::<Vec<_>>(),
            (1..=level.version).collect::<Vec<_>>(),
            "one event a version"
        );
    }
    let moved: BTreeSet<ProductId> =
        store.movements.iter().map(|movement| movement.product_id).collect();
    prop_assert!(moved.iter().all(|id| store.stock.contains_key(id)));
    let living = store.products.values().filter(|product| !product.deleted);
    let skus: Vec<&String> = living.filter_map(|product| product.details.sku.as_ref()).collect();
    prop_assert_eq!(
        skus.iter().collect::<BTreeSet<_>>().len(),
        skus.len(),
        "a sku has one living product"
    );
    let emails: BTreeSet<&str> = store.users.values().map(|user| user.email.as_str()).collect();
    prop_assert_eq!(emails.len(), store.users.len(), "an address has one account");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn batch_equals_its_commits_one_by_one(
        earlier in prop::collection::vec(draft_commits(), 0..20),
        drafts in prop::collection::vec(draft_commits(), 0..20),
    ) {
        let mut before = ModelStore::default();
        apply_one_by_one(&mut before, &earlier);
        let (mut single, mut together) = (before.clone(), before.clone());
        let (batch, expected) = apply_one_by_one(&mut single, &drafts);
        let outcomes = together.apply(&batch);
        let plain = |outcomes: &[CommitOutcome]| {
            outcomes.iter().map(without_stock_levels).collect::<Vec<_>>()
        };
        prop_assert_eq!(plain(&outcomes), plain(&expected));
        prop_assert_eq!(&together.carts, &single.carts);
        prop_assert_eq!(&together.products, &single.products);
        prop_assert_eq!(&together.orders, &single.orders);
        prop_assert_eq!(&together.users, &single.users);
        prop_assert_eq!(&together.sessions, &single.sessions);
        prop_assert_eq!(&together.movements, &single.movements);
        prop_assert_eq!(&together.inbox, &single.inbox);
        prop_assert_eq!(together.unversioned_stock(), single.unversioned_stock());
        prop_assert_eq!(together.stored_replies(), single.stored_replies());
        prop_assert_eq!(together.event_summaries(false), single.event_summaries(false));
        for (id, level) in &together.stock {
            let was = before.stock.get(id).copied().unwrap_or(StockLevel::empty(*id));
            let moved = u64::from(level.last_movement != was.last_movement);
            prop_assert_eq!(level.version, was.version + moved, "one version for the whole batch");
        }
        check_ledgers(&single)?;
        check_ledgers(&together)?;
    }

    #[test]
    fn rejected_commits_leave_no_trace(
        earlier in prop::collection::vec(draft_commits(), 0..20),
        drafts in prop::collection::vec(draft_commits(), 0..20),
    ) {
        let mut before = ModelStore::default();
        apply_one_by_one(&mut before, &earlier);
        let (batch, _) = apply_one_by_one(&mut before.clone(), &drafts);
        let (mut all, mut good_only) = (before.clone(), before);
        let outcomes = all.apply(&batch);
        let good: Vec<Commit> = batch
            .into_iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| outcome.is_ok())
            .map(|(commit, _)| commit)
            .collect();
        let good_outcomes = good_only.apply(&good);
        let accepted: Vec<_> = outcomes.into_iter().filter(Result::is_ok).collect();
        prop_assert_eq!(accepted, good_outcomes);
        prop_assert_eq!(&all.carts, &good_only.carts);
        prop_assert_eq!(&all.products, &good_only.products);
        prop_assert_eq!(&all.orders, &good_only.orders);
        prop_assert_eq!(&all.users, &good_only.users);
        prop_assert_eq!(&all.sessions, &good_only.sessions);
        prop_assert_eq!(&all.stock, &good_only.stock);
        prop_assert_eq!(&all.movements, &good_only.movements);
        prop_assert_eq!(&all.keys, &good_only.keys);
        prop_assert_eq!(&all.inbox, &good_only.inbox);
        prop_assert_eq!(all.event_summaries(false), good_only.event_summaries(false));
        prop_assert_eq!(all.event_summaries(true), good_only.event_summaries(true));
    }
}

#[test]
fn read_set_has_the_promotions_and_their_buyer() {
    let (user_id, promotion_id) = (numbered_id(16), numbered_id(17));
    let email = Email::from_stored("ada@example.com".into());
    let buyer = Buyer { user_id, emails: vec![email.clone()] };
    let take = UseChange::Take { limit: None };
    let named = Commit {
        conditions: vec![Condition::BuyerUsesBelow { buyer, promotion_id, limit: 1 }],
        ..commit_of(vec![Write::PromotionUse(promotion_id, take)])
    };
    let expected = ReadSet {
        promotion_uses: [promotion_id].into(),
        buyer_uses: [BuyerKey::User(user_id), BuyerKey::Email(email)]
            .map(|key| (key, promotion_id))
            .into(),
        ..ReadSet::default()
    };
    assert_eq!(ReadSet::for_batch(&[named]), expected);
}

/// A condition of each kind that names a record.
fn conditions_on_records() -> Vec<Condition> {
    vec![
        Condition::ProductUnchanged(numbered_id(9), 1),
        Condition::PendingOrdersBelow(numbered_id(10), 1),
        Condition::PendingUnitsWithin { user_id: numbered_id(11), units: 1, limit: 1 },
        Condition::PurchaseWithin(
            numbered_id(12),
            LimitedLine { product_id: numbered_id(13), quantity: 1, limit: 1 },
        ),
        Condition::OtherAdminRemains(numbered_id(14)),
        Condition::ApiKeysBelow(numbered_id(15), 1),
        Condition::NoOpenOrders {
            user_id: numbered_id(16),
            guest_email: Some(Email::from_stored("bob@example.com".into())),
        },
    ]
}

#[test]
fn read_set_has_every_named_record() {
    let tea = Product::new(numbered_id(1), product_details(Some("A")), Timestamp::default());
    let ada = user_at_version(2, Email::from_stored("ada@example.com".into()), 1);
    let cart = Cart::empty(CartOwner { id: numbered_id(3), is_guest: true });
    let webhook = Webhook::sample(Timestamp::default());
    let webhook_id = webhook.id;
    let writes = vec![
        Write::Product(Arc::new(tea)),
        Write::User(Arc::new(ada)),
        Write::Cart(Arc::new(cart)),
        Write::Session(Arc::new(session_at_version(4, false, 1))),
        Write::Mail(Arc::new(mail_at_version(15, false, 1))),
        Write::Order(Arc::new(order_at_version(7, 8, OrderStatus::Paid, 1))),
        Write::Webhook(Arc::new(webhook)),
        stock_write(5, StockChange::Set(1), None),
        Write::PricingRule(Arc::new(rule_at_version(15, 1, 1))),
        Write::ReassignGuestReplies { guest_id: numbered_id(18), user_id: numbered_id(19) },
    ];
    let body = StoredReplyBody::StockLevelOf(numbered_id(5));
    let named = Commit {
        conditions: conditions_on_records(),
        idempotency_record: Some(idempotency_record(6, 0, body)),
        inbox_message_id: Some("7".into()),
        ..commit_of(writes)
    };
    let expected = ReadSet {
        carts: [numbered_id(3)].into(),
        products: [numbered_id(1), numbered_id(9)].into(),
        orders: [numbered_id(7)].into(),
        pending_order_users: [10, 11, 12].map(numbered_id).into(),
        purchases: [(numbered_id(12), numbered_id(13))].into(),
        skus: ["A".to_owned()].into(),
        stock: [numbered_id(5)].into(),
        users: [numbered_id(2), numbered_id(19)].into(),
        emails: ["ada@example.com".to_owned()].into(),
        sessions: [numbered_id(4)].into(),
        mails: [numbered_id(15)].into(),
        webhooks: [webhook_id].into(),
        idempotency_keys: [(numbered_id(0), "6".into())].into(),
        inbox: ["7".into()].into(),
        unfinished_orders: [
            BuyerKey::User(numbered_id(16)),
            BuyerKey::GuestEmail(Email::from_stored("bob@example.com".into())),
        ]
        .into(),
        active_admins: true,
        api_keys: BTreeSet::new(),
        api_key_makers: [numbered_id(15)].into(),
        rules: [numbered_id(15)].into(),
        rule_keys: rule_at_version(15, 1, 1).unique_key().into_iter().collect(),
        rules_version: true,
        ..ReadSet::default()
    };
    assert_eq!(ReadSet::for_batch(&[named, commit_of(vec![])]), expected);
}

#[test]
fn expected_stock_version_counts_a_batch_once() {
    let mut store = ModelStore::default();
    store.apply(&[commit_of(vec![stock_write(0, StockChange::Set(10), None)])]);
    let expecting = |version, change| commit_of(vec![stock_write(0, change, Some(version))]);
    let take = StockChange::Adjust(-1);
    let outcomes = store.apply(&[
        expecting(2, take),
        expecting(1, StockChange::Set(10)),
        expecting(1, take),
        expecting(2, take),
        expecting(1, take),
    ]);
    let versions: Vec<Option<u64>> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Err(CommitError::StockVersionMismatch(version)) => Some(*version),
            _ => None,
        })
        .collect();
    // The second changes nothing. The third moves the stock to version 2, where it stays for the
    // rest of the batch.
    assert_eq!(versions, [Some(1), None, None, None, Some(2)]);
}

#[test]
fn stock_warnings_are_raised_once_per_batch() {
    let mut store = ModelStore::default();
    store.apply(&[commit_of(vec![stock_write(0, StockChange::Set(10), None)])]);
    let mut kinds_after = |changes: &[StockChange]| {
        let before = store.events.len();
        let batch: Vec<Commit> =
            changes.iter().map(|change| commit_of(vec![stock_write(0, *change, None)])).collect();
        assert!(store.apply(&batch).iter().all(Result::is_ok));
        store.events[before..]
            .iter()
            .map(|event| event.payload.event_type().as_str())
            .collect::<Vec<_>>()
    };
    let (changed, low, depleted) =
        ("inventory.stock.changed", "inventory.stock.low", "inventory.stock.depleted");
    assert_eq!(
        kinds_after(&[StockChange::Set(0), StockChange::Set(9)]),
        [changed],
        "the stock was empty only within the batch"
    );
    assert_eq!(kinds_after(&[StockChange::Adjust(-4), StockChange::Adjust(-4)]), [changed, low]);
    assert_eq!(kinds_after(&[StockChange::Set(9), StockChange::Set(0)]), [changed, depleted]);
}
