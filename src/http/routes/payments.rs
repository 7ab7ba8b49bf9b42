//! The messages of payment providers.

use actix_web::{
    HttpRequest, HttpResponse,
    dev::Payload,
    web::{self, Bytes},
};

use crate::{
    actors::ask::ask,
    error::{Error, ErrorCode},
    http::{
        request::{
            body::{RequestBody, read_bytes},
            extract::{Anyone, ChangeRequest},
        },
        response::problem::{Problem, ProblemDetails},
    },
    messages::orders::ApplyProviderMessage,
    payments::MessageError,
};

/// Registers the routes of this module.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config.service(web::resource("/api/payments/stripe/webhook").post(stripe));
}

/// A body as it was sent, since its bytes are signed.
pub(crate) struct RawBody(Bytes);

impl RequestBody for RawBody {
    async fn read(request: &HttpRequest, payload: Payload) -> Result<(Self, Bytes), Error> {
        let bytes = read_bytes(request, payload).await?;
        Ok((Self(bytes.clone()), bytes))
    }
}

/// Take a message of Stripe.
///
/// The answer comes once what it does is durable. A message works once, however often it comes.
#[utoipa::path(post, path = "/api/payments/stripe/webhook", operation_id = "take_stripe_webhook",
tag = "Orders", security(()), params(
    ("Stripe-Signature" = String, Header, description = "The time and the signature."),
), request_body(content = Object, content_type = "application/json"), responses(
    (status = 200, description = "The message is known, or about nothing of this shop."),
    (status = 400, body = ProblemDetails,
        description = "`signature_invalid`: not signed by Stripe, or over 5 minutes ago"),
    (status = 404, body = ProblemDetails, description = "`not_found`: Stripe is not set up"),
    (status = 503, body = ProblemDetails,
        description = "`overloaded`, `store_unavailable`: send it again"),
))]
pub(crate) async fn stripe(
    change: ChangeRequest<Anyone, RawBody>,
) -> Result<HttpResponse, Problem> {
    let Some(provider) = &change.state.provider else {
        return Err(Error::new(ErrorCode::NotFound, "Stripe is not set up in this shop.").into());
    };
    let signature = change.request.headers().get("stripe-signature");
    let signature = signature.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let message = match provider.read_message(&change.body.0, signature, change.state.clock.now()) {
        Ok(message) => message,
        Err(MessageError::SignatureInvalid) => {
            let detail = "The message is not signed with payments.stripe.webhook_secret, or \
                    was signed more than 5 minutes ago.";
            return Err(Error::new(ErrorCode::SignatureInvalid, detail).into());
        }
        Err(MessageError::Malformed) => {
            tracing::warn!("failed to read a message of the payment provider");
            None
        }
    };
    if let Some(message) = message {
        let ticket = change.ticket();
        let message = ApplyProviderMessage { message, ticket: ticket.clone() };
        ask(&change.state.orders, message, &ticket).await?;
    }
    Ok(HttpResponse::Ok().finish())
}
