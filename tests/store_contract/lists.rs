//! Lists: content, filters and order.

use std::time::Duration;

use souk::{
    domain::{
        account::{Role, Session, User},
        cart::{Cart, CartOwner},
        clock::Timestamp,
        ids::{SessionId, UserId},
        inventory::StockChange,
    },
    store::Write,
};

use crate::{
    fixtures::{
        apply, apply_one, cart, commit, customer, product, put_cart, put_product, put_session,
        put_user, session, stock, user,
    },
    harness::Harness,
};

const fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(crate) async fn idle_carts_are_found(harness: &dyn Harness) {
    let store = harness.open().await;
    let guest = || CartOwner { id: UserId::new(), is_guest: true };
    let touched = |owner, millis| Cart { updated_at: at(millis), ..cart(owner, 1) };
    let (old, older, new) =
        (touched(customer(), 999), touched(guest(), 998), touched(customer(), 1000));
    let empty = Cart { lines: vec![], ..touched(customer(), 1) };
    let abandoned = Cart { abandoned: true, ..touched(customer(), 1) };
    let merged = Cart { merged_into: Some(UserId::new()), ..touched(guest(), 1) };
    apply(
        &*store,
        [&old, &older, &new, &empty, &abandoned, &merged].map(|cart| commit([put_cart(cart)])),
    )
    .await;
    let mut found = store.list_idle_carts(at(1000), 10).await.unwrap();
    found.sort_by_key(|owner| owner.id);
    let mut expected = [old.owner, older.owner];
    expected.sort_by_key(|owner| owner.id);
    assert_eq!(found, expected);
    assert_eq!(store.list_idle_carts(at(1000), 1).await.unwrap().len(), 1);
    assert_eq!(store.list_idle_carts(at(998), 10).await, Ok(vec![]));
    let gone = Cart { version: 2, abandoned: true, ..old.clone() };
    let back = Cart { version: 2, updated_at: at(2000), ..older };
    apply(&*store, [&gone, &back].map(|cart| commit([put_cart(cart)]))).await;
    assert_eq!(store.list_idle_carts(at(1000), 10).await, Ok(vec![]));
    assert_eq!(store.list_idle_carts(at(1001), 10).await, Ok(vec![new.owner]));
    let again = Cart { version: 3, abandoned: false, updated_at: at(500), ..old };
    apply_one(&*store, commit([put_cart(&again)])).await.unwrap();
    assert_eq!(store.list_idle_carts(at(501), 10).await, Ok(vec![again.owner]));
}

pub(crate) async fn live_sessions_exclude_revoked_and_expired(harness: &dyn Harness) {
    let store = harness.open().await;
    let (ada, bob) = (UserId::new(), UserId::new());
    let until = |user, millis| Session { expires_at: at(millis), ..session(user) };
    let (live, over, other) = (until(ada, 1001), until(ada, 1000), until(bob, 5000));
    let revoked = Session { revoked_at: Some(at(1)), ..until(ada, 5000) };
    apply(&*store, [&live, &over, &other, &revoked].map(|session| commit([put_session(session)])))
        .await;
    assert_eq!(store.list_active_sessions(ada, at(1000), 10).await, Ok(vec![live.clone()]));
    assert_eq!(store.list_active_sessions(ada, at(999), 10).await.unwrap().len(), 2);
    let rotated = live.rotate_refresh_token([9; 32], at(1000));
    apply_one(&*store, commit([put_session(&rotated)])).await.unwrap();
    assert_eq!(store.list_active_sessions(ada, at(1000), 10).await, Ok(vec![rotated.clone()]));
    apply_one(&*store, commit([put_session(&rotated.to_revoked(at(1000)))])).await.unwrap();
    assert_eq!(store.list_active_sessions(ada, at(1000), 10).await, Ok(vec![]));
    assert_eq!(store.list_active_sessions(bob, at(1000), 10).await, Ok(vec![other]));
}

pub(crate) async fn stale_sessions_are_those_not_refreshed_for_longest(harness: &dyn Harness) {
    let store = harness.open().await;
    let ada = UserId::new();
    let until = |user, millis| Session { expires_at: at(millis), ..session(user) };
    // The order of their refreshes is not that of their ids.
    let [third, first, fourth, second] = [3000, 5000, 2000, 4000].map(|at| until(ada, at));
    let (over, other) = (until(ada, 1000), until(UserId::new(), 1500));
    let revoked = Session { revoked_at: Some(at(1)), ..until(ada, 9000) };
    let all = [&third, &first, &fourth, &second, &over, &other, &revoked];
    apply(&*store, all.map(|session| commit([put_session(session)]))).await;
    let stale = async |kept, limit| {
        let sessions = store.list_stale_sessions(ada, at(1000), kept, limit).await.unwrap();
        sessions.into_iter().map(|session| session.id).collect::<Vec<_>>()
    };
    assert_eq!(stale(0, 10).await, [first.id, second.id, third.id, fourth.id]);
    assert_eq!(stale(2, 10).await, [third.id, fourth.id]);
    assert_eq!(stale(1, 2).await, [second.id, third.id]);
    assert!(stale(4, 10).await.is_empty());
    assert_eq!(store.list_active_sessions(ada, at(1000), 3).await.unwrap().len(), 3);
}

pub(crate) async fn revoked_sessions_are_found_by_time(harness: &dyn Harness) {
    let store = harness.open().await;
    let revoked = |millis| Session { revoked_at: Some(at(millis)), ..session(UserId::new()) };
    let sessions = [revoked(999), revoked(1000), revoked(1001), session(UserId::new())];
    apply(&*store, sessions.each_ref().map(|session| commit([put_session(session)]))).await;
    let mut found = store.list_sessions_revoked_since(at(1000)).await.unwrap();
    found.sort();
    let mut expected: Vec<SessionId> = sessions[1..3].iter().map(|session| session.id).collect();
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(store.list_sessions_revoked_since(at(0)).await.unwrap().len(), 3);
    assert_eq!(store.list_sessions_revoked_since(at(1002)).await, Ok(vec![]));
}

pub(crate) async fn has_admin_reports_admins(harness: &dyn Harness) {
    let store = harness.open().await;
    let ada = user("ada@example.com");
    apply_one(&*store, commit([put_user(&ada)])).await.unwrap();
    assert_eq!(store.has_admin().await, Ok(false));
    apply_one(&*store, commit([put_user(&User { version: 2, role: Role::Admin, ..ada.clone() })]))
        .await
        .unwrap();
    assert_eq!(store.has_admin().await, Ok(true));
    apply_one(&*store, commit([put_user(&User { version: 3, role: Role::Customer, ..ada })]))
        .await
        .unwrap();
    assert_eq!(store.has_admin().await, Ok(false));
}

pub(crate) async fn products_are_paged_with_their_stock(harness: &dyn Harness) {
    let store = harness.open().await;
    let mut all: Vec<_> = (0..25).map(|_| product(None)).collect();
    let write = |(n, product): (usize, &souk::domain::catalog::product::Product)| -> Vec<Write> {
        vec![put_product(product), stock(product.id, StockChange::Set(n as u64))]
    };
    apply(&*store, all.iter().enumerate().map(write).map(commit)).await;
    let deleted = all.remove(3).to_deleted(at(1));
    apply_one(&*store, commit([put_product(&deleted)])).await.unwrap();
    let (mut read, mut after) = (Vec::new(), None);
    loop {
        let page = store.list_products(after, 10).await.unwrap();
        assert!(page.len() <= 10);
        let Some((last, _)) = page.last() else { break };
        after = Some(last.id);
        read.extend(page);
    }
    all.sort_by_key(|product| product.id);
    assert_eq!(
        read.iter().map(|(product, _)| product).collect::<Vec<_>>(),
        all.iter().collect::<Vec<_>>()
    );
    assert_eq!(
        read.iter().map(|(_, stock_level)| stock_level.on_hand).sum::<u64>(),
        (0..25).sum::<u64>() - 3
    );
    assert!(read.iter().all(|(product, stock_level)| stock_level.product_id == product.id));
    let (gone, stock_level) = store.find_product(deleted.id).await.unwrap().unwrap();
    assert_eq!((gone, stock_level.on_hand), (deleted, 3), "a deleted product is found by id");
}

pub(crate) async fn timestamps_keep_milliseconds(harness: &dyn Harness) {
    let store = harness.open().await;
    let start = at(1_767_225_600_123);
    let exact = Cart { updated_at: start, ..cart(customer(), 1) };
    apply_one(&*store, commit([put_cart(&exact)])).await.unwrap();
    assert_eq!(store.list_idle_carts(start, 1).await, Ok(vec![]));
    let later = start.saturating_add(Duration::from_millis(1));
    assert_eq!(store.list_idle_carts(later, 1).await, Ok(vec![exact.owner]));
}
