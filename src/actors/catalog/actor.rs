//! The actor for products and stock.

use std::sync::Arc;

use actix::{Actor, Context, Handler, ResponseFuture};
use tracing::Instrument as _;

use super::CatalogService;
use crate::{
    actors::mailbox::accept_queued,
    domain::inventory::StockLevel,
    error::Error,
    messages::{
        catalog::{
            ApplyStockCommand, ChangeProduct, ChangeStock, CreateProduct, DeleteProduct,
            ImportLineOutcome, ImportLines, ProductView, RecordImportResponse, StockCommandOutcome,
        },
        command_context::Reply,
    },
    metrics::actors::MailboxMetrics,
    panics::guarded_command,
};

/// Runs the commands on products and stock.
///
/// Commands run concurrently. The product's version in the store orders those on one product.
pub struct CatalogActor {
    service: CatalogService,
    mailbox: MailboxMetrics,
}

impl CatalogActor {
    /// Creates an actor. The caller starts it.
    #[must_use]
    pub const fn new(service: CatalogService, mailbox: MailboxMetrics) -> Self {
        Self { service, mailbox }
    }

    const fn mailbox(&self) -> &MailboxMetrics {
        &self.mailbox
    }
}

impl Actor for CatalogActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Commands wait here only until their future starts. The writer's queue bounds the load.
        ctx.set_mailbox_capacity(1024);
    }
}

macro_rules! handle {
    ($($message:ident => $method:ident -> $reply:ty;)+) => {$(
        impl Handler<$message> for CatalogActor {
            type Result = ResponseFuture<Result<$reply, Error>>;

            fn handle(&mut self, message: $message, _: &mut Self::Context) -> Self::Result {
                let service = self.service.clone();
                let command =
                    async move { guarded_command("catalog", service.$method(message)).await };
                Box::pin(command.in_current_span())
            }
        }

        accept_queued!(CatalogActor, mailbox, $message);
    )+};
}

handle! {
    CreateProduct => create_product -> Reply<Arc<ProductView>>;
    ChangeProduct => change_product -> Reply<Arc<ProductView>>;
    DeleteProduct => delete_product -> Reply<()>;
    ChangeStock => change_stock -> Reply<StockLevel>;
    ApplyStockCommand => apply_stock_command -> StockCommandOutcome;
    RecordImportResponse => record_import_response -> Reply<()>;
}

accept_queued!(CatalogActor, mailbox, ImportLines);

impl Handler<ImportLines> for CatalogActor {
    type Result = ResponseFuture<Vec<ImportLineOutcome>>;

    fn handle(&mut self, message: ImportLines, _: &mut Self::Context) -> Self::Result {
        let service = self.service.clone();
        // Each line catches its own panic.
        Box::pin(async move { service.import_lines(message).await }.in_current_span())
    }
}
