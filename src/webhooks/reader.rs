//! Reads the outbox for one endpoint: from the store while it is behind, then from the feed, which
//! reads each page once for all.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    task::JoinSet,
    time::sleep,
};

use crate::{
    domain::ids::WebhookId,
    events::OutboxCursor,
    outbox::feed::{Feed, FeedPage},
    store::Store,
};

/// The events on a page that is read from the store. Few, since an endpoint that hangs holds them
/// in memory.
const PAGE_SIZE: u32 = 64;

/// The pause after a read that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// A page, and the cursor of what was read before it: the page may begin earlier.
pub(super) struct ReadPage {
    pub(super) page: Arc<FeedPage>,
    pub(super) after: OutboxCursor,
}

/// Pages of the outbox, until it is dropped.
pub(super) struct OutboxReader {
    pages: mpsc::Receiver<ReadPage>,
    /// Ends with the reader.
    _task: JoinSet<()>,
}

impl OutboxReader {
    /// Reads what follows `cursor`.
    pub(super) fn start(
        webhook: WebhookId,
        store: Arc<dyn Store>,
        feed: Arc<Feed>,
        cursor: OutboxCursor,
    ) -> Self {
        let (sender, pages) = mpsc::channel(1);
        let mut task = JoinSet::new();
        task.spawn(read(webhook, store, feed, cursor, sender));
        Self { pages, _task: task }
    }

    /// The next page. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<ReadPage> {
        self.pages.recv().await
    }
}

async fn read(
    webhook: WebhookId,
    store: Arc<dyn Store>,
    feed: Arc<Feed>,
    mut cursor: OutboxCursor,
    pages: mpsc::Sender<ReadPage>,
) {
    let mut live = feed.listen();
    let mut is_behind = true;
    loop {
        let page = if is_behind {
            let Ok(page) = store.list_events_after(&cursor, PAGE_SIZE).await else {
                // The store has logged the error.
                sleep(RETRY_PAUSE).await;
                continue;
            };
            is_behind = page.has_more;
            if page.has_gap {
                tracing::warn!(%webhook, "events were deleted before a webhook received them");
            }
            Arc::new(FeedPage::new(cursor.clone(), page))
        } else {
            match live.recv().await {
                Ok(page) if cursor.covers(&page.start) && !page.has_gap => page,
                Ok(_) | Err(RecvError::Lagged(_)) => {
                    is_behind = true;
                    continue;
                }
                Err(RecvError::Closed) => return,
            }
        };
        if cursor.covers(&page.end) {
            continue;
        }
        let after = cursor.clone();
        cursor.merge(&page.end);
        if pages.send(ReadPage { page, after }).await.is_err() {
            return;
        }
    }
}
