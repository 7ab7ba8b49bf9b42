//! Finds products by SKU.

use std::hash::{BuildHasher as _, RandomState};

use dashmap::DashMap;

use crate::domain::catalog::product::Product;

/// The slot of the product with each SKU, by the hash of the SKU: the SKU itself is in the product.
#[derive(Default)]
pub(super) struct SkuSlots {
    slots: DashMap<u64, u32>,
    hasher: RandomState,
}

impl SkuSlots {
    /// The slot of the product that may have this SKU.
    pub(super) fn slot(&self, sku: &str) -> Option<u32> {
        self.slots.get(&self.hasher.hash_one(sku)).map(|slot| *slot)
    }

    /// Replaces the SKU of a product and its slot.
    pub(super) fn replace(&self, old: Option<(&Product, u32)>, new: Option<(&Product, u32)>) {
        let entry = |(product, slot): (&Product, u32)| {
            Some((self.hasher.hash_one(product.details.sku.as_deref()?), slot))
        };
        let (old, new) = (old.and_then(entry), new.and_then(entry));
        if let Some((hash, slot)) = old.filter(|_| old != new) {
            // Another product may have the SKU already.
            self.slots.remove_if(&hash, |_, owner| *owner == slot);
        }
        if let Some((hash, slot)) = new {
            self.slots.insert(hash, slot);
        }
    }
}
