//! API keys, and the actions of those who change something with more than a customer's rights.

use std::sync::Arc;

use souk::{
    domain::{
        account::{ApiKey, ApiKeyRequest, Role, ScopeSet, User},
        action::{Action, ActionFilter, ActionOrigin, Actor},
        clock::Timestamp,
        ids::{ApiKeyId, UserId},
        inventory::StockChange,
    },
    events::{DomainEvent, parse::CacheChange},
    store::{Commit, CommitError, Condition, Store, Write},
};

use crate::{
    fixtures::{
        apply, apply_one, commit, key, now, order, product, put_order, put_product, put_user,
        stock, stocked_product, user, with_response,
    },
    harness::Harness,
};

fn api_key(secret: &str, maker: UserId) -> ApiKey {
    let scopes = ScopeSet::parse(&["stock", "orders:read"]).unwrap();
    let expires_at = Some(Timestamp::from_millis(1_999_999_999_123));
    let request = ApiKeyRequest { name: "Wärehouse ✓".into(), scopes, expires_at };
    ApiKey::new(secret, request, maker, now())
}

fn put_key(key: &ApiKey) -> Commit {
    let key = Arc::new(key.clone());
    Commit { events: vec![DomainEvent::ApiKey(Arc::clone(&key))], ..commit([Write::ApiKey(key)]) }
}

async fn listed(store: &dyn Store) -> Vec<ApiKeyId> {
    store.list_api_keys(None, 100).await.unwrap().iter().map(|key| key.id).collect()
}

pub(crate) async fn api_keys_round_trip_and_deleted_ones_stay(harness: &dyn Harness) {
    let store = harness.open().await;
    let maker = UserId::new();
    let keys = ["souk_1", "souk_2", "souk_3"].map(|secret| api_key(secret, maker));
    let endless = ApiKey { expires_at: None, ..keys[1].clone() };
    let keys = [&keys[0], &endless, &keys[2]];
    apply(&*store, keys.map(put_key)).await;
    assert_eq!(apply_one(&*store, put_key(keys[0])).await, Err(CommitError::Conflict));
    let deleted = keys[2].to_deleted(now());
    apply_one(&*store, put_key(&deleted)).await.unwrap();
    store.close().await;
    let store = harness.open().await;
    for key in [keys[0], keys[1], &deleted] {
        assert_eq!(store.find_api_key(key.id).await, Ok(Some(key.clone())));
    }
    assert_eq!(store.find_api_key(ApiKeyId::new()).await, Ok(None));
    assert_eq!(listed(&*store).await, [keys[1].id, keys[0].id], "newest first");
    let page = store.list_api_keys(None, 1).await.unwrap();
    assert_eq!(store.list_api_keys(Some(page[0].id), 1).await, Ok(vec![keys[0].clone()]));
}

pub(crate) async fn use_of_api_keys_is_recorded(harness: &dyn Harness) {
    let store = harness.open().await;
    let [used, other] = ["souk_1", "souk_2"].map(|secret| api_key(secret, UserId::new()));
    apply(&*store, [&used, &other].map(put_key)).await;
    let at = Timestamp::from_millis;
    let uses = vec![(used.id, at(5_000)), (ApiKeyId::new(), at(9_000))];
    store.record_api_key_uses(uses).await.unwrap();
    store.record_api_key_uses(vec![(used.id, at(4_000))]).await.unwrap();
    let last_use = async |id| store.find_api_key(id).await.unwrap().unwrap().last_used_at;
    assert_eq!(last_use(used.id).await, Some(at(5_000)));
    assert_eq!(last_use(other.id).await, None);
    // A change of the key keeps it.
    let key = store.find_api_key(used.id).await.unwrap().unwrap();
    apply_one(&*store, put_key(&key.to_deleted(now()))).await.unwrap();
    assert_eq!(last_use(used.id).await, Some(at(5_000)));
}

pub(crate) async fn api_keys_of_one_maker_are_limited(harness: &dyn Harness) {
    let store = harness.open().await;
    let (ada, bob) = (UserId::new(), UserId::new());
    let limited = |secret: &str, maker| {
        let key = api_key(secret, maker);
        let conditions = vec![Condition::ApiKeysBelow(maker, 2)];
        (key.clone(), Commit { conditions, ..put_key(&key) })
    };
    let (first, commit) = limited("souk_1", ada);
    apply_one(&*store, commit).await.unwrap();
    // Of two in one batch, the first one counts.
    let batch = [limited("souk_2", ada).1, limited("souk_3", ada).1, limited("souk_4", bob).1];
    let outcomes = apply(&*store, batch).await.outcomes;
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    assert_eq!(outcomes[1], Err(CommitError::TooManyApiKeys));
    apply_one(&*store, put_key(&first.to_deleted(now()))).await.unwrap();
    apply_one(&*store, limited("souk_5", ada).1).await.unwrap();
    let outcome = apply_one(&*store, limited("souk_6", ada).1).await;
    assert_eq!(outcome, Err(CommitError::TooManyApiKeys));
}

pub(crate) async fn changes_of_api_keys_are_told_to_caches(harness: &dyn Harness) {
    let store = harness.open().await;
    let before = store.outbox_heads().await.unwrap();
    let key = api_key("souk_1", UserId::new());
    let deleted = key.to_deleted(now());
    assert_eq!(apply(&*store, [put_key(&key)]).await.changes.api_keys, [Arc::new(key.clone())]);
    let applied = apply(&*store, [put_key(&deleted)]).await;
    assert_eq!(applied.changes.api_keys, [Arc::new(deleted)]);
    let told = store.list_changes_after(&before, 100).await.unwrap().changes;
    let of_key =
        |change: &&CacheChange| matches!(change, CacheChange::ApiKey { id } if *id == key.id);
    assert_eq!(told.iter().filter(of_key).count(), 2, "{told:?}");
}

fn by(actor: Actor, operation: &'static str, commit: Commit) -> Commit {
    let request_id = Some("r-1".into());
    Commit {
        action: Some(Arc::new(ActionOrigin { actor, operation: operation.into(), request_id })),
        ..commit
    }
}

async fn actions(store: &dyn Store, filter: ActionFilter) -> Vec<Action> {
    store.list_actions(filter, None, 100).await.unwrap()
}

async fn all_actions(store: &dyn Store) -> Vec<Action> {
    actions(store, ActionFilter::default()).await
}

/// What of actions does not depend on time, oldest first.
async fn summary(store: &dyn Store) -> Vec<(String, uuid::Uuid, Option<u64>, u64)> {
    let actions = all_actions(store).await.into_iter().rev();
    let short = |a: Action| (a.operation, a.subject, a.version_before, a.version_after);
    actions.map(short).collect()
}

pub(crate) async fn actions_are_written_with_what_they_changed(harness: &dyn Harness) {
    let store = harness.open().await;
    let admin = Actor::User(UserId::new());
    let key_id = Actor::ApiKey(ApiKeyId::new());
    let tea = product(Some("TEA"));
    let id = tea.id.as_uuid();
    let created = commit([put_product(&tea), stock(tea.id, StockChange::Set(5))]);
    apply_one(&*store, by(admin, "create_product", created)).await.unwrap();
    // A batch makes one version of the stock.
    let adjust = |by_units| commit([stock(tea.id, StockChange::Adjust(by_units))]);
    let batch = [by(key_id, "change_stock", adjust(2)), by(Actor::Cli, "import", adjust(-3))];
    assert!(apply(&*store, batch).await.outcomes.iter().all(Result::is_ok));
    let paid = order(UserId::new());
    let bob = user("bob@x.example");
    apply_one(&*store, commit([put_order(&paid)])).await.unwrap();
    let paid = souk::domain::order::Order { version: 2, actor: Some(admin), ..paid };
    let batch = [
        by(admin, "pay_order", commit([put_order(&paid)])),
        by(Actor::Cli, "register_account", commit([put_user(&bob)])),
    ];
    assert!(apply(&*store, batch).await.outcomes.iter().all(Result::is_ok));
    store.close().await;
    let store = harness.open().await;
    let expected = [
        ("create_product", id, None, 1),
        ("change_stock", id, Some(1), 2),
        ("import", id, Some(1), 2),
        ("pay_order", paid.id.as_uuid(), Some(1), 2),
        ("register_account", bob.id.as_uuid(), None, 1),
    ];
    let mut found = summary(&*store).await;
    let mut expected: Vec<_> =
        expected.map(|(name, id, before, after)| (name.to_owned(), id, before, after)).into();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    let newest = &all_actions(&*store).await;
    assert!(newest.iter().all(|action| action.request_id.as_deref() == Some("r-1")));
    let movements = store.list_movements(tea.id, None, 10).await.unwrap();
    let actors: Vec<_> = movements.iter().map(|movement| movement.actor).collect();
    assert_eq!(actors, [Some(Actor::Cli), Some(key_id), Some(admin)]);
    assert_eq!(store.find_order(paid.id).await.unwrap().unwrap().actor, Some(admin));
}

pub(crate) async fn what_changes_nothing_is_no_action(harness: &dyn Harness) {
    let store = harness.open().await;
    let admin = Actor::User(UserId::new());
    let tea = stocked_product(&*store, 5).await;
    let set = |units| by(admin, "change_stock", commit([stock(tea, StockChange::Set(units))]));
    let request = key(UserId::new(), "k", 1);
    // The same stock, without and with a response to remember; too little stock; a stale version.
    apply_one(&*store, set(5)).await.unwrap();
    apply_one(&*store, with_response(set(5), &request, "{}")).await.unwrap();
    let taken = by(admin, "change_stock", commit([stock(tea, StockChange::Adjust(-6))]));
    assert!(apply_one(&*store, taken).await.is_err());
    let stale = User { version: 7, role: Role::Staff, ..user("ada@x.example") };
    let stale = by(admin, "patch_user", commit([put_user(&stale)]));
    assert_eq!(apply_one(&*store, stale).await, Err(CommitError::Conflict));
    // A repeat of a change.
    let again = key(UserId::new(), "k", 2);
    let change = || with_response(set(9), &again, "{}");
    apply_one(&*store, change()).await.unwrap();
    assert!(matches!(apply_one(&*store, change()).await, Err(CommitError::Replayed(_))));
    // What customers change.
    apply_one(&*store, commit([stock(tea, StockChange::Reserve(1))])).await.unwrap();
    assert_eq!(summary(&*store).await, [("change_stock".to_owned(), tea.as_uuid(), Some(1), 2)]);
    let newest = &store.list_movements(tea, None, 10).await.unwrap()[0];
    assert_eq!(newest.actor, None);
}

pub(crate) async fn actions_are_filtered_and_paged_newest_first(harness: &dyn Harness) {
    let store = harness.open().await;
    let (ada, bob) = (UserId::new(), UserId::new());
    let (tea, cup) = (stocked_product(&*store, 1).await, stocked_product(&*store, 1).await);
    let at = Timestamp::from_millis;
    // Two of them share a time.
    for (time, actor, subject) in [
        (1_000, Actor::User(ada), tea),
        (2_000, Actor::User(bob), tea),
        (2_000, Actor::User(ada), cup),
        (3_000, Actor::Cli, tea),
        (4_000, Actor::User(ada), tea),
    ] {
        let change = commit([stock(subject, StockChange::Adjust(1))]);
        let change = by(actor, "change_stock", Commit { decided_at: at(time), ..change });
        apply_one(&*store, change).await.unwrap();
    }
    let times =
        |actions: &[Action]| actions.iter().map(|action| action.at.as_millis()).collect::<Vec<_>>();
    let all = all_actions(&*store).await;
    assert_eq!(times(&all), [4_000, 3_000, 2_000, 2_000, 1_000]);
    for limit in 1..=5 {
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let filter = ActionFilter::default();
            let page = store.list_actions(filter, after, limit).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some((last.at, last.id));
            paged.extend(page);
        }
        assert_eq!(paged, all, "{limit} at a time");
    }
    let none = ActionFilter::default();
    let (of_ada, on_tea) = (Some(ada.as_uuid()), Some(tea.as_uuid()));
    for (filter, expected) in [
        (ActionFilter { actor: of_ada, ..none }, &[4_000, 2_000, 1_000][..]),
        (ActionFilter { subject: on_tea, ..none }, &[4_000, 3_000, 2_000, 1_000]),
        (ActionFilter { actor: of_ada, subject: on_tea, ..none }, &[4_000, 1_000]),
        (ActionFilter { from: Some(at(2_000)), ..none }, &[4_000, 3_000, 2_000, 2_000]),
        (ActionFilter { to: Some(at(2_000)), ..none }, &[1_000]),
        (
            ActionFilter { from: Some(at(2_000)), to: Some(at(4_000)), actor: of_ada, ..none },
            &[2_000],
        ),
        (ActionFilter { actor: on_tea, ..none }, &[]),
    ] {
        assert_eq!(times(&actions(&*store, filter).await), expected, "{filter:?}");
    }
}
