//! A SKU belongs to one active product, an email address to one account.

use souk::{
    domain::{catalog::product::Product, inventory::StockChange},
    store::{CommitError, Store},
};

use crate::{
    fixtures::{
        apply, apply_one, commit, now, product, product_commit, put_product, put_user, stock,
        stock_level, user,
    },
    harness::Harness,
};

async fn create_with_sku(store: &dyn Store, sku: &str) -> Product {
    let product = product(Some(sku));
    apply_one(store, product_commit(&product)).await.unwrap();
    product
}

fn with_sku(product: &Product, sku: Option<&str>) -> Product {
    let mut next = Product { version: product.version + 1, ..product.clone() };
    next.details.sku = sku.map(Into::into);
    next
}

pub(crate) async fn sku_belongs_to_one_product(harness: &dyn Harness) {
    let store = harness.open().await;
    let tea = create_with_sku(&*store, "TEA").await;
    assert_eq!(
        apply_one(&*store, product_commit(&product(Some("TEA")))).await,
        Err(CommitError::SkuTaken)
    );
    let cup = create_with_sku(&*store, "CUP").await;
    assert_eq!(
        apply_one(&*store, product_commit(&with_sku(&cup, Some("TEA")))).await,
        Err(CommitError::SkuTaken)
    );
    let mut renamed = with_sku(&tea, Some("TEA"));
    renamed.details.name = "Tea".into();
    assert!(
        apply_one(&*store, product_commit(&renamed)).await.is_ok(),
        "a product may keep its own SKU"
    );
    assert!(apply_one(&*store, product_commit(&product(Some("tea")))).await.is_ok(), "case counts");
}

pub(crate) async fn active_products_are_found_by_sku(harness: &dyn Harness) {
    let store = harness.open().await;
    let tea = create_with_sku(&*store, "品番 12").await;
    let cup = create_with_sku(&*store, "CUP").await;
    let gone = create_with_sku(&*store, "GONE").await;
    apply_one(&*store, commit([stock(cup.id, StockChange::Set(3))])).await.unwrap();
    apply_one(&*store, product_commit(&gone.to_deleted(now()))).await.unwrap();
    apply_one(&*store, product_commit(&product(None))).await.unwrap();
    let skus = ["CUP", "GONE", "品番 12", "cup", "", "none"].map(str::to_owned);
    let mut found = store.find_products_by_sku(skus.to_vec()).await.unwrap();
    found.sort_by_key(|(product, _)| product.id);
    let found: Vec<_> =
        found.into_iter().map(|(product, level)| (product, level.on_hand)).collect();
    assert_eq!(found, [(tea, 0), (cup, 3)]);
    assert_eq!(store.find_products_by_sku(Vec::new()).await, Ok(Vec::new()));
}

pub(crate) async fn products_without_a_sku_do_not_conflict(harness: &dyn Harness) {
    let store = harness.open().await;
    let outcomes = apply(&*store, [product_commit(&product(None)), product_commit(&product(None))])
        .await
        .outcomes;
    assert!(outcomes.iter().all(Result::is_ok));
}

pub(crate) async fn deleted_product_frees_its_sku_but_still_shows_it(harness: &dyn Harness) {
    let store = harness.open().await;
    let tea = create_with_sku(&*store, "TEA").await;
    let deleted = tea.to_deleted(now());
    apply_one(&*store, product_commit(&deleted)).await.unwrap();
    let successor = create_with_sku(&*store, "TEA").await;
    assert_eq!(store.find_product(tea.id).await.unwrap().unwrap().0, deleted);
    apply_one(&*store, product_commit(&successor.to_deleted(now()))).await.unwrap();
    let batch = [product_commit(&product(Some("TEA"))), product_commit(&product(Some("TEA")))];
    let outcomes = apply(&*store, batch).await.outcomes;
    assert!(outcomes[0].is_ok(), "deleted products release the SKU");
    assert_eq!(outcomes[1], Err(CommitError::SkuTaken), "one active product has the SKU");
}

pub(crate) async fn sku_can_move_within_a_batch(harness: &dyn Harness) {
    let store = harness.open().await;
    let (mut older, mut newer) =
        (create_with_sku(&*store, "A").await, create_with_sku(&*store, "B").await);
    // In one of these two rounds, an engine writes the new owner of a SKU before the old one.
    for (round, (older_sku, newer_sku)) in (1..).zip([(Some("B"), None), (None, Some("B"))]) {
        (older, newer) = (with_sku(&older, older_sku), with_sku(&newer, newer_sku));
        let taker_last = if newer_sku.is_none() { [&newer, &older] } else { [&older, &newer] };
        let batch = taker_last.map(|product| {
            let mut commit = product_commit(product);
            commit.writes.push(stock(older.id, StockChange::Adjust(1)));
            commit
        });
        let outcomes = apply(&*store, batch).await.outcomes;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert_eq!(
            stock_level(&*store, older.id).await.version,
            round,
            "the batch is one transaction"
        );
        for product in [&older, &newer] {
            assert_eq!(&store.find_product(product.id).await.unwrap().unwrap().0, product);
        }
    }
}

pub(crate) async fn sku_is_freed_by_a_delete_in_the_same_batch(harness: &dyn Harness) {
    let store = harness.open().await;
    let tea = create_with_sku(&*store, "TEA").await;
    let successor = product(Some("TEA"));
    let outcomes = apply(
        &*store,
        [
            product_commit(&successor),
            product_commit(&tea.to_deleted(now())),
            product_commit(&successor),
        ],
    )
    .await
    .outcomes;
    assert_eq!(outcomes[0], Err(CommitError::SkuTaken), "the SKU is not free yet");
    assert!(outcomes[1].is_ok() && outcomes[2].is_ok());
    assert_eq!(store.find_product(successor.id).await.unwrap().unwrap().0, successor);
    assert_eq!(
        store.find_product(tea.id).await.unwrap().unwrap().0.details.sku.as_deref(),
        Some("TEA")
    );
}

pub(crate) async fn email_belongs_to_one_account(harness: &dyn Harness) {
    let store = harness.open().await;
    let (ada, other) = (user("ada@example.com"), user("Ada@Example.com"));
    apply_one(&*store, commit([put_user(&ada)])).await.unwrap();
    assert_eq!(apply_one(&*store, commit([put_user(&other)])).await, Err(CommitError::EmailTaken));
    assert_eq!(store.find_user(other.id).await, Ok(None));
    let (bob, rival) = (user("bob@example.com"), user("bob@example.com"));
    let outcomes =
        apply(&*store, [commit([put_user(&bob)]), commit([put_user(&rival)])]).await.outcomes;
    assert!(outcomes[0].is_ok());
    assert_eq!(outcomes[1], Err(CommitError::EmailTaken));
    assert_eq!(store.find_user_by_email(&bob.email).await, Ok(Some(bob)));
}

pub(crate) async fn stale_version_is_reported_before_a_taken_sku(harness: &dyn Harness) {
    let store = harness.open().await;
    let tea = create_with_sku(&*store, "TEA").await;
    let cup = create_with_sku(&*store, "CUP").await;
    let stale = Product { version: 1, ..with_sku(&cup, Some("TEA")) };
    assert_eq!(apply_one(&*store, commit([put_product(&stale)])).await, Err(CommitError::Conflict));
    assert_eq!(store.find_product(tea.id).await.unwrap().unwrap().0, tea);
}
