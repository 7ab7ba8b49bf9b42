//! `souk.v1.CartService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    call::Call,
    convert_cart,
    pb::{self, cart_service_server},
    state::GrpcState,
};
use crate::{auth::caller::Caller, error::Error};

/// Reads carts.
pub(super) struct CartGrpcService(pub(super) Arc<GrpcState>);

#[tonic::async_trait]
impl cart_service_server::CartService for CartGrpcService {
    async fn get_cart(
        &self,
        request: Request<pb::GetCartRequest>,
    ) -> Result<Response<pb::Cart>, Status> {
        let (call, message) = Call::begin(&self.0, request)?;
        call.authenticate().map_err(|error| call.status(&error))?;
        // The user's token gives access to the cart, and to nothing else here.
        let user = self.0.authenticator.authenticate(&message.user_token);
        let user = user.and_then(Caller::require_no_key);
        let user = user.map_err(|error| call.user_token_status(&error))?;
        let found = self.find(&call, &user).await;
        found.map(Response::new).map_err(|error| call.status(&error))
    }
}

impl CartGrpcService {
    async fn find(&self, call: &Call<'_>, user: &Caller) -> Result<pb::Cart, Error> {
        call.honor_no_cache().await?;
        let state = &self.0;
        let view = state.carts.read_cart(user.owner(), &call.ticket()).await?;
        convert_cart::cart(&view.cart, &state.carts.price_cart(&view.cart))
    }
}
