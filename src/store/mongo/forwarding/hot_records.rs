//! The products that several nodes sell at once, and the promotions that they use at once.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

use crate::store::commit::{Commit, Write};

/// How long a record stays hot after the last sign of it. Then the nodes try on their own, and if
/// they still meet, they lose one transaction each before the record is hot again.
const HOT_PERIOD: Duration = Duration::from_secs(30);

/// Beyond this number of records, no more are added: when that many are sold, none is hot.
const MAX_HOT_RECORDS: usize = 10_000;

/// The products whose stock, and the promotions whose uses, other nodes have changed lately at the
/// same time as this one.
#[derive(Default)]
pub(super) struct HotRecords {
    /// Whether there may be any. Most commits need look no further.
    any: AtomicBool,
    until: Mutex<HashMap<Uuid, Instant>>,
}

impl HotRecords {
    /// Marks the records that these commits change as hot, since other nodes change them, too.
    pub(super) fn mark_hot(&self, commits: &[Commit]) {
        let now = Instant::now();
        let mut records = self.lock();
        records.retain(|_, until| *until > now);
        for id in commits.iter().flat_map(contended_records) {
            if records.len() < MAX_HOT_RECORDS || records.contains_key(&id) {
                records.insert(id, now + HOT_PERIOD);
            }
        }
        self.any.store(!records.is_empty(), Ordering::Relaxed);
    }

    /// The hot record whose home applies the commit: the promotion with the lowest id, since more
    /// commits have it than have any of its products, or else the product.
    pub(super) fn first_hot_record(&self, commit: &Commit) -> Option<Uuid> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let (now, records) = (Instant::now(), self.lock());
        let is_hot = |id: &Uuid| records.get(id).is_some_and(|until| *until > now);
        let promotion = changed_promotions(commit).filter(is_hot).min();
        promotion.or_else(|| changed_products(commit).filter(is_hot).min())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn contended_records(commit: &Commit) -> impl Iterator<Item = Uuid> {
    changed_promotions(commit).chain(changed_products(commit))
}

fn changed_products(commit: &Commit) -> impl Iterator<Item = Uuid> {
    commit.writes.iter().filter_map(|write| match write {
        Write::Stock(stock) => Some(stock.product_id.as_uuid()),
        _ => None,
    })
}

fn changed_promotions(commit: &Commit) -> impl Iterator<Item = Uuid> {
    commit.writes.iter().filter_map(|write| match write {
        Write::PromotionUse(promotion, _) => Some(promotion.as_uuid()),
        _ => None,
    })
}
