//! What a batch writes to one collection.

use mongodb::bson::{RawBson, RawDocumentBuf, cstr, rawdoc};
use serde::Serialize;
use uuid::Uuid;

use super::{
    documents::{id_to_binary, to_raw_document},
    schema::OUTBOX,
    transaction::{Statement, Transaction},
    transaction_error::{ErrorClass, TransactionError},
};

/// The documents of one collection: new ones, replacements of existing ones, and the ids of those
/// to delete.
pub(super) struct CollectionWrites {
    pub(super) collection: &'static str,
    /// The logical time that each document gets. `None` for documents that have no
    /// version.
    commit_time: Option<i64>,
    pub(super) inserts: Vec<Statement>,
    pub(super) updates: Vec<Statement>,
    deletes: Vec<Statement>,
    /// Whether its documents were not loaded, so that these writes find out what is stored.
    pub(super) checks_expectation: bool,
}

impl CollectionWrites {
    pub(super) const fn for_collection(collection: &'static str) -> Self {
        Self {
            collection,
            commit_time: None,
            inserts: Vec::new(),
            updates: Vec::new(),
            deletes: Vec::new(),
            checks_expectation: false,
        }
    }

    pub(super) fn for_records(collection: &'static str, commit_time: i64) -> Self {
        Self { commit_time: Some(commit_time), ..Self::for_collection(collection) }
    }

    pub(super) fn add_document(
        &mut self,
        record: Uuid,
        exists: bool,
        document: &impl Serialize,
    ) -> Result<(), TransactionError> {
        self.add_document_with_id(record, exists, id_to_binary(record), document)
    }

    /// Adds a document whose `_id` is not the id of the record that identifies its commits.
    pub(super) fn add_document_with_id(
        &mut self,
        record: Uuid,
        exists: bool,
        id: impl Into<RawBson>,
        document: &impl Serialize,
    ) -> Result<(), TransactionError> {
        let document = self.to_document(record, document)?;
        if exists {
            self.updates.push(Statement {
                record_id: record,
                body: rawdoc! { "q": { "_id": id.into() }, "u": document },
            });
        } else {
            self.inserts.push(Statement { record_id: record, body: document });
        }
        Ok(())
    }

    /// Replaces a document that must have `version`, and an earlier logical time than this write.
    pub(super) fn replace_version(
        &mut self,
        record: Uuid,
        version: u64,
        document: &impl Serialize,
    ) -> Result<(), TransactionError> {
        let document = self.to_document(record, document)?;
        let version = i64::try_from(version)
            .map_err(|_| TransactionError::permanent("a record has no versions left"))?;
        let mut filter = rawdoc! { "_id": id_to_binary(record), "version": version };
        if let Some(commit_time) = self.commit_time {
            filter.append(cstr!("commit_time"), rawdoc! { "$not": { "$gte": commit_time } });
        }
        let body = rawdoc! { "q": filter, "u": document };
        self.updates.push(Statement { record_id: record, body });
        Ok(())
    }

    /// The document to write, with its logical time.
    fn to_document(
        &self,
        record: Uuid,
        document: &impl Serialize,
    ) -> Result<RawDocumentBuf, TransactionError> {
        let mut document = to_raw_document(document)
            .map_err(|error| TransactionError::invalid_document(record, error))?;
        if let Some(commit_time) = self.commit_time {
            document.append(cstr!("commit_time"), commit_time);
        }
        Ok(document)
    }

    /// Deletes an existing document.
    pub(super) fn delete_document(&mut self, record: Uuid) {
        self.deletes.push(Statement {
            record_id: record,
            body: rawdoc! { "q": { "_id": id_to_binary(record) }, "limit": 1_i32 },
        });
    }

    /// Adds a document, whether or not it exists.
    pub(super) fn put_document(
        &mut self,
        record: Uuid,
        document: &impl Serialize,
    ) -> Result<(), TransactionError> {
        self.put_document_with_id(record, id_to_binary(record), document)
    }

    /// The same for a document whose `_id` is not the id of the record.
    pub(super) fn put_document_with_id(
        &mut self,
        record: Uuid,
        id: impl Into<RawBson>,
        document: &impl Serialize,
    ) -> Result<(), TransactionError> {
        let document = to_raw_document(document)
            .map_err(|error| TransactionError::invalid_document(record, error))?;
        let id = id.into();
        self.updates.push(Statement {
            record_id: record,
            body: rawdoc! { "q": { "_id": id }, "u": document, "upsert": true },
        });
        Ok(())
    }

    pub(super) async fn execute(
        self,
        transaction: &mut Transaction<'_>,
    ) -> Result<(), TransactionError> {
        let written = self.run_statements(transaction).await;
        written.map_err(|failure| match failure.class {
            ErrorClass::Aborted | ErrorClass::RecordExists(_) if self.checks_expectation => {
                TransactionError { class: ErrorClass::ExpectationFailed, ..failure }
            }
            // Nobody else writes the partition, unless its head is not the one that is known.
            ErrorClass::Aborted if self.collection == OUTBOX => {
                TransactionError { class: ErrorClass::PartitionLost, ..failure }
            }
            _ => failure,
        })
    }

    async fn run_statements(
        &self,
        transaction: &mut Transaction<'_>,
    ) -> Result<(), TransactionError> {
        transaction.insert(self.collection, &self.inserts).await?;
        transaction.delete(self.collection, &self.deletes).await?;
        transaction.update(self.collection, &self.updates).await
    }
}
