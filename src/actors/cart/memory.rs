//! Bounds the memory of the carts that are kept as they were last rendered. A full cart takes a
//! hundred times as much as the usual one, so their number alone bounds nothing.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::{CartRegistry, registry::ActiveCart};
use crate::domain::cart::{Cart, CartLine};

/// The most bytes of rendered carts in memory. The usual cart takes one or two KiB.
pub const MAX_RENDERED_BYTES: usize = 256 * 1024 * 1024;

/// The rendered carts of a registry.
#[derive(Debug, Default)]
pub(super) struct CartMemory {
    bytes: AtomicUsize,
    is_shrinking: AtomicBool,
}

impl CartMemory {
    /// The bytes of all rendered carts.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// About how much memory a cart and its response body take.
pub(super) fn rendered_bytes(cart: &Cart, body: &[u8]) -> usize {
    let line = |line: &CartLine| size_of::<CartLine>() + line.name.len();
    size_of::<Cart>() + cart.lines.iter().map(line).sum::<usize>() + body.len()
}

impl CartRegistry {
    /// Drops rendered carts if they take too much memory: those that were unused for the longest
    /// time, until a quarter is free. The next command on such a cart reads the store.
    pub(super) fn shrink_if_due(&self) {
        let most = self.deps.max_rendered_bytes;
        if self.memory.bytes() <= most || self.memory.is_shrinking.swap(true, Ordering::Acquire) {
            return;
        }
        let last_used = |active: &ActiveCart| (active.state.last_used(), Arc::clone(&active.state));
        let mut carts: Vec<_> = self.carts.iter().map(|entry| last_used(entry.value())).collect();
        carts.sort_unstable_by_key(|(last_used, _)| *last_used);
        for (_, state) in carts {
            if self.memory.bytes() <= most / 4 * 3 {
                break;
            }
            state.drop_view();
        }
        self.memory.is_shrinking.store(false, Ordering::Release);
    }
}
