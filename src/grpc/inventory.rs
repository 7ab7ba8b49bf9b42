//! `souk.v1.InventoryService`.

use std::sync::Arc;

use tonic::{Request, Response, Status, metadata::MetadataValue};

use super::{
    call::Call,
    convert,
    pb::{self, adjust_stock_request::Change, inventory_service_server},
    state::GrpcState,
};
use crate::{
    actors::ask::ask,
    auth::caller::Caller,
    domain::{
        account::Scope,
        ids::ProductId,
        inventory::{StockChange, StockLevel},
    },
    error::Error,
    events::inventory::StockData,
    input::{fingerprint::request_fingerprint, idempotency_key::parse_idempotency_key},
    messages::{
        catalog::ChangeStock,
        command_context::{CommandContext, IdempotencyKey, Reply},
    },
};

/// Reads and changes stock.
pub(super) struct InventoryGrpcService(pub(super) Arc<GrpcState>);

#[tonic::async_trait]
impl inventory_service_server::InventoryService for InventoryGrpcService {
    async fn get_stock(
        &self,
        request: Request<pb::GetStockRequest>,
    ) -> Result<Response<pb::Stock>, Status> {
        let (call, message) = Call::begin(&self.0, request)?;
        let found = self.find(&call, &message.product_id).await;
        found.map(Response::new).map_err(|error| call.status(&error))
    }

    async fn adjust_stock(
        &self,
        request: Request<pb::AdjustStockRequest>,
    ) -> Result<Response<pb::Stock>, Status> {
        let (call, message) = Call::begin(&self.0, request)?;
        let reply = self.change(&call, message).await;
        let (stock, is_replayed) = reply.map_err(|error| call.status(&error))?;
        let mut response = Response::new(convert::stock(&stock));
        if is_replayed {
            let replayed = MetadataValue::from_static("true");
            response.metadata_mut().insert("idempotency-replayed", replayed);
        }
        Ok(response)
    }
}

impl InventoryGrpcService {
    async fn find(&self, call: &Call<'_>, id: &str) -> Result<pb::Stock, Error> {
        call.authenticate()?.require(&[Scope::StockRead])?;
        call.honor_no_cache().await?;
        let id = id.parse().map_err(|_| Error::product_not_found())?;
        let view = self.0.catalog_cache.get(id).ok_or_else(Error::product_not_found)?;
        Ok(convert::stock(&StockData::from(&view.stock)))
    }

    /// Changes the stock. Returns it, and whether the change had been made before.
    async fn change(
        &self,
        call: &Call<'_>,
        message: pb::AdjustStockRequest,
    ) -> Result<(StockData, bool), Error> {
        let caller = call.authenticate()?.require(&[Scope::Stock])?;
        let product_id = message.product_id.parse().map_err(|_| Error::product_not_found())?;
        let (delta, set) = match message.change {
            Some(Change::Delta(delta)) => (Some(delta), None),
            Some(Change::Set(set)) => (None, Some(set)),
            None => (None, None),
        };
        // A field that is not sent is an empty one.
        let reference = Some(message.reference).filter(|reference| !reference.is_empty());
        let reason = message.reason;
        let stock_change = StockChange::from_request(delta, set, &reason, reference.as_deref())?;
        let idempotency_key = match message.idempotency_key.as_bytes() {
            [] => None,
            key => {
                let key = parse_idempotency_key(key)?;
                let fingerprint =
                    http_fingerprint(product_id, delta, set, &reason, reference.as_deref());
                Some(self.bind_key(&caller, key, fingerprint))
            }
        };
        let ticket = call.ticket();
        let context = CommandContext {
            idempotency_key,
            if_match: None,
            ticket: ticket.clone(),
            trace: call.context().trace.clone(),
            action: Some(call.action_of(&caller, "change_stock")),
        };
        let reason = Some(reason);
        let message = ChangeStock { product_id, stock_change, reason, reference, context };
        let reply: Reply<StockLevel> = ask(&self.0.catalog, message, &ticket).await?;
        match reply {
            Reply::Completed(level) => Ok((StockData::from(&level), false)),
            Reply::Replayed(stored) => {
                let stock = serde_json::from_slice(&stored.body).map_err(|error| {
                    tracing::error!(%error, "failed to read a stored reply to a change of stock");
                    Error::internal()
                })?;
                Ok((stock, true))
            }
        }
    }

    fn bind_key(&self, caller: &Caller, key: Box<str>, fingerprint: [u8; 32]) -> IdempotencyKey {
        let received_at = self.0.clock.now();
        IdempotencyKey { owner: caller.user_id, key, fingerprint, received_at }
    }
}

/// The fingerprint of the same request over HTTP, so that a key is good for a repeat over either.
fn http_fingerprint(
    product_id: ProductId,
    delta: Option<i64>,
    set: Option<i64>,
    reason: &str,
    reference: Option<&str>,
) -> [u8; 32] {
    let mut body = serde_json::Map::new();
    let numbers = [("delta", delta), ("set", set)];
    body.extend(numbers.into_iter().filter_map(|(name, n)| Some((name.to_owned(), n?.into()))));
    body.insert("reason".to_owned(), reason.into());
    body.extend(reference.map(|reference| ("reference".to_owned(), reference.into())));
    let path = format!("/api/products/{product_id}/stock");
    request_fingerprint("POST", &path, serde_json::Value::from(body).to_string().as_bytes())
}
