//! Pricing rules: shipping methods and tax rates.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::rows::{self, UuidText};
use crate::{
    domain::{clock::Timestamp, ids::RuleId, money::Currency, pricing::RuleRecord},
    store::{
        plan::{LoadedState, ReadSet, WriteSet},
        rule_codec,
    },
};

const COLUMNS: &str =
    "SELECT id, kind, version, created_at, updated_at, deleted, contents FROM pricing_rules";

fn rule_from_row(row: &Row<'_>, currency: Currency) -> rusqlite::Result<RuleRecord> {
    let id: RuleId = rows::id_column(row, 0)?;
    let (kind, contents): (String, String) = (row.get(1)?, row.get(6)?);
    let rule = rule_codec::decode(id, &kind, &contents, currency)
        .map_err(|error| rows::conversion_error(6)(error.into()))?;
    Ok(RuleRecord {
        id,
        version: row.get(2)?,
        created_at: Timestamp::from_millis(row.get(3)?),
        updated_at: Timestamp::from_millis(row.get(4)?),
        deleted: row.get(5)?,
        rule,
    })
}

/// All rules, also the deleted ones.
pub(super) fn list(
    connection: &Connection,
    currency: Currency,
) -> rusqlite::Result<Vec<RuleRecord>> {
    let mut select = connection.prepare_cached(COLUMNS)?;
    select.query_map([], |row| rule_from_row(row, currency))?.collect()
}

/// The rule with this id, also a deleted one.
pub(super) fn find(
    connection: &Connection,
    id: RuleId,
    currency: Currency,
) -> rusqlite::Result<Option<RuleRecord>> {
    let mut select = connection.prepare_cached(&format!("{COLUMNS} WHERE id = ?1"))?;
    select.query_row([UuidText::new(id.as_uuid())], |row| rule_from_row(row, currency)).optional()
}

/// Loads what `read_set` names of rules.
pub(super) fn load(
    connection: &Connection,
    read_set: &ReadSet,
    loaded: &mut LoadedState,
) -> rusqlite::Result<()> {
    if !read_set.rules_version {
        return Ok(());
    }
    let sum = "SELECT coalesce(sum(version), 0) FROM pricing_rules";
    loaded.rules_version = connection.prepare_cached(sum)?.query_row([], |row| row.get(0))?;
    for id in &read_set.rules {
        let sql = "SELECT version FROM pricing_rules WHERE id = ?1";
        let version: Option<u64> = connection
            .prepare_cached(sql)?
            .query_row([UuidText::new(id.as_uuid())], |row| row.get(0))
            .optional()?;
        loaded.rules.extend(version.map(|version| (*id, version)));
    }
    for key in &read_set.rule_keys {
        let sql = "SELECT id FROM pricing_rules WHERE unique_key = ?1";
        let owner: Option<RuleId> = connection
            .prepare_cached(sql)?
            .query_row([key], |row| rows::id_column(row, 0))
            .optional()?;
        loaded.rule_keys.extend(owner.map(|id| (key.clone(), id)));
    }
    Ok(())
}

/// Writes the rules in `writes`.
pub(super) fn write(connection: &Connection, writes: &WriteSet) -> rusqlite::Result<()> {
    for rule in writes.rules.values() {
        let mut put = connection.prepare_cached(
            "INSERT OR REPLACE INTO pricing_rules \
             (id, kind, unique_key, version, created_at, updated_at, deleted, contents) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        put.execute(params![
            UuidText::new(rule.id.as_uuid()),
            rule.rule.kind().as_str(),
            rule.unique_key(),
            rule.version,
            rule.created_at.as_millis(),
            rule.updated_at.as_millis(),
            rule.deleted,
            rule_codec::encode(&rule.rule),
        ])?;
    }
    Ok(())
}
