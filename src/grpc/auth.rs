//! `souk.v1.AuthService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    call::Call,
    convert,
    pb::{self, auth_service_server},
    state::GrpcState,
};
use crate::domain::clock::Timestamp;

/// Checks access tokens for other services.
pub(super) struct AuthGrpcService(pub(super) Arc<GrpcState>);

#[tonic::async_trait]
impl auth_service_server::AuthService for AuthGrpcService {
    async fn validate_token(
        &self,
        request: Request<pb::ValidateTokenRequest>,
    ) -> Result<Response<pb::ValidateTokenResponse>, Status> {
        let (_, message) = Call::begin(&self.0, request)?;
        let response = match self.0.authenticator.authenticate(&message.token) {
            Ok(caller) => pb::ValidateTokenResponse {
                valid: true,
                user_id: caller.user_id.to_string(),
                role: caller.rights.role.as_str().to_owned(),
                expires_at: (caller.expires_at != Timestamp::NEVER)
                    .then(|| convert::timestamp(caller.expires_at)),
                code: String::new(),
            },
            Err(error) => pb::ValidateTokenResponse {
                code: error.code.as_str().to_owned(),
                ..pb::ValidateTokenResponse::default()
            },
        };
        Ok(Response::new(response))
    }
}
