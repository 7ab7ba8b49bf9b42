//! The commands of one transaction. Each has a deadline.

use std::{future::IntoFuture, time::Duration};

use mongodb::{
    ClientSession, Database,
    bson::{Document, RawArrayBuf, RawDocument, RawDocumentBuf, doc, rawdoc},
    options::{FindOptions, Hint},
};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use super::{
    documents::{DocumentError, ForEach},
    transaction_error::{DUPLICATE_KEY, ErrorClass, TransactionError},
};

/// The most bytes of documents in one command, below the 16 MiB that the server accepts.
const MAX_COMMAND_BYTES: usize = 12 * 1024 * 1024;

/// The pause before a commit is sent again.
const COMMIT_RETRY_DELAY: Duration = Duration::from_millis(30);

/// A document to insert or an update, and the record that identifies the commits at fault if the
/// server rejects it.
pub(super) struct Statement {
    pub(super) record_id: Uuid,
    pub(super) body: RawDocumentBuf,
}

/// A transaction that has been started.
pub(super) struct Transaction<'a> {
    pub(super) database: &'a Database,
    pub(super) session: &'a mut ClientSession,
    /// The deadline of every step except the commit.
    pub(super) deadline: Instant,
}

/// Runs `step`, and fails when it takes too long.
pub(super) async fn with_deadline<T>(
    deadline: Instant,
    step: impl Future<Output = mongodb::error::Result<T>>,
) -> Result<T, TransactionError> {
    match timeout_at(deadline, step).await {
        Ok(result) => result.map_err(|error| TransactionError::from(&error)),
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

    /// Calls `each` with every document that matches `filter`.
    pub(super) async fn for_each_document(
        &mut self,
        collection: &str,
        filter: Document,
        fields: Document,
        mut each: impl FnMut(&RawDocument) -> Result<(), DocumentError> + Send,
    ) -> Result<(), TransactionError> {
        self.for_each_document_in(collection, None, filter, fields, &mut each).await
    }

    /// The same, with the index to use. Without one, the server chooses.
    pub(super) async fn for_each_document_in(
        &mut self,
        collection: &str,
        index: Option<&str>,
        filter: Document,
        fields: Document,
        each: &mut ForEach<'_>,
    ) -> Result<(), TransactionError> {
        let collection = self.database.collection::<RawDocumentBuf>(collection);
        let options = FindOptions::builder()
            .projection(fields)
            .batch_size(10_000)
            .hint(index.map(|name| Hint::Name(name.to_owned())))
            .build();
        let find = collection.find(filter).with_options(options).session(&mut *self.session);
        let mut cursor = with_deadline(self.deadline, find.into_future()).await?;
        while with_deadline(self.deadline, cursor.advance(self.session)).await? {
            each(cursor.current())
                .map_err(|error| unreadable_document_error(cursor.current(), error))?;
        }
        Ok(())
    }

    /// Inserts `documents`.
    ///
    /// # Errors
    /// [`ErrorClass::RecordRejected`] for the first document that the server rejects.
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

    /// Runs `updates`.
    ///
    /// # Errors
    /// [`ErrorClass::RecordRejected`] for the first update that the server rejects, and
    /// [`ErrorClass::Aborted`] when one finds no document.
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

    /// Runs `deletes`.
    ///
    /// # Errors
    /// As with [`update`](Self::update).
    pub(super) async fn delete(
        &mut self,
        collection: &str,
        deletes: &[Statement],
    ) -> Result<(), TransactionError> {
        for chunk in split_by_command_size(deletes) {
            let list: RawArrayBuf = chunk.iter().map(|statement| &*statement.body).collect();
            let reply = self
                .run_command(rawdoc! { "delete": collection, "deletes": list, "ordered": true })
                .await?;
            check_write_reply(&reply, chunk)?;
        }
        Ok(())
    }

    /// Runs `updates`, each of which may find any number of documents.
    pub(super) async fn update_many(
        &mut self,
        collection: &str,
        updates: RawArrayBuf,
    ) -> Result<(), TransactionError> {
        let command = rawdoc! { "update": collection, "updates": updates, "ordered": true };
        self.run_unchecked(command).await
    }

    /// Deletes every document that matches `filter`.
    pub(super) async fn delete_many(
        &mut self,
        collection: &str,
        filter: RawDocumentBuf,
    ) -> Result<(), TransactionError> {
        let deletes = [rawdoc! { "q": filter, "limit": 0 }].iter().collect::<RawArrayBuf>();
        self.run_unchecked(rawdoc! { "delete": collection, "deletes": deletes }).await
    }

    /// Runs a command that may find any number of documents.
    async fn run_unchecked(&mut self, command: RawDocumentBuf) -> Result<(), TransactionError> {
        let reply = self.run_command(command).await?;
        match reply.contains_key("writeErrors") {
            true => check_write_reply(&reply, &[]),
            false => Ok(()),
        }
    }

    /// Commits, confirmed by a majority.
    ///
    /// While the outcome is unknown, the commit is sent again until `deadline`. That is safe: the
    /// server applies a transaction once, and tells whether it has done so.
    pub(super) async fn commit(self, deadline: Instant) -> Result<(), TransactionError> {
        loop {
            let committed = self.session.commit_transaction().into_future();
            let failure = match timeout_at(deadline, committed).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => TransactionError::from_commit_error(&error),
                Err(_) => TransactionError {
                    class: ErrorClass::OutcomeUnknown,
                    ..TransactionError::timed_out()
                },
            };
            if failure.class != ErrorClass::OutcomeUnknown
                || Instant::now() + COMMIT_RETRY_DELAY >= deadline
            {
                return Err(failure);
            }
            tracing::warn!(error = failure.reason, "failed to confirm a commit; retrying");
            sleep(COMMIT_RETRY_DELAY).await;
        }
    }
}

/// Blames the record with the document's id, so that only its commits fail.
fn unreadable_document_error(document: &RawDocument, error: DocumentError) -> TransactionError {
    let id = document.get_binary("_id").ok().and_then(|id| Uuid::from_slice(id.bytes).ok());
    match id {
        Some(record) => TransactionError::invalid_document(record, error),
        None => TransactionError::permanent(error.0),
    }
}

/// Splits statements into commands of at most [`MAX_COMMAND_BYTES`].
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

/// Fails if the server rejected a statement, or if an update found no document.
fn check_write_reply(reply: &Document, statements: &[Statement]) -> Result<(), TransactionError> {
    if let Ok(errors) = reply.get_array("writeErrors") {
        let error = errors
            .first()
            .and_then(|error| error.as_document())
            .cloned()
            .unwrap_or_else(|| doc! {});
        let reason =
            error.get_str("errmsg").unwrap_or("the server rejected a statement").replace('\n', " ");
        let index = error.get_i32("index").ok().and_then(|index| usize::try_from(index).ok());
        return Err(match index.and_then(|index| statements.get(index)) {
            Some(Statement { record_id, .. }) => {
                let class = match error.get_i32("code") {
                    Ok(DUPLICATE_KEY) => ErrorClass::RecordExists(*record_id),
                    _ => ErrorClass::RecordRejected(*record_id),
                };
                TransactionError { class, reason }
            }
            None => TransactionError::permanent(reason),
        });
    }
    let applied = reply.get_i32("n").ok().and_then(|n| usize::try_from(n).ok());
    if applied == Some(statements.len()) {
        Ok(())
    } else {
        Err(TransactionError::aborted("a record has changed since it was loaded"))
    }
}
