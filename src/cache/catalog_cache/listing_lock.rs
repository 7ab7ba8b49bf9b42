//! The lock of the listing, which changes wait for.

use std::sync::{
    Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
    atomic::{AtomicUsize, Ordering},
};

use super::listing::Listing;
use crate::domain::catalog::search::TextRules;

/// A listing that many searches read, or one change writes.
pub(super) struct ListingLock {
    listing: RwLock<Listing>,
    /// How many changes wait until no search reads the listing, which knows it, too.
    waiting_changes: Arc<AtomicUsize>,
}

impl ListingLock {
    /// An empty listing of products whose names sort by `rules`.
    pub(super) fn new(rules: &Arc<TextRules>) -> Self {
        let waiting_changes = Arc::<AtomicUsize>::default();
        let listing = Listing::new(Arc::clone(rules), Arc::clone(&waiting_changes));
        Self { listing: RwLock::new(listing), waiting_changes }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Listing> {
        self.listing.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The listing, unless a change is under way or waits.
    pub(super) fn try_read(&self) -> Option<RwLockReadGuard<'_, Listing>> {
        match self.listing.try_read() {
            Ok(listing) => Some(listing),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The listing, once no search reads it. Searches do not pause until then.
    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Listing> {
        self.waiting_changes.fetch_add(1, Ordering::Relaxed);
        let listing = self.listing.write().unwrap_or_else(PoisonError::into_inner);
        self.waiting_changes.fetch_sub(1, Ordering::Relaxed);
        listing
    }
}
