//! Pricing rules: shipping methods and tax rates.
//!
//! Every transaction that changes one writes [`RULES_GUARD`], so of two such transactions one fails
//! and is decided again on what the other left. A transaction that only depends on the rules reads
//! the guard from its snapshot: a change of rules that commits meanwhile comes after it.

use mongodb::{
    Database,
    bson::{DateTime, Document, RawDocument, Uuid as BsonUuid, doc, rawdoc},
    error::Result as MongoResult,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    documents::{DocumentError, id_from_bson, id_to_bson, timestamp_from_bson, timestamp_to_bson},
    load::{commit_time, deserialize_document},
    schema::{COMMIT_TIME, COUNTERS, PRICING_RULES, RULES_GUARD},
    transaction::{Statement, Transaction},
    transaction_error::TransactionError,
};
use crate::{
    domain::{ids::RuleId, money::Currency, pricing::RuleRecord},
    store::{
        plan::{LoadedState, ReadSet, WriteSet},
        rule_codec,
    },
};

/// A rule as stored in `pricing_rules`.
#[derive(Serialize, Deserialize)]
pub(super) struct RuleDocument {
    #[serde(rename = "_id")]
    rule_id: BsonUuid,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique_key: Option<String>,
    version: u64,
    created_at: DateTime,
    updated_at: DateTime,
    deleted: bool,
    contents: String,
}

impl From<&RuleRecord> for RuleDocument {
    fn from(record: &RuleRecord) -> Self {
        Self {
            rule_id: id_to_bson(record.id.as_uuid()),
            kind: record.rule.kind().as_str().to_owned(),
            unique_key: record.unique_key(),
            version: record.version,
            created_at: timestamp_to_bson(record.created_at),
            updated_at: timestamp_to_bson(record.updated_at),
            deleted: record.deleted,
            contents: rule_codec::encode(&record.rule),
        }
    }
}

impl RuleDocument {
    fn into_record(self, currency: Currency) -> Result<RuleRecord, DocumentError> {
        let id = id_from_bson(self.rule_id);
        let rule = rule_codec::decode(id, &self.kind, &self.contents, currency)
            .map_err(|error| DocumentError(error.to_string()))?;
        Ok(RuleRecord {
            id,
            version: self.version,
            created_at: timestamp_from_bson(self.created_at),
            updated_at: timestamp_from_bson(self.updated_at),
            deleted: self.deleted,
            rule,
        })
    }
}

/// A rule from its document.
pub(super) fn rule_from_document(
    document: &RawDocument,
    currency: Currency,
) -> Result<RuleRecord, DocumentError> {
    deserialize_document::<RuleDocument>(document)?.into_record(currency)
}

/// Creates the guard, if there is none: transactions only update it.
pub(super) async fn create_guard(database: &Database) -> MongoResult<()> {
    let new_guard = doc! { "$setOnInsert": { "changes": 0_i64 } };
    let counters = database.collection::<Document>(COUNTERS);
    counters.update_one(doc! { "_id": RULES_GUARD }, new_guard).upsert(true).await.map(drop)
}

/// Loads the version of all rules, and the rules that have the keys of `read_set`.
pub(super) async fn load(
    transaction: &mut Transaction<'_>,
    read_set: &ReadSet,
    loaded: &mut LoadedState,
    latest: &mut i64,
) -> Result<(), TransactionError> {
    #[derive(Deserialize)]
    struct KeyOwner {
        #[serde(rename = "_id")]
        id: BsonUuid,
        unique_key: String,
    }
    if !read_set.rules_version {
        return Ok(());
    }
    let guard = |document: &RawDocument| {
        let changes = document.get_i64("changes").unwrap_or(0);
        loaded.rules_version = u64::try_from(changes).unwrap_or(0);
        *latest = commit_time(document).max(*latest);
        Ok(())
    };
    let fields = doc! { "changes": 1, COMMIT_TIME: 1 };
    transaction.for_each_document(COUNTERS, doc! { "_id": RULES_GUARD }, fields, guard).await?;
    if read_set.rule_keys.is_empty() {
        return Ok(());
    }
    let keys: Vec<&String> = read_set.rule_keys.iter().collect();
    let owner = |document: &RawDocument| {
        let KeyOwner { id, unique_key } = deserialize_document(document)?;
        loaded.rule_keys.insert(unique_key, id_from_bson::<RuleId>(id));
        Ok(())
    };
    let fields = doc! { "unique_key": 1 };
    transaction
        .for_each_document(PRICING_RULES, doc! { "unique_key": { "$in": keys } }, fields, owner)
        .await
}

/// The update of the guard by a batch that changes rules.
pub(super) fn guard_update(writes: &WriteSet, commit_time: i64) -> Option<Statement> {
    let changes = i64::try_from(writes.new_rule_versions).unwrap_or(i64::MAX);
    (changes > 0).then(|| Statement {
        record_id: Uuid::nil(),
        body: rawdoc! {
            "q": { "_id": RULES_GUARD },
            "u": { "$inc": { "changes": changes }, "$set": { "commit_time": commit_time } },
        },
    })
}
