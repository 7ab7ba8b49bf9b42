//! The counters of failed logins.
//!
//! They are written outside of the writers' transactions, and acknowledged by the primary alone: a
//! flood of failed logins must not hold up commits. A failover may lose the last ones.

use futures_util::future::try_join_all;
use mongodb::{
    Database,
    bson::{Binary, DateTime, Document, doc, spec::BinarySubtype},
    options::{Acknowledgment, ReadConcern, ReturnDocument, WriteConcern},
};
use serde::{Deserialize, Serialize};

use super::{documents::timestamp_to_bson, read::ReadResult, schema::LOGIN_FAILURES};
use crate::domain::{
    account::login_failures::{FAILURE_WINDOW, FailureWindow, LoginKey},
    clock::Timestamp,
};

/// A counter as stored in `login_failures`.
#[derive(Serialize, Deserialize)]
struct LoginFailuresDocument {
    #[serde(rename = "_id")]
    key: Binary,
    /// When the window started. The server deletes the document some time after that.
    at: DateTime,
    failures: u32,
}

impl From<&LoginFailuresDocument> for FailureWindow {
    fn from(document: &LoginFailuresDocument) -> Self {
        let started_at = Timestamp::from_millis(document.at.timestamp_millis());
        Self { started_at, failures: document.failures }
    }
}

fn key_to_binary(key: LoginKey) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: key.as_bytes().to_vec() }
}

/// The counters of `keys`, in order.
pub(super) async fn find_login_failures(
    database: Database,
    keys: Vec<LoginKey>,
) -> ReadResult<Vec<Option<FailureWindow>>> {
    let ids: Vec<Binary> = keys.into_iter().map(key_to_binary).collect();
    let mut found = Vec::with_capacity(ids.len());
    // The majority's view is some milliseconds behind what the primary has acknowledged.
    let mut cursor = database
        .collection::<LoginFailuresDocument>(LOGIN_FAILURES)
        .find(doc! { "_id": { "$in": ids.clone() } })
        .read_concern(ReadConcern::local())
        .await?;
    while cursor.advance().await? {
        found.push(cursor.deserialize_current()?);
    }
    let window_of = |id: &Binary| found.iter().find(|window| window.key == *id).map(Into::into);
    Ok(ids.iter().map(window_of).collect())
}

/// Counts a failure under each key. Returns the counters after it, in order.
pub(super) async fn count_login_failure(
    database: Database,
    keys: Vec<LoginKey>,
    now: Timestamp,
) -> ReadResult<Vec<FailureWindow>> {
    let counters = database.collection::<LoginFailuresDocument>(LOGIN_FAILURES);
    let update = after_failure(now);
    let primary_alone = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
    let count = async |key: LoginKey| {
        let counted = counters
            .find_one_and_update(doc! { "_id": key_to_binary(key) }, update.clone())
            .upsert(true)
            .return_document(ReturnDocument::After)
            .write_concern(primary_alone.clone())
            .await?;
        let first = || FailureWindow::after_failure(None, now);
        ReadResult::Ok(counted.as_ref().map_or_else(first, Into::into))
    };
    try_join_all(keys.into_iter().map(count)).await
}

/// [`FailureWindow::after_failure`] as an update, so that the server does it atomically.
fn after_failure(now: Timestamp) -> Vec<Document> {
    let [start, end] = [now.saturating_sub(FAILURE_WINDOW), now.saturating_add(FAILURE_WINDOW)]
        .map(timestamp_to_bson);
    // A missing field compares as less than any date.
    let counts = doc! { "$and": [{ "$gt": ["$at", start] }, { "$lte": ["$at", end] }] };
    let failures = doc! { "$cond": [counts.clone(), { "$add": ["$failures", 1_i64] }, 1_i64] };
    let started_at = doc! { "$cond": [counts, "$at", timestamp_to_bson(now)] };
    vec![doc! { "$set": { "failures": failures, "at": started_at } }]
}
