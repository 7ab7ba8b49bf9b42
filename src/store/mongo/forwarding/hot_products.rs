//! The products that several nodes sell at once.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    domain::ids::ProductId,
    store::commit::{Commit, Write},
};

/// How long a product stays hot after the last sign of it. Then the nodes try on their own, and if
/// they still meet, they lose one transaction each before the product is hot again.
const HOT_PERIOD: Duration = Duration::from_secs(30);

/// Beyond this number of products, no more are added: sales of so many are not hot.
const MAX_HOT_PRODUCTS: usize = 10_000;

/// The products whose stock other nodes have changed lately at the same time as this one.
#[derive(Default)]
pub(super) struct HotProducts {
    /// Whether there may be any. Most commits need look no further.
    any: AtomicBool,
    until: Mutex<HashMap<ProductId, Instant>>,
}

impl HotProducts {
    /// Records that other nodes change the same stock as these commits.
    pub(super) fn record_contention(&self, commits: &[Commit]) {
        let now = Instant::now();
        let mut products = self.lock();
        products.retain(|_, until| *until > now);
        for id in commits.iter().flat_map(changed_products) {
            if products.len() < MAX_HOT_PRODUCTS || products.contains_key(&id) {
                products.insert(id, now + HOT_PERIOD);
            }
        }
        self.any.store(!products.is_empty(), Ordering::Relaxed);
    }

    /// The hot product with the lowest id whose stock the commit changes.
    pub(super) fn first_hot_product(&self, commit: &Commit) -> Option<ProductId> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let (now, products) = (Instant::now(), self.lock());
        let is_hot = |id: &ProductId| products.get(id).is_some_and(|until| *until > now);
        changed_products(commit).filter(is_hot).min()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ProductId, Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn changed_products(commit: &Commit) -> impl Iterator<Item = ProductId> {
    commit.writes.iter().filter_map(|write| match write {
        Write::Stock(stock) => Some(stock.product_id),
        _ => None,
    })
}
