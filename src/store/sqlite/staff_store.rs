//! The trait [`StaffStore`]: API keys and actions.

use async_trait::async_trait;
use rusqlite::{Connection, TransactionBehavior, params};
use uuid::Uuid;

use super::{
    SqliteStore, read,
    rows::{self, UuidText},
};
use crate::{
    domain::{
        account::ApiKey,
        action::{Action, ActionFilter},
        clock::Timestamp,
        ids::ApiKeyId,
    },
    store::{
        StoreUnavailable,
        staff_store::{ActionPosition, StaffStore},
    },
};

macro_rules! api_keys {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, scopes, prefix, hash, created_by, created_at, expires_at, \
             last_used_at, deleted_at, version FROM api_keys ",
            $rest
        )
    };
}

#[async_trait]
impl StaffStore for SqliteStore {
    async fn find_api_key(&self, id: ApiKeyId) -> Result<Option<ApiKey>, StoreUnavailable> {
        self.run_read(move |connection| {
            let id = UuidText::new(id.as_uuid());
            read::find_one(connection, api_keys!("WHERE id = ?1"), &[&id], rows::api_key_from_row)
        })
        .await
    }

    async fn list_api_keys(
        &self,
        before: Option<ApiKeyId>,
        limit: u32,
    ) -> Result<Vec<ApiKey>, StoreUnavailable> {
        self.run_read(move |connection| {
            let before = before.map(|id| UuidText::new(id.as_uuid()));
            let sql = api_keys!(
                "WHERE deleted_at IS NULL AND (?1 IS NULL OR id < ?1) ORDER BY id DESC LIMIT ?2"
            );
            read::find_many(connection, sql, &[&before, &limit], rows::api_key_from_row)
        })
        .await
    }

    async fn record_api_key_uses(
        &self,
        uses: Vec<(ApiKeyId, Timestamp)>,
    ) -> Result<(), StoreUnavailable> {
        let record = move |connection: &mut Connection| record_uses(connection, &uses);
        self.run_update("record the use of API keys", record).await
    }

    async fn list_actions(
        &self,
        filter: ActionFilter,
        after: Option<ActionPosition>,
        limit: u32,
    ) -> Result<Vec<Action>, StoreUnavailable> {
        self.run_read(move |connection| list_actions(connection, &filter, after, limit)).await
    }
}

fn record_uses(
    connection: &mut Connection,
    uses: &[(ApiKeyId, Timestamp)],
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (id, at) in uses {
        let sql = "UPDATE api_keys SET last_used_at = max(ifnull(last_used_at, ?2), ?2) \
                   WHERE id = ?1";
        let id = UuidText::new(id.as_uuid());
        transaction.prepare_cached(sql)?.execute(params![id, at.as_millis()])?;
    }
    transaction.commit()
}

/// Each combination of filters is a statement of its own, so that its index is used.
fn list_actions(
    connection: &Connection,
    filter: &ActionFilter,
    after: Option<ActionPosition>,
    limit: u32,
) -> rusqlite::Result<Vec<Action>> {
    let ActionFilter { actor, subject, from, to } = *filter;
    let of_actor = if actor.is_some() { "actor_id = ?1" } else { "?1 IS NULL" };
    let on_subject = if subject.is_some() { "subject = ?2" } else { "?2 IS NULL" };
    let sql = format!(
        "SELECT id, at, actor, actor_id, operation, subject, request_id, version_before, \
         version_after FROM actions WHERE {of_actor} AND {on_subject} AND at >= ?3 AND at < ?4 \
         AND (at, id) < (?5, ?6) ORDER BY at DESC, id DESC LIMIT ?7"
    );
    let (after_at, after_id) =
        after.map_or((i64::MAX, Uuid::max()), |(at, id)| (at.as_millis(), id.as_uuid()));
    let mut select = connection.prepare_cached(&sql)?;
    let actions = select.query_map(
        params![
            actor.map(UuidText::new),
            subject.map(UuidText::new),
            from.map_or(i64::MIN, Timestamp::as_millis),
            to.map_or(i64::MAX, Timestamp::as_millis),
            after_at,
            UuidText::new(after_id),
            limit,
        ],
        rows::action_from_row,
    )?;
    actions.collect()
}
