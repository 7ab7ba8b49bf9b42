//! Following the outbox of a shared store: how a node hears of what other nodes have made durable.
//!
//! Every change leaves its events in the outbox in the same transaction, in commit order. Whoever has looked at all of them up to
//! some place knows of every change that was acknowledged before that place was read.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::{
    actors::{catalog::shelf::Shelf, feed::Feed},
    domain::{clock::Clock, ids::ProductId, ids::SessionId},
    messages::events::Published,
    store::{News, Store, Unavailable, writer::Observer},
};

/// How often to look for news that nobody waits for.
const PAUSE: Duration = Duration::from_millis(50);

/// Events looked at together.
const PAGE: u32 = 1000;

/// Brings this node's caches up to date with what other nodes have done.
pub struct Follower {
    store: Arc<dyn Store>,
    caches: Arc<dyn Observer>,
    shelf: Arc<Shelf>,
    feed: Arc<Feed>,
    clock: Arc<dyn Clock>,
    /// The last event that was looked at.
    position: Mutex<u64>,
}

/// Makes sure that a decision not to change anything rests on what is true now, on a node that is not alone.
pub(crate) struct SecondThought<'a> {
    follower: Option<&'a Follower>,
}

impl<'a> SecondThought<'a> {
    /// One for a node that follows others, if it does.
    pub(crate) const fn of(follower: Option<&'a Follower>) -> Self {
        Self { follower }
    }

    /// Whether to decide again, since the caches were brought up to date; true once at most.
    ///
    /// # Errors
    /// The store does not answer.
    pub(crate) async fn is_due(&mut self) -> Result<bool, Unavailable> {
        match self.follower.take() {
            Some(follower) => follower.catch_up().await.map(|()| true),
            None => Ok(false),
        }
    }
}

/// What of an event tells which cache it concerns.
#[derive(Deserialize)]
struct Heading {
    subject: Uuid,
    sequence: String,
    data: Details,
}

#[derive(Deserialize)]
struct Details {
    session_id: Option<SessionId>,
}

impl Follower {
    /// Follows from here on: what the caches are filled with afterwards is at least as new as this.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn begin(
        store: &Arc<dyn Store>,
        caches: &Arc<impl Observer + 'static>,
        shelf: &Arc<Shelf>,
        feed: &Arc<Feed>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<Self>, Unavailable> {
        Ok(Arc::new(Self {
            store: Arc::clone(store),
            caches: Arc::clone(caches) as Arc<dyn Observer>,
            shelf: Arc::clone(shelf),
            feed: Arc::clone(feed),
            clock: Arc::clone(clock),
            position: Mutex::new(store.last_position().await?),
        }))
    }

    /// Looks for news for ever.
    pub async fn follow(self: Arc<Self>) {
        let mut away = false;
        loop {
            tokio::time::sleep(PAUSE).await;
            match self.catch_up().await {
                Ok(()) => away = false,
                Err(Unavailable) if !away => {
                    away = true;
                    tracing::warn!("news of other nodes cannot be read; trying again");
                }
                Err(Unavailable) => {}
            }
        }
    }

    /// Brings the caches up to everything that was acknowledged by any node before this was called.
    ///
    /// # Errors
    /// The store does not answer; the caches are as they were.
    pub async fn catch_up(&self) -> Result<(), Unavailable> {
        let goal = self.store.last_position().await?;
        let mut position = self.position.lock().await;
        while *position < goal {
            let page = self.store.events_after(*position, PAGE).await?;
            let Some(last) = page.last().map(|event| event.position) else { return Ok(()) };
            self.tell(page).await?;
            *position = last;
        }
        Ok(())
    }

    async fn tell(&self, page: Vec<Published>) -> Result<(), Unavailable> {
        let mut news = News::default();
        let mut products: Vec<ProductId> = Vec::new();
        for event in &page {
            let Ok(heading) = serde_json::from_slice::<Heading>(&event.body) else {
                tracing::error!(id = %event.id, kind = event.kind, "an event cannot be read; its caches may be old");
                continue;
            };
            let (subject, version) = (heading.subject, heading.sequence.parse().unwrap_or(u64::MAX));
            let known = self.shelf.get(subject.into());
            match event.kind.split('.').next() {
                // What this node did itself is on the shelf already.
                Some("catalog") if known.as_ref().is_some_and(|view| view.product.version >= version) => {}
                Some("inventory") if known.as_ref().is_some_and(|view| view.stock.version >= version) => {}
                Some("catalog" | "inventory") => products.push(subject.into()),
                Some("cart") => news.carts.push((subject.into(), version)),
                Some("auth") => news.revoked.extend(heading.data.session_id.map(|id| (id, self.clock.now()))),
                _ => {}
            }
        }
        products.sort_unstable();
        products.dedup();
        for id in products {
            if let Some((product, stock)) = self.store.product(id).await? {
                news.products.push(Arc::new(product));
                news.stock.push(stock);
            }
        }
        self.caches.committed(&news);
        self.feed.apply(&News { events: page, ..News::default() });
        Ok(())
    }
}
