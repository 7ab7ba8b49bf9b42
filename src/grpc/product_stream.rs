//! A stream of products, which holds little, however many there are and however slowly they are
//! read.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::Stream;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tonic::Status;

use super::{
    call::{CallContext, deadline_error},
    convert, pb,
    state::GrpcState,
};
use crate::{
    admission::feed_limiter::FeedPermit,
    auth::caller::Caller,
    domain::ids::ProductId,
    error::{Error, ErrorCode},
    messages::catalog::ProductView,
};

/// Products that are ready to be sent. They are those of the cache and not copies.
const QUEUED_PRODUCTS: usize = 16;

/// What a stream is made of.
pub(super) struct StreamStart {
    pub(super) state: Arc<GrpcState>,
    pub(super) context: Arc<CallContext>,
    /// The caller, whose session must not end, if it had to be known.
    pub(super) caller: Option<Caller>,
    /// The products to send.
    pub(super) ids: Vec<ProductId>,
    /// The place of the stream, which is given back when the task ends.
    pub(super) _permit: FeedPermit,
}

/// A stream of products. Besides the ids, 16 bytes for each product, it holds a few messages: what
/// the client has no room for yet is not made.
///
/// A task looks the products up and waits until the client takes them, since nobody asks a stream
/// for more while its client takes nothing. So it can give up on a client that stalls, and so give
/// its place back.
pub(super) struct ProductStream {
    products: mpsc::Receiver<Arc<ProductView>>,
    /// How the task has ended; `None` after that was told.
    end: Option<oneshot::Receiver<Result<(), Error>>>,
    context: Arc<CallContext>,
}

impl ProductStream {
    pub(super) fn begin(start: StreamStart) -> Self {
        let (sender, products) = mpsc::channel(QUEUED_PRODUCTS);
        let (end_sender, end) = oneshot::channel();
        let context = Arc::clone(&start.context);
        tokio::spawn(async move {
            let result = start.send_all(&sender).await;
            // The receiver must find the end when it finds that no product follows.
            let _ = end_sender.send(result);
            drop(sender);
        });
        Self { products, end: Some(end), context }
    }
}

impl StreamStart {
    async fn send_all(&self, products: &mpsc::Sender<Arc<ProductView>>) -> Result<(), Error> {
        let of_caller = self.context.deadline.of_caller.map(Instant::from_std);
        for id in &self.ids {
            // A product that was deleted meanwhile is left out.
            let Some(view) = self.state.catalog_cache.get(*id) else { continue };
            if self
                .caller
                .is_some_and(|caller| self.state.authenticator.reauthenticate(&caller).is_none())
            {
                let detail = "The session has ended. Log in again.";
                return Err(Error::new(ErrorCode::Unauthenticated, detail));
            }
            let stalled = Instant::now() + self.state.options.write_timeout;
            let give_up = of_caller.map_or(stalled, |deadline| deadline.min(stalled));
            match timeout_at(give_up, products.send(view)).await {
                Ok(Ok(())) if of_caller.is_none_or(|deadline| Instant::now() < deadline) => {}
                // The client is gone.
                Ok(Err(_)) => return Ok(()),
                Ok(Ok(())) | Err(_) => return Err(deadline_error()),
            }
        }
        Ok(())
    }
}

impl Stream for ProductStream {
    type Item = Result<pb::Product, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.products.poll_recv(cx) {
            Poll::Ready(Some(view)) => {
                let product = convert::product(&view);
                Poll::Ready(Some(product.map_err(|error| self.context.status(&error))))
            }
            Poll::Ready(None) => self.poll_end(cx),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl ProductStream {
    /// The end: nothing more, or why products are missing.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<pb::Product, Status>>> {
        let Some(end) = &mut self.end else { return Poll::Ready(None) };
        let Poll::Ready(result) = Pin::new(end).poll(cx) else { return Poll::Pending };
        self.end = None;
        // Without a result, the task has panicked.
        let error = result.unwrap_or_else(|_| Err(Error::internal())).err();
        Poll::Ready(error.map(|error| Err(self.context.status(&error))))
    }
}
