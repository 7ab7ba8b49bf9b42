//! One transaction, step by step. Every step ends by a given time.

use std::{future::IntoFuture, time::Duration};

use mongodb::{
    ClientSession, Database,
    bson::{Document, RawArrayBuf, RawDocument, RawDocumentBuf, doc, rawdoc},
};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use super::{
    documents::DocumentError,
    failure::{ErrorClass, TransactionError},
    schema::{COUNTERS, OUTBOX},
};

/// Most bytes of documents in one command. The server takes 16 MiB.
const MAX_COMMAND_BYTES: usize = 12 * 1024 * 1024;

/// Between two tries to commit.
const COMMIT_RETRY_DELAY: Duration = Duration::from_millis(30);

/// What to write, and the record by which its commit is found when the server refuses it.
pub(super) struct Statement {
    pub(super) record_id: Uuid,
    pub(super) body: RawDocumentBuf,
}

/// A transaction that has been begun.
pub(super) struct Transaction<'a> {
    pub(super) database: &'a Database,
    pub(super) session: &'a mut ClientSession,
    /// Until when each step but the commit may take.
    pub(super) deadline: Instant,
}

/// `step`, unless it takes too long.
pub(super) async fn with_deadline<T>(
    until: Instant,
    step: impl Future<Output = mongodb::error::Result<T>>,
) -> Result<T, TransactionError> {
    match timeout_at(until, step).await {
        Ok(done) => done.map_err(|error| TransactionError::from(&error)),
        Err(_) => Err(TransactionError::timed_out()),
    }
}

impl Transaction<'_> {
    async fn run_command(&mut self, command: RawDocumentBuf) -> Result<Document, TransactionError> {
        with_deadline(
            self.deadline,
            self.database.run_raw_command(command).session(&mut *self.session).into_future(),
        )
        .await
    }

    /// Reads every document that `filter` finds.
    pub(super) async fn for_each_document(
        &mut self,
        collection: &str,
        filter: Document,
        fields: Document,
        mut each: impl FnMut(&RawDocument) -> Result<(), DocumentError>,
    ) -> Result<(), TransactionError> {
        let collection = self.database.collection::<RawDocumentBuf>(collection);
        let find = collection
            .find(filter)
            .projection(fields)
            .batch_size(10_000)
            .session(&mut *self.session);
        let mut cursor = with_deadline(self.deadline, find.into_future()).await?;
        while with_deadline(self.deadline, cursor.advance(self.session)).await? {
            each(cursor.current())
                .map_err(|unfit| unreadable_document_error(cursor.current(), unfit))?;
        }
        Ok(())
    }

    /// Takes the turn to append to the outbox, and tells its last position.
    ///
    /// Positions are in commit order over all nodes, without gaps, because one document is written by every transaction that appends:
    /// of two that overlap the server lets one go on. Readers can then go by position alone; with a stream for each node they would
    /// have to merge streams, know which nodes exist, and wait for the slowest. What it costs is that transactions with events do not
    /// overlap. They may still wait for their majority side by side, since the document is free again when the primary has committed.
    ///
    /// It is written first: a transaction reads from a snapshot, so one that wrote it last would still lose to any other that committed
    /// since its snapshot, but only after all its work.
    ///
    /// So many positions as are `expected` to be needed are taken at once; [`set_last_outbox_position`](Self::end_turn) is for when it was another number.
    pub(super) async fn reserve_outbox_positions(
        &mut self,
        expected: u64,
    ) -> Result<u64, TransactionError> {
        let expected = i64::try_from(expected)
            .map_err(|_| TransactionError::permanent("the outbox is full"))?;
        let update = rawdoc! { "$inc": { "turn": 1_i64, "last": expected } };
        let command =
            rawdoc! { "findAndModify": COUNTERS, "query": { "_id": OUTBOX }, "update": update };
        let reply = self.run_command(command).await?;
        let last =
            reply.get_document("value").ok().and_then(|counter| counter.get_i64("last").ok());
        last.and_then(|last| u64::try_from(last).ok())
            .ok_or_else(|| TransactionError::permanent("the outbox has lost its counter"))
    }

    /// Sets the outbox's last position.
    pub(super) async fn set_last_outbox_position(
        &mut self,
        last: u64,
    ) -> Result<(), TransactionError> {
        let last =
            i64::try_from(last).map_err(|_| TransactionError::permanent("the outbox is full"))?;
        let set = rawdoc! { "q": { "_id": OUTBOX }, "u": { "$set": { "last": last } } };
        self.update(COUNTERS, &[Statement { record_id: Uuid::nil(), body: set }]).await
    }

    /// Inserts documents.
    pub(super) async fn insert(
        &mut self,
        collection: &str,
        documents: &[Statement],
    ) -> Result<(), TransactionError> {
        for chunk in split_by_command_size(documents) {
            let list: RawArrayBuf = chunk.iter().map(|statement| &*statement.body).collect();
            let reply = self
                .run_command(rawdoc! { "insert": collection, "documents": list, "ordered": true })
                .await?;
            check_write_reply(&reply, chunk)?;
        }
        Ok(())
    }

    /// Runs updates, each of which has to find its document.
    pub(super) async fn update(
        &mut self,
        collection: &str,
        updates: &[Statement],
    ) -> Result<(), TransactionError> {
        for chunk in split_by_command_size(updates) {
            let list: RawArrayBuf = chunk.iter().map(|statement| &*statement.body).collect();
            let reply = self
                .run_command(rawdoc! { "update": collection, "updates": list, "ordered": true })
                .await?;
            check_write_reply(&reply, chunk)?;
        }
        Ok(())
    }

    /// Makes it durable. Whether that was done is asked again until it is known, or `latest` has come.
    pub(super) async fn commit(self, latest: Instant) -> Result<(), TransactionError> {
        loop {
            let failure =
                match timeout_at(latest, self.session.commit_transaction().into_future()).await {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(error)) => TransactionError::from_commit_error(&error),
                    Err(_) => TransactionError {
                        class: ErrorClass::OutcomeUnknown,
                        ..TransactionError::timed_out()
                    },
                };
            if failure.class != ErrorClass::OutcomeUnknown
                || Instant::now() + COMMIT_RETRY_DELAY >= latest
            {
                return Err(failure);
            }
            tracing::warn!(reason = failure.reason, "a commit was not confirmed; asking again");
            sleep(COMMIT_RETRY_DELAY).await;
        }
    }
}

/// A document that cannot be read fails the commits that name it, and no others.
fn unreadable_document_error(document: &RawDocument, unfit: DocumentError) -> TransactionError {
    let id = document.get_binary("_id").ok().and_then(|id| Uuid::from_slice(id.bytes).ok());
    match id {
        Some(record) => TransactionError::invalid_document(record, unfit),
        None => TransactionError::permanent(unfit.0),
    }
}

/// Cuts a list where a command would become too large.
fn split_by_command_size(statements: &[Statement]) -> impl Iterator<Item = &[Statement]> {
    let mut rest = statements;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut bytes = 0;
        let fits = |statement: &&Statement| {
            bytes += statement.body.as_bytes().len();
            bytes <= MAX_COMMAND_BYTES
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (chunk, after) = rest.split_at(count);
        rest = after;
        Some(chunk)
    })
}

/// Looks for statements that were refused, or did not find their document.
fn check_write_reply(reply: &Document, statements: &[Statement]) -> Result<(), TransactionError> {
    if let Ok(errors) = reply.get_array("writeErrors") {
        let error = errors
            .first()
            .and_then(|error| error.as_document())
            .cloned()
            .unwrap_or_else(|| doc! {});
        let reason =
            error.get_str("errmsg").unwrap_or("a statement was refused").replace('\n', " ");
        let index = error.get_i32("index").ok().and_then(|index| usize::try_from(index).ok());
        return Err(match index.and_then(|index| statements.get(index)) {
            Some(statement) => {
                TransactionError { class: ErrorClass::RecordRejected(statement.record_id), reason }
            }
            None => TransactionError::permanent(reason),
        });
    }
    let done = reply.get_i32("n").ok().and_then(|n| usize::try_from(n).ok());
    if done == Some(statements.len()) {
        Ok(())
    } else {
        Err(TransactionError::conflict("a record has changed since it was read"))
    }
}
