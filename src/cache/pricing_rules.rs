//! The pricing rules in memory, so that pricing a cart reads nothing from the store.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;

use crate::{
    domain::{
        clock::Timestamp,
        ids::{PromotionId, RuleId},
        pricing::{PricingRules, PromotionUses, RuleKind, RuleRecord},
    },
    store::{Store, StoreUnavailable},
};

/// All rules, also the deleted ones: their versions count, and a late change must not bring one
/// back.
#[derive(Default)]
pub struct PricingRulesCache {
    known: Mutex<Known>,
    current: ArcSwap<CurrentRules>,
    prices_include_tax: bool,
}

#[derive(Default)]
struct Known {
    records: BTreeMap<RuleId, Arc<RuleRecord>>,
    uses: HashMap<PromotionId, PromotionUses>,
}

/// The rules as carts are priced with them.
#[derive(Default)]
struct CurrentRules {
    rules: Arc<PricingRules>,
    /// How often they were built. Unlike their version, it also counts promotions that were used up
    /// and became available again.
    epoch: u64,
}

/// What prices depend on besides a cart and the catalog: how often the rules were built, and how
/// many promotions have begun or ended.
pub type PricingEpoch = (u64, usize);

impl PricingRulesCache {
    /// Creates a cache without rules, of a shop whose prices include tax or do not.
    #[must_use]
    pub fn new(prices_include_tax: bool) -> Self {
        let cache = Self { prices_include_tax, ..Self::default() };
        cache.rebuild(&Known::default());
        cache
    }

    /// The rules now.
    #[must_use]
    pub fn current(&self) -> Arc<PricingRules> {
        Arc::clone(&self.current.load().rules)
    }

    /// The version of the rules now, see [`PricingRules::version`].
    #[must_use]
    pub fn version(&self) -> u64 {
        self.current.load().rules.version()
    }

    /// What prices depend on now. `now` is asked only if it matters.
    #[must_use]
    pub fn epoch(&self, now: impl FnOnce() -> Timestamp) -> PricingEpoch {
        let current = self.current.load();
        (current.epoch, current.rules.turns_before(now))
    }

    /// The rule of this kind with this id, unless it was deleted.
    #[must_use]
    pub fn find(&self, kind: RuleKind, id: RuleId) -> Option<Arc<RuleRecord>> {
        let known = self.lock();
        let found = known.records.get(&id).filter(|record| !record.deleted);
        found.filter(|record| record.rule.kind() == kind).cloned()
    }

    /// How many orders have a promotion, as far as this node knows.
    #[must_use]
    pub fn used(&self, id: PromotionId) -> u64 {
        self.lock().uses.get(&id).map_or(0, |uses| uses.used)
    }

    /// Up to `limit` rules of this kind, newest first, with ids below `before`.
    #[must_use]
    pub fn list(
        &self,
        kind: RuleKind,
        before: Option<RuleId>,
        limit: usize,
    ) -> Vec<Arc<RuleRecord>> {
        let known = self.lock();
        let newest_first = known.records.values().rev();
        newest_first
            .filter(|record| !record.deleted && record.rule.kind() == kind)
            .filter(|record| before.is_none_or(|before| record.id < before))
            .take(limit)
            .cloned()
            .collect()
    }

    /// Takes over rules that any node has changed. Older versions than those that are known are
    /// ignored.
    pub fn apply(&self, changed: &[Arc<RuleRecord>]) {
        if changed.is_empty() {
            return;
        }
        let mut known = self.lock();
        for record in changed {
            let before = known.records.get(&record.id).map_or(0, |known| known.version);
            if record.version > before {
                known.records.insert(record.id, Arc::clone(record));
            }
        }
        self.rebuild(&known);
    }

    /// Takes over how often promotions are used. Prices change only when one is used up, or is
    /// available again.
    pub fn apply_uses(&self, changed: &[PromotionUses]) {
        if changed.is_empty() {
            return;
        }
        let rules = self.current();
        let mut known = self.lock();
        let mut is_outdated = false;
        for uses in changed {
            let before = known.uses.get(&uses.promotion_id).copied();
            let before = before.unwrap_or(PromotionUses::none(uses.promotion_id));
            if uses.version <= before.version {
                continue;
            }
            known.uses.insert(uses.promotion_id, *uses);
            let limit = rules.find_promotion(uses.promotion_id).and_then(|it| it.usage_limit);
            is_outdated |=
                limit.is_some_and(|limit| (before.used >= limit) != (uses.used >= limit));
        }
        if is_outdated {
            self.rebuild(&known);
        }
    }

    /// Loads all rules and uses, when the node starts or has missed changes. Call this after
    /// changes have started to arrive, so that none is missed in between.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn load(&self, store: &dyn Store) -> Result<(), StoreUnavailable> {
        self.apply_uses(&store.list_promotion_uses(None).await?);
        let found = store.list_pricing_rules().await?;
        self.apply(&found.into_iter().map(Arc::new).collect::<Vec<_>>());
        Ok(())
    }

    /// Reads one rule from the store, if it has a newer version than `version` says.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn refresh(
        &self,
        store: &dyn Store,
        id: RuleId,
        version: u64,
    ) -> Result<(), StoreUnavailable> {
        let known = self.lock().records.get(&id).map_or(0, |known| known.version);
        if known < version
            && let Some(record) = store.find_pricing_rule(id).await?
        {
            self.apply(&[Arc::new(record)]);
        }
        Ok(())
    }

    /// Reads from the store how often the promotions with a usage limit are used.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn refresh_uses(&self, store: &dyn Store) -> Result<(), StoreUnavailable> {
        let rules = self.current();
        let limited = rules.promotions().filter(|promotion| promotion.usage_limit.is_some());
        let ids: BTreeSet<PromotionId> = limited.map(|promotion| promotion.id).collect();
        if !ids.is_empty() {
            self.apply_uses(&store.list_promotion_uses(Some(ids)).await?);
        }
        Ok(())
    }

    fn rebuild(&self, known: &Known) {
        let used = |id| known.uses.get(&id).map_or(0, |uses| uses.used);
        let records = known.records.values().map(AsRef::as_ref);
        let rules = PricingRules::from_records(records, used, self.prices_include_tax);
        let epoch = self.current.load().epoch + 1;
        self.current.store(Arc::new(CurrentRules { rules: Arc::new(rules), epoch }));
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::pricing::{Effect, Percentage, Promotion, Rate, Rule, Selection, TaxRate};

    #[test]
    fn latest_version_counts_in_whatever_order_changes_arrive() {
        let cache = PricingRulesCache::new(true);
        let id = RuleId::new();
        let record = |version, deleted| {
            let rule = Rule::TaxRate(TaxRate {
                id: id.as_uuid().into(),
                name: "VAT".into(),
                country: "DE".into(),
                region: None,
                tax_class: None,
                rate: Rate::from_millionths(190_000).unwrap(),
            });
            let now = Timestamp::from_millis(version);
            Arc::new(RuleRecord {
                version: version.unsigned_abs(),
                deleted,
                ..RuleRecord::new(id, rule, now)
            })
        };
        assert_eq!((cache.version(), cache.current().is_empty()), (0, true));
        assert!(cache.current().prices_include_tax());
        cache.apply(&[record(2, false), record(1, false)]);
        assert_eq!((cache.version(), cache.current().is_empty()), (2, false));
        assert_eq!(cache.find(RuleKind::TaxRate, id), Some(record(2, false)));
        assert_eq!(cache.find(RuleKind::ShippingMethod, id), None);
        assert_eq!(cache.list(RuleKind::TaxRate, None, 5), [record(2, false)]);
        assert!(cache.list(RuleKind::TaxRate, Some(id), 5).is_empty());
        cache.apply(&[record(4, true)]);
        cache.apply(&[record(3, false)]);
        assert_eq!((cache.version(), cache.current().is_empty()), (4, true));
        assert_eq!(cache.find(RuleKind::TaxRate, id), None, "a late change brings nothing back");
    }

    #[test]
    fn prices_change_when_a_promotion_is_used_up_or_available_again() {
        let cache = PricingRulesCache::new(false);
        let id = RuleId::new();
        let promotion = Promotion {
            id: id.as_uuid().into(),
            name: "Ten".into(),
            code: Some("TEN".into()),
            effect: Effect::PercentOff(Percentage::from_hundredths(1000).unwrap()),
            applies_to: Selection::default(),
            min_subtotal: None,
            starts_at: Some(Timestamp::from_millis(5)),
            ends_at: None,
            usage_limit: Some(2),
            per_customer_limit: None,
            combinable: false,
            priority: 0,
            active: true,
            used: 0,
        };
        let promotion_id = promotion.id;
        let rule = Rule::Promotion(Box::new(promotion));
        cache.apply(&[Arc::new(RuleRecord::new(id, rule, Timestamp::default()))]);
        let begun = |now| cache.epoch(|| Timestamp::from_millis(now));
        assert_ne!(begun(4), begun(5));
        let mut epoch = begun(5);
        for (version, used, changes) in
            [(1, 1, false), (2, 2, true), (1, 0, false), (3, 3, false), (4, 1, true)]
        {
            cache.apply_uses(&[PromotionUses { promotion_id, used, version }]);
            assert_eq!(begun(5) != epoch, changes, "version {version}");
            epoch = begun(5);
        }
        assert_eq!((cache.used(promotion_id), cache.version()), (1, 1));
    }
}
