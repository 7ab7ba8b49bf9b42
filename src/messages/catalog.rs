//! What may be asked of the catalog's actor. Plain reads go to the snapshot it publishes.

use std::sync::Arc;

use actix::Message;
use bytes::Bytes;

use super::change::{CommandContext, Reply, Ticket, TraceParent};
use crate::{
    domain::{
        catalog::product::{Product, ProductDetails, ProductPatch},
        ids::ProductId,
        inventory::{StockChange, StockLevel},
    },
    error::Error,
};

/// A product with its stock as last known, and its answer, rendered once.
#[derive(Debug, Clone, PartialEq)]
pub struct ProductView {
    /// What is said of it.
    pub product: Arc<Product>,
    /// Its stock.
    pub stock: StockLevel,
    /// Its answer as clients get it.
    pub body: Bytes,
    /// `<product version>.<stock version>`; without quotes.
    pub etag: String,
}

/// How a product is made into an answer. Given to the actor by whoever knows what clients get.
pub type RenderProduct = fn(&Product, &StockLevel) -> Bytes;

/// Puts a new product into the catalog.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<Arc<ProductView>>, Error>")]
pub struct CreateProduct {
    /// What is said of it.
    pub details: ProductDetails,
    /// Its opening stock.
    pub initial_stock: u64,
    /// What goes with it.
    pub context: CommandContext,
}

/// Changes what is said of a product.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<Arc<ProductView>>, Error>")]
pub struct ChangeProduct {
    /// Which.
    pub product_id: ProductId,
    /// Into what.
    pub edit: ProductEdit,
    /// What goes with it.
    pub context: CommandContext,
}

/// A way to change a product.
#[derive(Debug, Clone)]
pub enum ProductEdit {
    /// As a whole.
    Replace(ProductDetails),
    /// In part.
    Patch(ProductPatch),
}

/// Takes a product out of the catalog.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<()>, Error>")]
pub struct DeleteProduct {
    /// Which.
    pub product_id: ProductId,
    /// What goes with it.
    pub context: CommandContext,
}

/// Changes a product's stock.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<StockLevel>, Error>")]
pub struct ChangeStock {
    /// Whose.
    pub product_id: ProductId,
    /// How: `Adjust` or `Set`.
    pub stock_change: StockChange,
    /// Why.
    pub reason: Option<String>,
    /// The caller's own reference.
    pub reference: Option<String>,
    /// What goes with it.
    pub context: CommandContext,
}

/// Changes a product's stock for another system, whose message has this id: once, however often it is delivered.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<StockCommandOutcome, Error>")]
pub struct ApplyStockCommand {
    /// The message's id.
    pub id: Box<str>,
    /// Whose stock.
    pub product: ProductRef,
    /// How: `Adjust` or `Set`.
    pub stock_change: StockChange,
    /// Why.
    pub reason: String,
    /// The other system's own reference.
    pub reference: Option<String>,
    /// Until when, and whether anyone still waits.
    pub ticket: Ticket,
    /// The other system's trace, carried into events.
    pub trace: Option<TraceParent>,
}

/// What another system calls a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProductRef {
    /// Its id.
    Id(ProductId),
    /// The sku of a living product.
    Sku(String),
}

/// When a message was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StockCommandOutcome {
    /// Now.
    Applied,
    /// Before: this time nothing was done.
    Duplicate,
}

/// Some lines of an import, each created or updated by its `sku`, each on its own.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Vec<ImportLineOutcome>")]
pub struct ImportLines {
    /// The lines, in the file's order.
    pub lines: Vec<ImportLine>,
}

/// Remembers what an import came to, for a repeat of the whole of it.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<()>, Error>")]
pub struct RecordImportResponse {
    /// The answer.
    pub body: Bytes,
    /// What goes with it.
    pub context: CommandContext,
}

/// One line of an import.
#[derive(Debug, Clone)]
pub struct ImportLine {
    /// Its number in the file, from 1.
    pub number: u64,
    /// What it says, or what is wrong with it.
    pub row: Result<ImportRow, Error>,
    /// What goes with it.
    pub context: CommandContext,
}

/// A product as an import gives it. What it does not name, a product that is there keeps.
#[derive(Debug, Clone)]
pub struct ImportRow {
    /// What is said of it.
    pub patch: ProductPatch,
    /// What `on_hand` shall be; `None` leaves it.
    pub stock: Option<u64>,
}

impl ImportRow {
    /// The article number that tells which product it is.
    #[must_use]
    pub fn sku(&self) -> Option<&str> {
        self.patch.sku.as_ref()?.as_deref()
    }
}

/// What became of an import's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportLineOutcome {
    /// Its number.
    pub number: u64,
    /// What was done.
    pub result: Result<ImportAction, Error>,
}

/// What an import did with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportAction {
    /// A new product.
    Created,
    /// A product that was there, changed or not.
    Updated,
}
