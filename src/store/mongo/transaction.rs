//! One transaction, step by step. Every step ends by a given time.

use std::{future::IntoFuture, time::Duration};

use mongodb::{
    ClientSession, Database,
    bson::{Document, RawArrayBuf, RawDocument, RawDocumentBuf, doc, rawdoc},
};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use super::{
    documents::Unfit,
    failure::{Failure, Trouble},
    schema::{COUNTERS, OUTBOX},
};

/// Most bytes of documents in one command. The server takes 16 MiB.
const MAX_COMMAND: usize = 12 * 1024 * 1024;

/// Between two tries to commit.
const BEFORE_COMMITTING_AGAIN: Duration = Duration::from_millis(30);

/// What to write, and the record by which its commit is found when the server refuses it.
pub(super) struct Statement {
    pub(super) record: Uuid,
    pub(super) body: RawDocumentBuf,
}

/// A transaction that has been begun.
pub(super) struct Transaction<'a> {
    pub(super) database: &'a Database,
    pub(super) session: &'a mut ClientSession,
    /// Until when each step but the commit may take.
    pub(super) until: Instant,
}

/// `step`, unless it takes too long.
pub(super) async fn within<T>(
    until: Instant,
    step: impl Future<Output = mongodb::error::Result<T>>,
) -> Result<T, Failure> {
    match timeout_at(until, step).await {
        Ok(done) => done.map_err(|error| Failure::from(&error)),
        Err(_) => Err(Failure::late()),
    }
}

impl Transaction<'_> {
    async fn run(&mut self, command: RawDocumentBuf) -> Result<Document, Failure> {
        within(
            self.until,
            self.database.run_raw_command(command).session(&mut *self.session).into_future(),
        )
        .await
    }

    /// Reads every document that `filter` finds.
    pub(super) async fn find(
        &mut self,
        collection: &str,
        filter: Document,
        fields: Document,
        mut each: impl FnMut(&RawDocument) -> Result<(), Unfit>,
    ) -> Result<(), Failure> {
        let collection = self.database.collection::<RawDocumentBuf>(collection);
        let find = collection
            .find(filter)
            .projection(fields)
            .batch_size(10_000)
            .session(&mut *self.session);
        let mut cursor = within(self.until, find.into_future()).await?;
        while within(self.until, cursor.advance(self.session)).await? {
            each(cursor.current()).map_err(|unfit| blame(cursor.current(), unfit))?;
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
    /// So many positions as are `expected` to be needed are taken at once; [`end_turn`](Self::end_turn) is for when it was another number.
    pub(super) async fn take_turn(&mut self, expected: u64) -> Result<u64, Failure> {
        let expected =
            i64::try_from(expected).map_err(|_| Failure::refused("the outbox is full"))?;
        let update = rawdoc! { "$inc": { "turn": 1_i64, "last": expected } };
        let command =
            rawdoc! { "findAndModify": COUNTERS, "query": { "_id": OUTBOX }, "update": update };
        let reply = self.run(command).await?;
        let last =
            reply.get_document("value").ok().and_then(|counter| counter.get_i64("last").ok());
        last.and_then(|last| u64::try_from(last).ok())
            .ok_or_else(|| Failure::refused("the outbox has lost its counter"))
    }

    /// Sets the outbox's last position.
    pub(super) async fn end_turn(&mut self, last: u64) -> Result<(), Failure> {
        let last = i64::try_from(last).map_err(|_| Failure::refused("the outbox is full"))?;
        let set = rawdoc! { "q": { "_id": OUTBOX }, "u": { "$set": { "last": last } } };
        self.update(COUNTERS, &[Statement { record: Uuid::nil(), body: set }]).await
    }

    /// Inserts documents.
    pub(super) async fn insert(
        &mut self,
        collection: &str,
        documents: &[Statement],
    ) -> Result<(), Failure> {
        for chunk in chunks(documents) {
            let list: RawArrayBuf = chunk.iter().map(|statement| &*statement.body).collect();
            let reply = self
                .run(rawdoc! { "insert": collection, "documents": list, "ordered": true })
                .await?;
            check(&reply, chunk)?;
        }
        Ok(())
    }

    /// Runs updates, each of which has to find its document.
    pub(super) async fn update(
        &mut self,
        collection: &str,
        updates: &[Statement],
    ) -> Result<(), Failure> {
        for chunk in chunks(updates) {
            let list: RawArrayBuf = chunk.iter().map(|statement| &*statement.body).collect();
            let reply = self
                .run(rawdoc! { "update": collection, "updates": list, "ordered": true })
                .await?;
            check(&reply, chunk)?;
        }
        Ok(())
    }

    /// Makes it durable. Whether that was done is asked again until it is known, or `latest` has come.
    pub(super) async fn commit(self, latest: Instant) -> Result<(), Failure> {
        loop {
            let failure =
                match timeout_at(latest, self.session.commit_transaction().into_future()).await {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(error)) => Failure::of_commit(&error),
                    Err(_) => Failure { trouble: Trouble::Unknown, ..Failure::late() },
                };
            if failure.trouble != Trouble::Unknown
                || Instant::now() + BEFORE_COMMITTING_AGAIN >= latest
            {
                return Err(failure);
            }
            tracing::warn!(reason = failure.reason, "a commit was not confirmed; asking again");
            sleep(BEFORE_COMMITTING_AGAIN).await;
        }
    }
}

/// A document that cannot be read fails the commits that name it, and no others.
fn blame(document: &RawDocument, unfit: Unfit) -> Failure {
    let id = document.get_binary("_id").ok().and_then(|id| Uuid::from_slice(id.bytes).ok());
    match id {
        Some(record) => Failure::unfit(record, unfit),
        None => Failure::refused(unfit.0),
    }
}

/// Cuts a list where a command would become too large.
fn chunks(statements: &[Statement]) -> impl Iterator<Item = &[Statement]> {
    let mut rest = statements;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut bytes = 0;
        let fits = |statement: &&Statement| {
            bytes += statement.body.as_bytes().len();
            bytes <= MAX_COMMAND
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (chunk, after) = rest.split_at(count);
        rest = after;
        Some(chunk)
    })
}

/// Looks for statements that were refused, or did not find their document.
fn check(reply: &Document, statements: &[Statement]) -> Result<(), Failure> {
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
            Some(statement) => Failure { trouble: Trouble::Statement(statement.record), reason },
            None => Failure::refused(reason),
        });
    }
    let done = reply.get_i32("n").ok().and_then(|n| usize::try_from(n).ok());
    if done == Some(statements.len()) {
        Ok(())
    } else {
        Err(Failure::conflict("a record has changed since it was read"))
    }
}
