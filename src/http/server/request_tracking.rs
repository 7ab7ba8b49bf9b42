//! Tells a connection that a request is in progress, until its response is sent.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_web::{
    Error,
    body::{BodySize, BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
    web::Bytes,
};

use super::client_stream::{RequestActivity, RunningRequest};

/// Counts the request on its connection. It wraps all other middleware.
pub(super) async fn track_request(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<GuardedBody<RunningRequest>>, Error> {
    let running = request.conn_data::<Rc<RequestActivity>>().map(RequestActivity::begin_request);
    let response = next.call(request).await?;
    Ok(response.map_body(|_, body| GuardedBody::new(body.boxed(), running)))
}

/// A body that holds something until it is sent, or given up.
pub(in crate::http) struct GuardedBody<G> {
    body: BoxBody,
    _guard: Option<G>,
}

impl<G> GuardedBody<G> {
    /// Holds `guard` as long as `body`.
    pub(in crate::http) const fn new(body: BoxBody, guard: Option<G>) -> Self {
        Self { body, _guard: guard }
    }
}

impl<G: Unpin> MessageBody for GuardedBody<G> {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(cx)
    }
}
