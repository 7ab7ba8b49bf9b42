//! Messages for the catalog actor. Plain reads use the catalog cache instead.

use std::sync::{Arc, OnceLock};

use actix::Message;
use bytes::Bytes;

use super::command_context::{CommandContext, Reply, Ticket, TraceParent};
use crate::{
    domain::{
        catalog::product::{Product, ProductDetails, ProductPatch},
        ids::ProductId,
        inventory::{StockChange, StockLevel},
        money::Currency,
    },
    error::Error,
};

/// A product and its last known stock.
#[derive(Debug, Clone)]
pub struct ProductView {
    /// The product's details.
    pub product: Arc<Product>,
    /// The last known stock.
    pub stock: StockLevel,
    render: RenderProduct,
    body: OnceLock<Bytes>,
}

impl ProductView {
    /// A view whose body `render` encodes.
    #[must_use]
    pub const fn new(product: Arc<Product>, stock: StockLevel, render: RenderProduct) -> Self {
        Self { product, stock, render, body: OnceLock::new() }
    }

    /// The response body, rendered once.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.body.get_or_init(|| (self.render)(&self.product, &self.stock)).clone()
    }

    /// The entity tag `<product version>.<stock version>`, without quotes.
    #[must_use]
    pub fn etag(&self) -> String {
        format!("{}.{}", self.product.version, self.stock.version)
    }
}

/// Renders a product as a response body. The HTTP layer supplies it.
pub type RenderProduct = fn(&Product, &StockLevel) -> Bytes;

/// Adds a new product to the catalog.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<Arc<ProductView>>, Error>")]
pub struct CreateProduct {
    /// The product's details.
    pub details: ProductDetails,
    /// The number of units on hand at the start.
    pub initial_stock: u64,
    /// The idempotency key, precondition, deadline, and trace.
    pub context: CommandContext,
}

/// Changes a product's details.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<Arc<ProductView>>, Error>")]
pub struct ChangeProduct {
    /// The product's identifier.
    pub product_id: ProductId,
    /// The change to make.
    pub edit: ProductEdit,
    /// The idempotency key, precondition, deadline, and trace.
    pub context: CommandContext,
}

/// A way to change a product.
#[derive(Debug, Clone)]
pub enum ProductEdit {
    /// Replaces all details.
    Replace(ProductDetails),
    /// Changes the details that the patch names.
    Patch(ProductPatch),
}

/// Removes a product from the catalog.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<()>, Error>")]
pub struct DeleteProduct {
    /// The product's identifier.
    pub product_id: ProductId,
    /// The idempotency key, precondition, deadline, and trace.
    pub context: CommandContext,
}

/// Changes a product's stock.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<StockLevel>, Error>")]
pub struct ChangeStock {
    /// The product's identifier.
    pub product_id: ProductId,
    /// The change: `Adjust` or `Set`.
    pub stock_change: StockChange,
    /// The reason for the change.
    pub reason: Option<String>,
    /// The caller's own reference.
    pub reference: Option<String>,
    /// The idempotency key, precondition, deadline, and trace.
    pub context: CommandContext,
}

/// Applies another system's stock command. A message that is delivered again has no effect.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<StockCommandOutcome, Error>")]
pub struct ApplyStockCommand {
    /// The message's id, which identifies duplicates.
    pub id: Box<str>,
    /// The product whose stock changes.
    pub product: ProductRef,
    /// The change: `Adjust` or `Set`.
    pub stock_change: StockChange,
    /// The reason for the change.
    pub reason: String,
    /// The other system's own reference.
    pub reference: Option<String>,
    /// The deadline, and whether the sender still waits.
    pub ticket: Ticket,
    /// The other system's trace, carried into events.
    pub trace: Option<TraceParent>,
}

/// A reference to a product in another system's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProductRef {
    /// The product's id.
    Id(ProductId),
    /// The SKU of an active product.
    Sku(String),
}

/// Whether a stock command was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StockCommandOutcome {
    /// The command was applied.
    Applied,
    /// The command was already applied, and is not applied again.
    Duplicate,
}

/// Imports lines. Each line creates or updates the product with its `sku`, independently of the
/// others.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Vec<ImportLineOutcome>")]
pub struct ImportLines {
    /// The lines, in the file's order.
    pub lines: Vec<ImportLine>,
    /// Whether the lines are applied.
    pub mode: ImportMode,
}

/// Whether the lines of an import are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportMode {
    /// They are.
    Apply,
    /// They are only checked. Their prices have this currency.
    DryRun(Currency),
}

/// Stores an import's response, so that a repeat of the request gets the same one.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<()>, Error>")]
pub struct RecordImportResponse {
    /// The response body.
    pub body: Bytes,
    /// The idempotency key, precondition, deadline, and trace.
    pub context: CommandContext,
}

/// One line of an import.
#[derive(Debug, Clone)]
pub struct ImportLine {
    /// The line's number in the file, from 1.
    pub number: u64,
    /// The parsed line, or the reason it is invalid.
    pub row: Result<ImportRow, Error>,
    /// Whether an earlier line of this dry run creates the product.
    pub is_created_before: bool,
    /// The idempotency key, precondition, deadline, and trace.
    pub context: CommandContext,
}

/// A product in an import. An existing product keeps every field that the line omits.
#[derive(Debug, Clone)]
pub struct ImportRow {
    /// The product's details.
    pub patch: ProductPatch,
    /// The new `on_hand`. `None` leaves it unchanged.
    pub stock: Option<u64>,
}

impl ImportRow {
    /// The SKU that identifies the product.
    #[must_use]
    pub fn sku(&self) -> Option<&str> {
        self.patch.sku.as_ref()?.as_deref()
    }
}

/// The outcome of one import line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportLineOutcome {
    /// The line's number in the file, from 1.
    pub number: u64,
    /// The action taken, or the reason the line was rejected.
    pub result: Result<ImportAction, Error>,
}

/// The action that an import took for a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportAction {
    /// The line created a product.
    Created,
    /// The product already existed. It may be unchanged.
    Updated,
}
