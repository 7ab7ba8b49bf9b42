//! Random batches against a model of the store: together they come to the same as one by one.

mod orders;
mod world;

use std::collections::BTreeSet;

use proptest::prelude::*;

use self::world::{
    DraftCommit, STOCK_ANSWER, World, commit, draft_commits, facts, id, order, remember, session,
    stock, user,
};
use super::*;
use crate::domain::{
    account::Email,
    cart::{Cart, Owner},
    inventory::StockChange,
};

/// Applies drafts one by one, and gives the commits they became with their outcomes.
fn one_by_one(world: &mut World, drafts: &[DraftCommit]) -> (Vec<Commit>, Vec<Outcome>) {
    let mut done = (Vec::new(), Vec::new());
    for (number, draft) in drafts.iter().enumerate() {
        let commit = draft.commit(world, number);
        let before = world.clone();
        let outcome = world.apply(std::slice::from_ref(&commit)).remove(0);
        assert_eq!(world.pieces(), before.pieces_after(&commit, &outcome), "{commit:?}");
        done.1.push(outcome);
        done.0.push(commit);
    }
    done
}

/// An outcome without what a batch sums up: the levels of stock, which are those after all of it.
fn plain(outcome: &Outcome) -> Outcome {
    match outcome {
        Ok(done) => Ok(Done {
            stock: done.stock.iter().map(|level| StockLevel::none(level.product_id)).collect(),
        }),
        Err(CommitError::Replayed(answer)) if answer.status == STOCK_ANSWER => {
            Err(CommitError::Replayed(Remembered { body: Bytes::new(), ..answer.clone() }))
        }
        Err(error) => Err(error.clone()),
    }
}

fn check_ledger(world: &World) -> Result<(), TestCaseError> {
    for level in world.stock.values() {
        let of_it: Vec<&Movement> =
            world.movements.iter().filter(|m| m.product_id == level.product_id).collect();
        let sequences: Vec<u64> = of_it.iter().map(|movement| movement.sequence).collect();
        prop_assert_eq!(
            sequences,
            (1..=level.last_movement).collect::<Vec<_>>(),
            "without gaps, in order"
        );
        prop_assert_eq!(of_it.iter().map(|m| m.delta.on_hand).sum::<i64>(), level.on_hand as i64);
        prop_assert_eq!(of_it.iter().map(|m| m.delta.reserved).sum::<i64>(), level.reserved as i64);
        prop_assert!(level.reserved <= level.on_hand);
        let versions = world.events.iter().filter_map(|event| match &event.fact {
            Fact::StockChanged(changed) if changed.product_id == level.product_id => {
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
        world.movements.iter().map(|movement| movement.product_id).collect();
    prop_assert!(moved.iter().all(|id| world.stock.contains_key(id)));
    let living = world.products.values().filter(|product| !product.deleted);
    let skus: Vec<&String> = living.filter_map(|product| product.facts.sku.as_ref()).collect();
    prop_assert_eq!(
        skus.iter().collect::<BTreeSet<_>>().len(),
        skus.len(),
        "a sku has one living product"
    );
    let emails: BTreeSet<&str> = world.users.values().map(|user| user.email.as_str()).collect();
    prop_assert_eq!(emails.len(), world.users.len(), "an address has one account");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_batch_comes_to_the_same_as_its_commits_one_by_one(
        earlier in prop::collection::vec(draft_commits(), 0..20),
        drafts in prop::collection::vec(draft_commits(), 0..20),
    ) {
        let mut before = World::default();
        one_by_one(&mut before, &earlier);
        let (mut single, mut together) = (before.clone(), before.clone());
        let (batch, expected) = one_by_one(&mut single, &drafts);
        let outcomes = together.apply(&batch);
        let plain = |outcomes: &[Outcome]| outcomes.iter().map(plain).collect::<Vec<_>>();
        prop_assert_eq!(plain(&outcomes), plain(&expected));
        prop_assert_eq!(&together.carts, &single.carts);
        prop_assert_eq!(&together.products, &single.products);
        prop_assert_eq!(&together.orders, &single.orders);
        prop_assert_eq!(&together.users, &single.users);
        prop_assert_eq!(&together.sessions, &single.sessions);
        prop_assert_eq!(&together.movements, &single.movements);
        prop_assert_eq!(&together.inbox, &single.inbox);
        prop_assert_eq!(together.pieces(), single.pieces());
        prop_assert_eq!(together.answers(), single.answers());
        prop_assert_eq!(together.told(false), single.told(false));
        for (id, level) in &together.stock {
            let was = before.stock.get(id).copied().unwrap_or(StockLevel::none(*id));
            let moved = u64::from(level.last_movement != was.last_movement);
            prop_assert_eq!(level.version, was.version + moved, "one version for the whole batch");
        }
        check_ledger(&single)?;
        check_ledger(&together)?;
    }

    #[test]
    fn refused_commits_leave_nothing(
        earlier in prop::collection::vec(draft_commits(), 0..20),
        drafts in prop::collection::vec(draft_commits(), 0..20),
    ) {
        let mut before = World::default();
        one_by_one(&mut before, &earlier);
        let (batch, _) = one_by_one(&mut before.clone(), &drafts);
        let (mut all, mut good_only) = (before.clone(), before);
        let outcomes = all.apply(&batch);
        let good: Vec<Commit> = batch.into_iter().zip(&outcomes).filter(|(_, o)| o.is_ok()).map(|(c, _)| c).collect();
        let good_outcomes = good_only.apply(&good);
        prop_assert_eq!(outcomes.into_iter().filter(Result::is_ok).collect::<Vec<_>>(), good_outcomes);
        prop_assert_eq!(&all.carts, &good_only.carts);
        prop_assert_eq!(&all.products, &good_only.products);
        prop_assert_eq!(&all.orders, &good_only.orders);
        prop_assert_eq!(&all.users, &good_only.users);
        prop_assert_eq!(&all.sessions, &good_only.sessions);
        prop_assert_eq!(&all.stock, &good_only.stock);
        prop_assert_eq!(&all.movements, &good_only.movements);
        prop_assert_eq!(&all.keys, &good_only.keys);
        prop_assert_eq!(&all.inbox, &good_only.inbox);
        prop_assert_eq!(all.told(false), good_only.told(false));
        prop_assert_eq!(all.told(true), good_only.told(true));
    }
}

#[test]
fn all_that_a_commit_names_is_loaded() {
    let tea = Product::new(id(1), facts(Some("A")), Timestamp::default());
    let ada = user(2, Email::stored("ada@example.com".into()), 1);
    let cart = Cart::untouched(Owner { id: id(3), guest: true });
    let writes = vec![
        Write::Product(Arc::new(tea)),
        Write::User(Arc::new(ada)),
        Write::Cart(Arc::new(cart)),
        Write::Session(Arc::new(session(4, false, 1))),
        Write::Order(Arc::new(order(7, 8, OrderStatus::Paid, 1))),
        stock(5, StockChange::Set(1), None),
    ];
    let conditions = vec![Condition::Unchanged(id(9), 1), Condition::PendingBelow(id(10), 1)];
    let remember = Some(remember(6, 0, RememberedBody::StockOf(id(5))));
    let named = Commit { conditions, remember, inbox: Some("7".into()), ..commit(writes) };
    let expected = Touched {
        carts: [id(3)].into(),
        products: [id(1), id(9)].into(),
        orders: [id(7)].into(),
        buyers: [id(10)].into(),
        skus: ["A".to_owned()].into(),
        stock: [id(5)].into(),
        users: [id(2)].into(),
        emails: ["ada@example.com".to_owned()].into(),
        sessions: [id(4)].into(),
        keys: [(id(0), "6".into())].into(),
        inbox: ["7".into()].into(),
    };
    assert_eq!(Touched::by(&[named, commit(vec![])]), expected);
}

#[test]
fn a_wanted_stock_version_counts_the_batch_as_one() {
    let mut world = World::default();
    world.apply(&[commit(vec![stock(0, StockChange::Set(10), None)])]);
    let wanting = |version, change| commit(vec![stock(0, change, Some(version))]);
    let take = StockChange::Adjust(-1);
    let outcomes = world.apply(&[
        wanting(2, take),
        wanting(1, StockChange::Set(10)),
        wanting(1, take),
        wanting(2, take),
        wanting(1, take),
    ]);
    let versions: Vec<Option<u64>> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Err(CommitError::StockVersion(version)) => Some(*version),
            _ => None,
        })
        .collect();
    // The second changes nothing; the third moves it to version 2, and there it stays for the rest of the batch.
    assert_eq!(versions, [Some(1), None, None, None, Some(2)]);
}

#[test]
fn warnings_are_for_the_batch_as_a_whole() {
    let mut world = World::default();
    world.apply(&[commit(vec![stock(0, StockChange::Set(10), None)])]);
    let mut kinds_after = |changes: &[StockChange]| {
        let before = world.events.len();
        let batch: Vec<Commit> =
            changes.iter().map(|change| commit(vec![stock(0, *change, None)])).collect();
        assert!(world.apply(&batch).iter().all(Result::is_ok));
        world.events[before..].iter().map(|event| event.fact.kind()).collect::<Vec<_>>()
    };
    let (changed, low, depleted) =
        ("inventory.stock.changed", "inventory.stock.low", "inventory.stock.depleted");
    assert_eq!(
        kinds_after(&[StockChange::Set(0), StockChange::Set(9)]),
        [changed],
        "it was empty for nobody"
    );
    assert_eq!(kinds_after(&[StockChange::Adjust(-4), StockChange::Adjust(-4)]), [changed, low]);
    assert_eq!(kinds_after(&[StockChange::Set(9), StockChange::Set(0)]), [changed, depleted]);
}
