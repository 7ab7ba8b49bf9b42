//! A commit is applied completely or not at all, and does not affect others.

use std::sync::Arc;

use souk::{
    domain::{account::Session, inventory::StockChange, order::Order},
    events::DomainEvent,
    store::{Commit, CommitError, StockWrite, Store, Write},
};

use crate::{
    fixtures::{
        advance_over, apply, apply_one, cart, cart_commit, commit, customer, events, events_after,
        key, now, order, product, product_commit, put_cart, put_order, put_product, put_session,
        put_user, session, stock, stock_level, stocked_product, user, with_response,
    },
    harness::Harness,
};

/// A valid commit with one write of each kind, and a way to detect whether any part was applied.
struct SampleCommit {
    writes: Vec<Write>,
    cart: souk::domain::cart::Cart,
    product: souk::domain::catalog::product::Product,
    order: souk::domain::order::Order,
    user: souk::domain::account::User,
    session: Session,
    key: souk::messages::command_context::IdempotencyKey,
}

impl SampleCommit {
    fn new() -> Self {
        let (cart, product) = (cart(customer(), 1), product(Some("GOOD")));
        let user = user("good@example.com");
        let (session, order) = (session(user.id), order(user.id));
        let writes = vec![
            put_cart(&cart),
            put_product(&product),
            stock(product.id, StockChange::Set(10)),
            put_order(&order),
            put_user(&user),
            put_session(&session),
        ];
        let key = key(user.id, "key", 1);
        Self { writes, cart, product, order, user, session, key }
    }

    /// The valid writes around a bad one, with events and a response to remember.
    fn with_bad_writes(&self, bad: Vec<Write>) -> Commit {
        let mut writes = self.writes.clone();
        let rest = writes.split_off(2);
        let facts = vec![
            DomainEvent::UserRegistered(Arc::new(self.user.clone())),
            DomainEvent::Product(Arc::new(self.product.clone())),
        ];
        let commit = Commit { events: facts, ..commit([writes, bad, rest].concat()) };
        with_response(commit, &self.key, "done")
    }

    async fn traces(&self, store: &dyn Store) -> Vec<&'static str> {
        let traces = [
            ("cart", store.find_cart(self.cart.owner.id).await.unwrap().is_some()),
            ("product", store.find_product(self.product.id).await.unwrap().is_some()),
            (
                "movements",
                !store.list_movements(self.product.id, None, 10).await.unwrap().is_empty(),
            ),
            ("order", store.find_order(self.order.id).await.unwrap().is_some()),
            ("user", store.find_user(self.user.id).await.unwrap().is_some()),
            ("address", store.find_user_by_email(&self.user.email).await.unwrap().is_some()),
            ("session", store.find_session(self.session.id).await.unwrap().is_some()),
            ("key", store.find_stored_reply(&self.key).await.unwrap().is_some()),
        ];
        traces.into_iter().filter_map(|(kind, found)| found.then_some(kind)).collect()
    }
}

/// Bad writes, one list for each reason to refuse a commit.
async fn bad_writes(store: &dyn Store) -> Vec<(Vec<Write>, CommitError)> {
    let (taken, ada) = (product(Some("TAKEN")), user("ada@example.com"));
    let here = [put_product(&taken), stock(taken.id, StockChange::Set(3)), put_user(&ada)];
    apply_one(store, commit(here)).await.unwrap();
    let shortage =
        souk::domain::cart::Shortage { product_id: taken.id, requested: 4, available: 3 };
    let stale = StockWrite {
        product_id: taken.id,
        change: StockChange::Adjust(1),
        expected_version: Some(9),
        order_id: None,
        reference: None,
        reason: None,
    };
    vec![
        (vec![put_cart(&cart(customer(), 2))], CommitError::Conflict),
        (vec![put_product(&taken)], CommitError::Conflict),
        (vec![put_order(&Order { version: 2, ..order(ada.id) })], CommitError::Conflict),
        (vec![put_user(&ada)], CommitError::Conflict),
        (vec![put_session(&Session { version: 3, ..session(ada.id) })], CommitError::Conflict),
        (vec![put_product(&product(Some("TAKEN")))], CommitError::SkuTaken),
        (vec![put_user(&user("ada@example.com"))], CommitError::EmailTaken),
        (
            vec![stock(taken.id, StockChange::Reserve(4))],
            CommitError::InsufficientStock(vec![shortage]),
        ),
        (vec![stock(taken.id, StockChange::Set(u64::MAX))], CommitError::StockOverflow),
        (vec![Write::Stock(stale)], CommitError::StockVersionMismatch(1)),
    ]
}

pub(crate) async fn refused_commit_leaves_no_trace(harness: &dyn Harness) {
    let store = harness.open().await;
    let bad = bad_writes(&*store).await;
    let before = events(&*store).await;
    let good = SampleCommit::new();
    for (bad, error) in bad {
        assert_eq!(apply_one(&*store, good.with_bad_writes(bad)).await, Err(error.clone()));
        assert_eq!(good.traces(&*store).await, [""; 0], "after {error:?}");
        assert_eq!(events(&*store).await, before, "after {error:?}");
    }
    apply_one(&*store, good.with_bad_writes(vec![])).await.unwrap();
    assert_eq!(good.traces(&*store).await.len(), 8, "the valid writes alone succeed");
}

pub(crate) async fn refused_commits_do_not_affect_others(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = stocked_product(&*store, 1000).await;
    let bad = bad_writes(&*store).await;
    let good: Vec<_> = bad.iter().map(|_| cart(customer(), 1)).collect();
    let batch = good.iter().zip(&bad).flat_map(|(cart, (bad, _))| {
        let mut good = cart_commit(cart);
        good.writes.push(stock(id, StockChange::Reserve(1)));
        let mut bad = commit(bad.clone());
        bad.writes.insert(0, stock(id, StockChange::Reserve(100)));
        [good, bad]
    });
    let outcomes = apply(&*store, batch).await.outcomes;
    for ((cart, (_, error)), outcomes) in good.iter().zip(&bad).zip(outcomes.chunks(2)) {
        assert!(outcomes[0].is_ok());
        assert_eq!(outcomes[1], Err(error.clone()));
        assert_eq!(store.find_cart(cart.owner.id).await.unwrap().as_ref(), Some(cart));
    }
    assert_eq!(stock_level(&*store, id).await.reserved, good.len() as u64);
}

/// A commit that passes all checks but that no engine can store: it assigns one SKU to two
/// products.
pub(crate) async fn unstorable_commit_does_not_affect_others(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = stocked_product(&*store, 10).await;
    let mut cursor = store.outbox_heads().await.unwrap();
    let impossible = || Commit {
        events: product_commit(&product(Some("TWIN"))).events,
        ..commit([put_product(&product(Some("TWIN"))), put_product(&product(Some("TWIN")))])
    };
    assert!(
        store
            .apply(vec![impossible()].into())
            .await
            .map_or(true, |applied| applied.outcomes[0].is_err())
    );
    let owner = customer();
    let (first, second) = (cart(owner, 1), cart(owner, 2));
    let take = || commit([stock(id, StockChange::Reserve(1))]);
    let applied =
        apply(&*store, [cart_commit(&first), take(), impossible(), cart_commit(&second), take()])
            .await;
    let done: Vec<bool> = applied.outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(done, [true, true, false, true, true]);
    assert_eq!(store.find_cart(owner.id).await, Ok(Some(second)));
    assert_eq!(stock_level(&*store, id).await.reserved, 2);
    let events = events_after(&*store, &cursor).await;
    assert_eq!(applied.changes.events, events, "the reported events are the committed ones");
    advance_over(&mut cursor, &events);
    assert_eq!(store.outbox_heads().await, Ok(cursor), "positions have no gaps");
    assert!(events.iter().all(|event| !event.kind.starts_with("catalog")));
    assert_eq!(store.list_products(None, 10).await.unwrap().len(), 1);
}

pub(crate) async fn batch_may_be_empty_or_all_refused(harness: &dyn Harness) {
    let store = harness.open().await;
    assert!(apply(&*store, []).await.outcomes.is_empty());
    let applied = apply(&*store, [commit([put_cart(&cart(customer(), 7))])]).await;
    assert_eq!(applied.outcomes, [Err(CommitError::Conflict)]);
    assert!(applied.changes.carts.is_empty() && applied.changes.events.is_empty());
}

pub(crate) async fn committed_changes_match_the_batch(harness: &dyn Harness) {
    let store = harness.open().await;
    let (cart, tea, ada) = (cart(customer(), 1), product(None), user("ada@example.com"));
    let live = session(ada.id);
    let ended = session(ada.id).to_revoked(now());
    let ended = Session { version: 1, ..ended };
    let batch = [
        cart_commit(&cart),
        product_commit(&tea),
        commit([stock(tea.id, StockChange::Set(9))]),
        commit([put_user(&ada), put_session(&live), put_session(&ended)]),
    ];
    let changes = apply(&*store, batch).await.changes;
    assert_eq!(changes.carts, [(cart.owner.id, 1)]);
    assert_eq!(changes.products.iter().map(|product| &**product).collect::<Vec<_>>(), [&tea]);
    assert_eq!(changes.stock, [stock_level(&*store, tea.id).await]);
    assert_eq!(changes.revoked_sessions, [(ended.id, ended.revoked_at.unwrap())]);
    assert_eq!(changes.events, events(&*store).await);
}
