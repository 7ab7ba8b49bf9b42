//! Why commands for a cart are rejected.

use serde::{Deserialize, Serialize};

use crate::domain::{ids::ProductId, pricing::CodeRefusal};

/// A requested quantity that exceeds the available stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortage {
    /// The product's identifier.
    pub product_id: ProductId,
    /// The number of units requested.
    pub requested: u64,
    /// The number of units available.
    pub available: u64,
}

/// The reason a command is rejected. A rejected command changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CartError {
    /// The catalog has no such product.
    ProductNotFound,
    /// The cart has no such line.
    LineNotFound,
    /// The product has too few units available.
    InsufficientStock(Shortage),
    /// The line would have more units than a line can hold.
    QuantityLimitExceeded {
        /// The number of units that the line would have. A larger number than fits into `u32` is
        /// cut off there.
        quantity: u64,
        /// The most units in a line.
        limit: u32,
    },
    /// Adding the product, or the merge, would make more lines than the cart can hold.
    LineLimitExceeded {
        /// The number of lines that the cart would have.
        lines: usize,
        /// The most lines: [`CartLimits::max_lines`](super::CartLimits::max_lines), or for a merge
        /// [`MERGED_LINES_FACTOR`](super::MERGED_LINES_FACTOR) times as many.
        limit: usize,
    },
    /// The total would exceed [`MAX_MINOR_UNITS`](crate::domain::money::MAX_MINOR_UNITS).
    TotalLimitExceeded,
    /// There is no such code, or the cart does not have it.
    CodeUnknown,
    /// The code gives nothing to this cart now.
    CodeRefused(CodeRefusal),
    /// The cart has [`MAX_CODES`](super::MAX_CODES) codes.
    CodeLimitExceeded,
    /// No shipping method reaches the address, or the chosen one does not.
    MethodNotAvailable,
    /// The guest's cart was already merged into an account's cart.
    GuestCartMerged,
    /// The account was deleted.
    OwnerDeleted,
}
