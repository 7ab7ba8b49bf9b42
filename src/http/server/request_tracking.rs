//! Tells a connection that a request is in progress, until its response is sent.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    dev::ServiceRequest,
    web::Bytes,
};

use super::client_stream::{RequestActivity, RunningRequest};

/// Counts the request on its connection until the result is dropped. The servers for operators and
/// of tests do not count.
pub(in crate::http) fn track_request(request: &ServiceRequest) -> Option<RunningRequest> {
    request.conn_data::<Rc<RequestActivity>>().map(RequestActivity::begin_request)
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
