//! State that a transaction does not load, because its commits say what it has to be.
//!
//! A commit that writes a cart names the version that the cart must have, and a new idempotency key
//! must have no reply. Mostly that is so, and then loading it first is a command of the transaction
//! for nothing. So the writes themselves check it: a cart is found only with that version, and the
//! server accepts no second document with a key. If one of them is not as expected, or a commit
//! that expects something is refused for another reason, the transaction is aborted. The next
//! attempt loads everything and decides on what it finds.

use std::collections::HashMap;

use crate::{
    domain::ids::UserId,
    store::{
        commit::{Commit, Write},
        plan::ReadSet,
    },
};

/// The most commits of a batch whose carts are not loaded. With more, it takes the server longer to
/// check each version than to find all carts with one command.
const MAX_COMMITS: usize = 32;

/// What a transaction does not load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expectation {
    /// It loads everything.
    Nothing,
    /// No idempotency key is stored.
    NewKeys,
    /// No idempotency key is stored, and every cart has the version that its first commit expects.
    NewKeysAndCarts,
}

impl Expectation {
    /// Whether a commit's outcome is certain only once its writes have found what is expected.
    pub(super) fn is_checked_by_writes_of(self, commit: &Commit) -> bool {
        let writes_cart = || commit.writes.iter().any(|write| matches!(write, Write::Cart(_)));
        match self {
            Self::Nothing => false,
            Self::NewKeys => commit.idempotency_record.is_some(),
            Self::NewKeysAndCarts => commit.idempotency_record.is_some() || writes_cart(),
        }
    }

    /// The expectation of the first transaction for a batch.
    pub(super) const fn of_batch(commits: &[Commit]) -> Self {
        if commits.len() <= MAX_COMMITS { Self::NewKeysAndCarts } else { Self::NewKeys }
    }

    /// Removes what is expected from `read_set`. Returns the versions of the carts that are
    /// expected to exist.
    pub(super) fn remove_from(
        self,
        read_set: &mut ReadSet,
        batch: &[Commit],
    ) -> HashMap<UserId, u64> {
        if self == Self::Nothing {
            return HashMap::new();
        }
        read_set.idempotency_keys.clear();
        if self == Self::NewKeys {
            return HashMap::new();
        }
        let mut versions = HashMap::with_capacity(read_set.carts.len());
        for write in batch.iter().flat_map(|commit| &commit.writes) {
            if let Write::Cart(cart) = write
                && read_set.carts.remove(&cart.owner.id)
                && let Some(version) = cart.version.checked_sub(1).filter(|version| *version > 0)
            {
                versions.insert(cart.owner.id, version);
            }
        }
        versions
    }
}
