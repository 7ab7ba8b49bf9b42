//! A queue of the nodes that want to change the same stock.
//!
//! When all nodes sell the same product, their transactions abort each other: while one commits,
//! the work of the others is lost, and every node more makes it worse. So nodes that meet such a
//! conflict queue for a while: each draws a number and waits until it is served. Commits that
//! arrive at the node meanwhile join its next transaction.
//!
//! The queue is only a hint, since the server still decides which transaction wins. A node that
//! does not know of it, or that was so slow that its number was skipped, does no harm.

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

/// The last number that was drawn.
const DRAWN_NUMBERS: &str = "stock_tickets";

/// The number that is served. The node that has the turn raises it in its own transaction, so the
/// next node goes on as soon as that is committed, before a majority confirms it.
const SERVED_NUMBER: &str = "stock_served";

/// How long nodes go on taking turns after the last sign of contention.
const CONTENTION_PERIOD: Duration = Duration::from_secs(1);

/// How often the next in the queue looks whether it is served, at most.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(1);

/// How long a turn is expected to take until this node has seen some.
const FIRST_EXPECTED_TURN: Duration = Duration::from_millis(4);

/// The next in the queue looks this often during the turn before its own. Each look costs the
/// server nearly as much as the commit of one more change, so more of them slow down the turns.
const POLLS_PER_TURN: u32 = 6;

/// After this long without progress, a number is skipped: its node is dead or very slow.
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
    /// The number of this node, from when it is drawn until its turn is over.
    number: Option<i64>,
    /// Whether this node has waited for another one since [`StockQueue::take_has_waited`].
    has_waited: bool,
    /// How long turns take, as a moving average.
    turn_duration: Option<Duration>,
}

impl QueueState {
    fn turn_duration(&self) -> Duration {
        self.turn_duration.unwrap_or(FIRST_EXPECTED_TURN)
    }

    /// Records that `turns` turns took `elapsed`.
    fn record_turns(&mut self, turns: u32, elapsed: Duration) {
        let Some(latest) = elapsed.checked_div(turns) else { return };
        self.turn_duration = Some((self.turn_duration() * 3 + latest.min(TURN_TIMEOUT)) / 4);
    }

    /// When to look again with this many turns before this node's own.
    fn poll_delay(&self, turns_before: u32) -> Duration {
        let turn = self.turn_duration();
        let delay = match turns_before {
            0 => turn / POLLS_PER_TURN,
            // Rather a little early than late, since nobody works while the next one sleeps.
            turns => turn.saturating_mul(turns) - turn / 2,
        };
        delay.clamp(MIN_POLL_INTERVAL, TURN_TIMEOUT)
    }
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
    pub(super) fn begin_taking_turns(&self) {
        self.lock_state().contended_until = Some(Instant::now() + CONTENTION_PERIOD);
    }

    /// Whether this node has waited for others before the batch that it applies now. So they change
    /// the same stock, also if no transaction was lost.
    pub(super) fn take_has_waited(&self) -> bool {
        std::mem::take(&mut self.lock_state().has_waited)
    }

    /// Waits for this node's turn, if the stock is contended.
    pub(super) async fn wait_for_turn(&self) {
        let is_contended = self.lock_state().contended_until.is_some_and(|at| at > Instant::now());
        if !is_contended {
            return;
        }
        match timeout(MAX_WAIT, self.draw_and_wait()).await {
            Ok(Ok(())) => {}
            // The others skip the number when it is served: to end it now would end theirs, too.
            Err(_) => self.forget_number(),
            Ok(Err(error)) => {
                self.forget_number();
                tracing::debug!(
                    error = transaction_error::one_line_message(&error),
                    "failed to wait for a turn; trying without"
                );
            }
        }
    }

    async fn draw_and_wait(&self) -> Result<()> {
        // The last turn was not used if all commits that waited for it had expired.
        let unused = self.lock_state().number.take();
        if let Some(number) = unused {
            self.skip_number(number).await?;
        }
        let number = self.draw_number().await?;
        self.lock_state().number = Some(number);
        let (mut served, mut progressed) = (None, Instant::now());
        loop {
            let found = self.read_served_number().await?;
            if found >= number {
                return Ok(());
            }
            // Others are in the queue, so the stock is still contended.
            self.begin_taking_turns();
            self.lock_state().has_waited = true;
            match served {
                Some(before) if before == found => {
                    if progressed.elapsed() > TURN_TIMEOUT {
                        self.skip_number(found).await?;
                    }
                }
                _ => {
                    let turns = served.and_then(|before| u32::try_from(found - before).ok());
                    self.lock_state().record_turns(turns.unwrap_or(0), progressed.elapsed());
                    (served, progressed) = (Some(found), Instant::now());
                }
            }
            let turns_before = u32::try_from(number - found - 1).unwrap_or(u32::MAX);
            let delay = self.lock_state().poll_delay(turns_before);
            sleep(delay).await;
        }
    }

    async fn draw_number(&self) -> Result<i64> {
        let drawn = self
            .counters
            .find_one_and_update(doc! { "_id": DRAWN_NUMBERS }, doc! { "$inc": { "last": 1_i64 } })
            .upsert(true)
            .return_document(ReturnDocument::After)
            .await?;
        Ok(drawn.and_then(|counter| counter.get_i64("last").ok()).unwrap_or(0))
    }

    async fn read_served_number(&self) -> Result<i64> {
        let counter = self.counters.find_one(doc! { "_id": SERVED_NUMBER }).await?;
        Ok(counter.and_then(|counter| counter.get_i64("last").ok()).unwrap_or(1))
    }

    /// Serves the number after `number`, unless it is already over.
    async fn skip_number(&self, number: i64) -> Result<()> {
        let next = doc! { "$max": { "last": number + 1 } };
        self.counters.update_one(doc! { "_id": SERVED_NUMBER }, next).upsert(true).await.map(drop)
    }

    /// The statement that ends this node's turn, if it has one, together with a transaction.
    pub(super) fn end_turn_statement(&self) -> Option<RawDocumentBuf> {
        let number = self.lock_state().number?;
        Some(rawdoc! {
            "q": { "_id": SERVED_NUMBER }, "u": { "$max": { "last": number + 1 } }, "upsert": true,
        })
    }

    /// Drops this node's number, because its turn has ended or will be skipped by the others.
    pub(super) fn forget_number(&self) {
        self.lock_state().number = None;
    }

    /// Ends this node's turn if no transaction has ended it. The write runs in the background: if
    /// it fails, the turn times out.
    pub(super) fn release_turn(self: &Arc<Self>) {
        let number = self.lock_state().number.take();
        if let Some(number) = number {
            let queue = Arc::clone(self);
            tokio::spawn(async move { queue.skip_number(number).await });
        }
    }

    fn lock_state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
