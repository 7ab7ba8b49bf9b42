//! How the embedded store is opened.

use std::path::PathBuf;

use crate::domain::money::Currency;

/// How to open the store.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The folder, created when missing. One process at a time can use it.
    pub dir: PathBuf,
    /// The currency of every price. A store keeps its first one.
    pub currency: Currency,
    /// Available stock that falls to this or below adds a low-stock event.
    pub low_stock: u64,
    /// Whether the shop has a broker: then unpublished events are kept, however many. The store
    /// records this for good.
    pub keep_unpublished: bool,
    /// Whether to refuse a database with damaged pages, which takes time in proportion to its size.
    pub check_at_start: bool,
}

#[cfg(test)]
impl SqliteOptions {
    /// A shop in euros in the folder `dir`, for tests.
    pub(crate) fn sample(dir: &std::path::Path) -> Self {
        Self {
            dir: dir.to_owned(),
            currency: "EUR".parse().unwrap(),
            low_stock: 0,
            keep_unpublished: false,
            check_at_start: false,
        }
    }
}
