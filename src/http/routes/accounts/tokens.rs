//! The routes for checking access tokens: by asking this server, or with its public keys.

use actix_web::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    domain::clock::Timestamp,
    http::{
        openapi::enums::{self, TokenFault},
        request::{
            body::JsonRequest,
            extract::{Anyone, ChangeRequest, ReadRequest},
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
    },
};

/// A token to check.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ValidateRequest {
    #[schema(examples("eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl"))]
    token: String,
}

/// Whether a token is valid. A valid one has `user_id`, `role` and `expires_at`, another `code`. An
/// API key has its own id as `user_id`, and no `expires_at` if it does not expire.
#[derive(Serialize, ToSchema)]
#[schema(examples(
    json!({"valid": true, "user_id": "01936f5e-8a3b-7c41-9d52-6f0e1b2a3c4d", "role": "customer",
        "expires_at": "2026-03-14T09:41:53.000Z"}),
    json!({"valid": false, "code": "token_expired"})
))]
pub(crate) struct ValidateResponse {
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    user_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = enums::Role, required = false)]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, nullable = false)]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = TokenFault, required = false)]
    code: Option<&'static str>,
}

/// A JSON Web Key Set (RFC 7517).
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `token` publishes")]
pub(crate) struct KeySetResponse {
    keys: Vec<KeyResponse>,
}

/// A public key (RFC 8037), of the kind `OKP`. There are two while keys are rotated.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as with `KeySetResponse`")]
pub(crate) struct KeyResponse {
    #[schema(examples("OKP"))]
    kty: String,
    #[schema(examples("Ed25519"))]
    crv: String,
    /// The key itself.
    #[schema(examples("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"))]
    x: String,
    #[schema(examples("EdDSA"))]
    alg: String,
    /// The thumbprint of the key (RFC 7638).
    #[schema(examples("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"))]
    kid: String,
    #[serde(rename = "use")]
    #[schema(examples("sig"))]
    usage: String,
}

impl JsonRequest for ValidateRequest {}

/// Check an access token.
///
/// This is for services that cannot check a token themselves. For an invalid token, the response is
/// 200 with `valid: false`.
#[utoipa::path(post, path = "/api/auth/validate", operation_id = "validate_token",
tag = "Auth", security(()), request_body = ValidateRequest, responses(
    (status = 200, body = ValidateResponse),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
pub(super) async fn validate(change: ChangeRequest<Anyone, ValidateRequest>) -> RouteResult {
    let response = match change.state.authenticator.authenticate(&change.body.token) {
        Ok(caller) => ValidateResponse {
            valid: true,
            user_id: Some(caller.user_id.as_uuid()),
            role: Some(caller.rights.role.as_str()),
            expires_at: (caller.expires_at != Timestamp::NEVER)
                .then(|| caller.expires_at.to_string()),
            code: None,
        },
        Err(error) => ValidateResponse {
            valid: false,
            user_id: None,
            role: None,
            expires_at: None,
            code: Some(error.code.as_str()),
        },
    };
    Ok(ApiResponse::json(StatusCode::OK, &response)?.with_no_store())
}

/// Get the keys that access tokens can be checked with.
///
/// This is a JSON Web Key Set (RFC 7517). It is empty when tokens are signed with a shared secret.
/// The `kid` of a token says which of the keys it is signed with.
#[utoipa::path(get, path = "/.well-known/jwks.json", operation_id = "get_signing_keys",
tag = "Auth", security(()), responses((status = 200, body = KeySetResponse)))]
pub(super) async fn jwks(read: ReadRequest<Anyone>) -> RouteResult {
    Ok(ApiResponse::json(StatusCode::OK, read.state.authenticator.tokens().jwks())?)
}
