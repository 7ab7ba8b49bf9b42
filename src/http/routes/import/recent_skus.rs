//! The SKUs of the last lines that were applied.

use std::collections::VecDeque;

/// The most SKUs that are kept: some of their products may be deleted later.
const MAX_SKUS: usize = 20;

/// The SKUs of the last lines that were applied, by which a later run can tell whether the store
/// still has what the import did.
#[derive(Debug, Default)]
pub struct RecentSkus(VecDeque<String>);

impl RecentSkus {
    /// Adds the SKU of the next line.
    pub fn push(&mut self, sku: String) {
        if self.0.len() >= MAX_SKUS {
            self.0.pop_front();
        }
        self.0.push_back(sku);
    }

    /// The SKUs, in the order of their lines.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}
