//! Forgotten passwords.

use std::{collections::BTreeMap, sync::Arc};

use actix::Actor;

use super::{AccountFixture, FixtureSettings, new_ticket};
use crate::{
    actors::accounts::{AccountActor, AccountDeps},
    domain::{account::Email, mail::MailKind},
    messages::accounts::RequestPasswordReset,
    metrics::{Metrics, node::NodeStats},
    store::{observed::ObservedStore, writer::CommitWriter},
};

/// Requests of each kind.
const REQUESTS: usize = 200;

/// How often the store was read and written, by operation.
fn store_work(metrics: &Metrics) -> BTreeMap<String, u64> {
    let stats = NodeStats {
        active_carts: 0,
        products: 0,
        waiting_commits: 0,
        writer_transactions: 0,
        writer_commits: 0,
        outbox: None,
        broker: None,
        log_lines_dropped: 0,
        trace_spans: [("", 0); 3],
    };
    let text = metrics.encode(&stats, true);
    let counters = [
        "souk_store_operation_seconds_count",
        "souk_store_transaction_seconds_count",
        "souk_commits",
    ];
    let counted = text.lines().filter(|line| counters.iter().any(|name| line.starts_with(name)));
    counted
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// The time of a response can tell no more than the work does, and that is counted, so that the
/// test does not depend on the machine.
#[actix::test]
async fn unknown_address_costs_as_much_as_a_known_one() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let metrics = Metrics::new();
    let store = Arc::new(ObservedStore::new(Arc::clone(&shop.deps.store), metrics.store.clone()));
    let observer = Arc::new(super::RecordRevocations {
        revoked: Arc::clone(&shop.deps.revoked),
        largest: Arc::default(),
    });
    let runtime = tokio::runtime::Handle::current();
    let (writer, _) = CommitWriter::start(&runtime, Arc::clone(&store) as _, observer);
    let deps = AccountDeps { sends_mail: true, store, writer, ..shop.deps.clone() };
    let shop = AccountFixture { accounts: AccountActor::new(deps.clone()).start(), ..shop };
    shop.register("known@example.com").await.unwrap();
    let ask = async |email: &str| {
        for _ in 0..REQUESTS {
            let (email, ticket) = (Email::parse(email).unwrap(), new_ticket());
            shop.accounts.send(RequestPasswordReset { email, ticket }).await.unwrap().unwrap();
        }
        store_work(&metrics)
    };
    // Every name of a metric is there before the first difference is taken.
    let start = ask("other@example.com").await;
    let after_known = ask("known@example.com").await;
    let after_unknown = ask("nobody@example.com").await;
    let difference = |before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>| {
        assert!(before.keys().eq(after.keys()), "{before:?} {after:?}");
        after
            .iter()
            .map(|(name, count)| (name.clone(), count - before[name]))
            .filter(|(_, count)| *count > 0)
            .collect::<BTreeMap<_, _>>()
    };
    let known = difference(&start, &after_known);
    assert_eq!(known, difference(&after_known, &after_unknown));
    // One commit in one transaction, and no read.
    assert_eq!(known.values().collect::<Vec<_>>(), [&(REQUESTS as u64); 2], "{known:?}");
    let later = deps.clock.now();
    let mails = deps.store.list_due_mails(later, 10_000).await.unwrap();
    let resets = mails.iter().filter(|mail| mail.kind == MailKind::PasswordReset);
    assert!(resets.clone().all(|mail| mail.user_id.is_none() && mail.is_requested));
    assert_eq!((resets.count(), mails.len()), (3 * REQUESTS, 3 * REQUESTS + 1));
}
