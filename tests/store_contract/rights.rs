//! The rights of accounts, and that one admin always remains.

use std::sync::Arc;

use mongodb::bson::{Document, doc};
use souk::{
    domain::{
        account::{Rights, Role, Scope, ScopeSet, User, UserFilter, VersionedRights},
        clock::Timestamp,
        ids::UserId,
    },
    events::{DomainEvent, parse::CacheChange},
    store::{Commit, CommitError, Condition, Store},
};

use crate::{
    fixtures::{apply, apply_one, commit, put_user, user},
    harness::{Harness, Mongo},
    migration::NEWEST,
    nodes::{commit_concurrently, start_node},
};

const ADMIN: Rights = Rights { role: Role::Admin, ..Rights::CUSTOMER };

fn staff() -> Rights {
    let scopes: ScopeSet = [Scope::Stock, Scope::OrdersRead].into_iter().collect();
    Rights { role: Role::Staff, scopes, blocked: false }
}

/// Gives `before` other rights, on the condition that another admin remains.
fn change_rights(before: &User, rights: Rights) -> (User, Commit) {
    let changed = before.with_rights(rights);
    let mut change = commit([put_user(&changed)]);
    change.events.push(DomainEvent::RightsChanged(Arc::new(changed.clone())));
    if before.rights().is_active_admin() && !rights.is_active_admin() {
        change.conditions.push(Condition::OtherAdminRemains(before.id));
    }
    (changed, change)
}

async fn set_rights(store: &dyn Store, before: &User, rights: Rights) -> User {
    let (changed, change) = change_rights(before, rights);
    apply_one(store, change).await.unwrap();
    changed
}

async fn registered(store: &dyn Store, email: &str) -> User {
    let user = user(email);
    apply_one(store, commit([put_user(&user)])).await.unwrap();
    user
}

async fn special_rights(store: &dyn Store) -> Vec<VersionedRights> {
    let mut found = store.list_special_rights().await.unwrap();
    found.sort_by_key(|rights| rights.user_id);
    found
}

pub(crate) async fn rights_round_trip_and_special_ones_are_listed(harness: &dyn Harness) {
    let store = harness.open().await;
    let [ada, bob, eve, zoe] = ["ada@x.example", "bob@x.example", "eve@x.example", "zoe@x.example"]
        .map(|email| User {
            last_login_at: Some(Timestamp::from_millis(1_767_225_600_123)),
            ..user(email)
        });
    apply(&*store, [&ada, &bob, &eve, &zoe].map(|user| commit([put_user(user)]))).await;
    assert_eq!(special_rights(&*store).await, []);
    let bob = set_rights(&*store, &bob, staff()).await;
    let eve = set_rights(&*store, &eve, Rights { blocked: true, ..Rights::CUSTOMER }).await;
    let zoe = set_rights(&*store, &zoe, ADMIN).await;
    let wanted = [&bob, &eve, &zoe].map(User::versioned_rights);
    assert_eq!(special_rights(&*store).await, wanted);
    store.close().await;
    let store = harness.open().await;
    for user in [&ada, &bob, &eve, &zoe] {
        assert_eq!(store.find_user(user.id).await, Ok(Some(user.clone())));
    }
    set_rights(&*store, &bob, Rights::CUSTOMER).await;
    assert_eq!(special_rights(&*store).await, wanted[1..]);
}

pub(crate) async fn changes_of_rights_are_told_to_caches(harness: &dyn Harness) {
    let store = harness.open().await;
    let ada = registered(&*store, "ada@x.example").await;
    let before = store.outbox_heads().await.unwrap();
    let (bob, change) = change_rights(&ada, staff());
    let applied = apply(&*store, [change]).await;
    assert_eq!(applied.changes.rights, [bob.versioned_rights()]);
    let admin = User { role: Role::Admin, ..user("root@x.example") };
    let mut creation = commit([put_user(&admin)]);
    creation.events.push(DomainEvent::UserRegistered(Arc::new(admin.clone())));
    assert_eq!(apply(&*store, [creation]).await.changes.rights, [admin.versioned_rights()]);
    // A login writes the account, too, and changes no rights.
    let login = User { version: bob.version + 1, ..bob.clone() };
    assert_eq!(apply(&*store, [commit([put_user(&login)])]).await.changes.rights, []);
    let customer = user("eve@x.example");
    let mut creation = commit([put_user(&customer)]);
    creation.events.push(DomainEvent::UserRegistered(Arc::new(customer)));
    assert_eq!(apply(&*store, [creation]).await.changes.rights, []);
    let told: Vec<UserId> = store
        .list_changes_after(&before, 100)
        .await
        .unwrap()
        .changes
        .into_iter()
        .filter_map(|change| match change {
            CacheChange::Rights { user_id } => Some(user_id),
            _ => None,
        })
        .collect();
    assert_eq!(told, [bob.id, admin.id]);
}

pub(crate) async fn one_admin_remains(harness: &dyn Harness) {
    let store = harness.open().await;
    let ada = registered(&*store, "ada@x.example").await;
    let bob = registered(&*store, "bob@x.example").await;
    let ada = set_rights(&*store, &ada, ADMIN).await;
    let blocked = Rights { blocked: true, ..ADMIN };
    for rights in [Rights::CUSTOMER, staff(), blocked] {
        let outcome = apply_one(&*store, change_rights(&ada, rights).1).await;
        assert_eq!(outcome, Err(CommitError::LastAdmin), "{rights:?}");
    }
    // An admin who is blocked does not count.
    let bob = set_rights(&*store, &bob, blocked).await;
    let outcome = apply_one(&*store, change_rights(&ada, Rights::CUSTOMER).1).await;
    assert_eq!(outcome, Err(CommitError::LastAdmin));
    let bob = set_rights(&*store, &bob, ADMIN).await;
    // Of two in one batch, the first one counts.
    let both = [&ada, &bob].map(|user| change_rights(user, Rights::CUSTOMER).1);
    let outcomes = apply(&*store, both).await.outcomes;
    assert!(outcomes[0].is_ok(), "{outcomes:?}");
    assert_eq!(outcomes[1], Err(CommitError::LastAdmin));
    // One who becomes an admin in the batch counts as well.
    let ada = store.find_user(ada.id).await.unwrap().unwrap();
    let swap = [change_rights(&ada, ADMIN).1, change_rights(&bob, Rights::CUSTOMER).1];
    assert!(apply(&*store, swap).await.outcomes.iter().all(Result::is_ok));
}

pub(crate) async fn users_are_filtered_and_paged(harness: &dyn Harness) {
    let store = harness.open().await;
    let mut all: Vec<User> = (0..25)
        .map(|n| User {
            name: if n % 2 == 0 { "Grace Hopper".into() } else { "Ada".into() },
            role: if n == 7 { Role::Staff } else { Role::Customer },
            blocked: n % 5 == 0,
            ..user(&format!("user{n}@x.example"))
        })
        .collect();
    apply(&*store, all.iter().map(|user| commit([put_user(user)])).collect::<Vec<_>>()).await;
    all.sort_by_key(|user| std::cmp::Reverse(user.id));
    let list = async |filter: UserFilter| {
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = store.list_users(filter.clone(), before, 4).await.unwrap();
            assert!(page.len() <= 4);
            let Some(last) = page.last() else { return found };
            before = Some(last.id);
            found.extend(page);
        }
    };
    let wanted = |keep: &dyn Fn(&User) -> bool| -> Vec<User> {
        all.iter().filter(|user| keep(user)).cloned().collect()
    };
    assert_eq!(list(UserFilter::default()).await, all);
    let words =
        |text: &str| UserFilter { words: UserFilter::split_words(text), ..UserFilter::default() };
    assert_eq!(list(words("HOP")).await, wanted(&|user| user.name == "Grace Hopper"));
    assert_eq!(list(words("user1 grace")).await.len(), 5, "10, 12, 14, 16 and 18");
    assert_eq!(list(words("opper")).await, []);
    let blocked = |blocked| UserFilter { blocked: Some(blocked), ..UserFilter::default() };
    assert_eq!(list(blocked(true)).await, wanted(&|user| user.blocked));
    assert_eq!(list(blocked(false)).await, wanted(&|user| !user.blocked));
    let staff = UserFilter { role: Some(Role::Staff), ..UserFilter::default() };
    assert_eq!(list(staff).await, wanted(&|user| user.role == Role::Staff));
    let email = UserFilter { email: Some(all[3].email.clone()), ..UserFilter::default() };
    assert_eq!(list(email).await, [all[3].clone()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn last_admin_remains_when_two_nodes_change_two_at_once() {
    let Some(mongo) = Mongo::new().await else { return };
    let nodes = [start_node(&mongo).await, start_node(&mongo).await];
    let store = &nodes[0].0;
    let mut admins = Vec::new();
    for email in ["ada@x.example", "bob@x.example"] {
        let user = registered(&**store, email).await;
        admins.push(set_rights(&**store, &user, ADMIN).await);
    }
    for round in 0..50 {
        let rights = [Rights::CUSTOMER, Rights { blocked: true, ..ADMIN }][round % 2];
        let changes = [0, 1].map(|n| change_rights(&admins[n], rights));
        let commits = [0, 1].map(|n| (nodes[n].1.clone(), changes[n].1.clone()));
        let outcomes = commit_concurrently(commits.into()).await;
        let winner = usize::from(outcomes[0].is_err());
        assert!(outcomes[winner].is_ok(), "{outcomes:?}");
        assert_eq!(outcomes[1 - winner], Err(CommitError::LastAdmin));
        admins[winner] = set_rights(&**store, &changes[winner].0, ADMIN).await;
    }
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_of_schema_version_6_keep_their_rights() {
    let Some(mongo) = Mongo::new().await else { return };
    let store = mongo.open().await;
    let ada = registered(&*store, "ada@x.example").await;
    let admin = User { role: Role::Admin, ..user("root@x.example") };
    apply_one(&*store, commit([put_user(&admin)])).await.unwrap();
    store.close().await;
    let database = mongo.raw_database();
    let users = database.collection::<Document>("users");
    let stored = users.find_one(doc! { "email": "ada@x.example" }).await.unwrap().unwrap();
    for added in ["scopes", "blocked", "last_login_at"] {
        assert!(!stored.contains_key(added), "{added} is stored as version 6 would not");
    }
    database.collection::<Document>("nodes").delete_many(doc! {}).await.unwrap();
    database.collection::<Document>("counters").delete_one(doc! { "_id": "admins" }).await.unwrap();
    let version_6 = doc! { "$set": { "schema": 6_i64 } };
    let meta = database.collection::<Document>("meta");
    meta.update_one(doc! { "_id": "shop" }, version_6).await.unwrap();
    let store = mongo.open().await;
    let shop = meta.find_one(doc! { "_id": "shop" }).await.unwrap().unwrap();
    assert_eq!(shop.get_i64("schema").unwrap(), NEWEST);
    assert_eq!(store.find_user(ada.id).await, Ok(Some(ada)));
    assert_eq!(special_rights(&*store).await, [admin.versioned_rights()]);
    let outcome = apply_one(&*store, change_rights(&admin, Rights::CUSTOMER).1).await;
    assert_eq!(outcome, Err(CommitError::LastAdmin), "with a new guard");
    mongo.drop_database().await;
}
