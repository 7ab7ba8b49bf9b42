//! A queue of the nodes that want to change the same stock.
//!
//! When all nodes sell the same product, their transactions abort each other: while one commits,
//! the others do all their work in vain, and the more nodes there are, the less gets done. So nodes
//! that meet such a conflict take turns for a while. Each draws a ticket, and waits until it is
//! served. What is queued on the node meanwhile shares the transaction.
//!
//! Turns are only a hint, since the server still decides which transaction wins. A node that does
//! not know of the queue, or a node that lost its turn because it was slow, does no harm.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mongodb::{
    Collection, Database,
    bson::{Document, RawDocumentBuf, doc, rawdoc},
    error::Result,
    options::{Acknowledgment, CollectionOptions, ReadConcern, ReturnDocument, WriteConcern},
};
use tokio::time::{Instant, sleep, timeout};

use super::{schema::COUNTERS, transaction_error};

/// Counts the tickets that were drawn.
const TICKETS: &str = "stock_tickets";

/// Has the ticket that is served. Whoever has the turn writes it, in the transaction itself: so the
/// next node may go on as soon as the transaction is committed, before a majority confirms that.
const SERVED_TICKET: &str = "stock_served";

/// How long nodes go on taking turns after the last sign of contention.
const CONTENTION_PERIOD: Duration = Duration::from_secs(1);

/// How often the next in the queue looks whether it is served.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// How long a turn is expected to take at least. Those farther back look less often.
const EXPECTED_TURN: Duration = Duration::from_millis(3);

/// After this long without progress, a ticket is skipped: its node is dead or very slow.
const TURN_TIMEOUT: Duration = Duration::from_millis(500);

/// The longest wait for a turn. After that the node tries without.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The queue, and this node's place in it.
pub(super) struct StockQueue {
    counters: Collection<Document>,
    state: Mutex<QueueState>,
}

#[derive(Default)]
struct QueueState {
    /// Until when this node takes turns.
    contended_until: Option<Instant>,
    /// The ticket of this node, from when it is drawn until its turn is over.
    ticket: Option<i64>,
}

impl StockQueue {
    pub(super) fn new(database: &Database) -> Self {
        // Only a hint: it need not survive a failover.
        let options = CollectionOptions::builder()
            .read_concern(ReadConcern::local())
            .write_concern(WriteConcern::builder().w(Acknowledgment::Nodes(1)).build())
            .build();
        Self {
            counters: database.collection_with_options(COUNTERS, options),
            state: Mutex::default(),
        }
    }

    /// Records that nodes compete for stock: for [`CONTENTION_PERIOD`] from now on, this node waits
    /// for its turn before it changes any.
    pub(super) fn record_contention(&self) {
        self.lock_state().contended_until = Some(Instant::now() + CONTENTION_PERIOD);
    }

    /// Waits for this node's turn, if the stock is contended.
    pub(super) async fn wait_for_turn(&self) {
        let is_contended = self.lock_state().contended_until.is_some_and(|at| at > Instant::now());
        if !is_contended {
            return;
        }
        match timeout(MAX_WAIT, self.draw_and_wait()).await {
            Ok(Ok(())) => {}
            // The others skip the ticket when it is served: to end it now would end theirs, too.
            Err(_) => self.forget_ticket(),
            Ok(Err(error)) => {
                self.forget_ticket();
                tracing::debug!(
                    error = transaction_error::one_line_message(&error),
                    "failed to wait for a turn; trying without"
                );
            }
        }
    }

    async fn draw_and_wait(&self) -> Result<()> {
        // The last turn was not used if all commits that waited for it had expired.
        let unused = self.lock_state().ticket.take();
        if let Some(ticket) = unused {
            self.skip_ticket(ticket).await?;
        }
        let ticket = self.draw_ticket().await?;
        self.lock_state().ticket = Some(ticket);
        let (mut served, mut progressed) = (0, Instant::now());
        loop {
            let found = self.read_served_ticket().await?;
            if found >= ticket {
                return Ok(());
            }
            // Others are in the queue, so the stock is still contended.
            self.record_contention();
            if found != served {
                (served, progressed) = (found, Instant::now());
            } else if progressed.elapsed() > TURN_TIMEOUT {
                self.skip_ticket(served).await?;
            }
            let turns_before = u32::try_from(ticket - found - 1).unwrap_or(u32::MAX);
            sleep(EXPECTED_TURN.saturating_mul(turns_before).clamp(POLL_INTERVAL, TURN_TIMEOUT))
                .await;
        }
    }

    async fn draw_ticket(&self) -> Result<i64> {
        let drawn = self
            .counters
            .find_one_and_update(doc! { "_id": TICKETS }, doc! { "$inc": { "last": 1_i64 } })
            .upsert(true)
            .return_document(ReturnDocument::After)
            .await?;
        Ok(drawn.and_then(|counter| counter.get_i64("last").ok()).unwrap_or(0))
    }

    async fn read_served_ticket(&self) -> Result<i64> {
        let counter = self.counters.find_one(doc! { "_id": SERVED_TICKET }).await?;
        Ok(counter.and_then(|counter| counter.get_i64("last").ok()).unwrap_or(1))
    }

    /// Serves the ticket after `ticket`, unless it is already over.
    async fn skip_ticket(&self, ticket: i64) -> Result<()> {
        let next = doc! { "$max": { "last": ticket + 1 } };
        self.counters.update_one(doc! { "_id": SERVED_TICKET }, next).upsert(true).await.map(drop)
    }

    /// The statement that ends this node's turn, if it has one, together with a transaction.
    pub(super) fn end_turn_statement(&self) -> Option<RawDocumentBuf> {
        let ticket = self.lock_state().ticket?;
        Some(rawdoc! {
            "q": { "_id": SERVED_TICKET }, "u": { "$max": { "last": ticket + 1 } }, "upsert": true,
        })
    }

    /// Drops this node's ticket, because its turn has ended or will be skipped by the others.
    pub(super) fn forget_ticket(&self) {
        self.lock_state().ticket = None;
    }

    /// Ends this node's turn if no transaction has ended it. The write runs in the background: if
    /// it fails, the turn times out.
    pub(super) fn release_turn(self: &Arc<Self>) {
        let ticket = self.lock_state().ticket.take();
        if let Some(ticket) = ticket {
            let queue = Arc::clone(self);
            tokio::spawn(async move { queue.skip_ticket(ticket).await });
        }
    }

    fn lock_state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
