//! `souk.v1.CatalogService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    call::Call,
    convert::{self, check_length},
    pb::{self, catalog_service_server},
    product_stream::{ProductStream, StreamStart},
    state::GrpcState,
};
use crate::{domain::validation::ValidationErrors, error::Error};

/// Reads the catalog.
pub(super) struct CatalogGrpcService(pub(super) Arc<GrpcState>);

#[tonic::async_trait]
impl catalog_service_server::CatalogService for CatalogGrpcService {
    type ListProductsStream = ProductStream;

    async fn get_product(
        &self,
        request: Request<pb::GetProductRequest>,
    ) -> Result<Response<pb::Product>, Status> {
        let (call, message) = Call::begin(&self.0, request)?;
        let found = self.find(&call, &message.product_id).await;
        found.map(Response::new).map_err(|error| call.status(&error))
    }

    async fn batch_get_products(
        &self,
        request: Request<pb::BatchGetProductsRequest>,
    ) -> Result<Response<pb::BatchGetProductsResponse>, Status> {
        let (call, message) = Call::begin(&self.0, request)?;
        let found = self.find_all(&call, message.ids).await;
        found.map(Response::new).map_err(|error| call.status(&error))
    }

    async fn list_products(
        &self,
        request: Request<pb::ListProductsRequest>,
    ) -> Result<Response<ProductStream>, Status> {
        let (call, message) = Call::begin(&self.0, request)?;
        let stream = self.begin_stream(&call, message.filter.unwrap_or_default()).await;
        stream.map(Response::new).map_err(|error| call.status(&error))
    }
}

impl CatalogGrpcService {
    async fn find(&self, call: &Call<'_>, id: &str) -> Result<pb::Product, Error> {
        call.authorize_catalog_read()?;
        call.honor_no_cache().await?;
        let id = id.parse().map_err(|_| Error::product_not_found())?;
        let view = self.0.catalog_cache.get(id).ok_or_else(Error::product_not_found)?;
        convert::product(&view)
    }

    async fn find_all(
        &self,
        call: &Call<'_>,
        ids: Vec<String>,
    ) -> Result<pb::BatchGetProductsResponse, Error> {
        call.authorize_catalog_read()?;
        let mut errors = ValidationErrors::new();
        check_length("ids", ids.len(), &mut errors);
        errors.into_result(())?;
        call.honor_no_cache().await?;
        let mut response = pb::BatchGetProductsResponse::default();
        for id in ids {
            match id.parse().ok().and_then(|id| self.0.catalog_cache.get(id)) {
                Some(view) => response.products.push(convert::product(&view)?),
                None => response.not_found.push(id),
            }
        }
        Ok(response)
    }

    async fn begin_stream(
        &self,
        call: &Call<'_>,
        filter: pb::ProductFilter,
    ) -> Result<ProductStream, Error> {
        let state = &self.0;
        let caller = call.authorize_catalog_read()?;
        let filter =
            convert::product_filter(filter, state.options.currency, state.catalog_cache.rules())?;
        call.honor_no_cache().await?;
        let address = call.context().address;
        let client = (!state.connections.is_trusted_proxy(address)).then_some(address);
        let permit = state.feed_limiter.admit(client, caller.map(|caller| caller.user_id))?;
        let cache = Arc::clone(&state.catalog_cache);
        // It looks at every product, which takes a while if there are many. The place is held until
        // then, even if the caller gives up.
        let search = tokio::task::spawn_blocking(move || (cache.find_ids(&filter), permit));
        let (ids, permit) = search.await.map_err(|error| {
            tracing::error!(%error, "a search of the catalog panicked");
            Error::internal()
        })?;
        let ids = ids.map_err(|_| Error::overloaded())?;
        let context = Arc::clone(call.context());
        let state = Arc::clone(state);
        Ok(ProductStream::begin(StreamStart { state, context, caller, ids, _permit: permit }))
    }
}
