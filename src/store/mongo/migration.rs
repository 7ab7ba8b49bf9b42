//! Upgrades a database that an older version of souk wrote. A node runs it before it uses the
//! database.
//!
//! Each step may be repeated, and several nodes may run it at once: the schema version is raised
//! last, so a node that stops halfway leaves the rest to the next one.

use mongodb::{
    Database,
    bson::{Document, doc},
    error::Result,
};

use super::{
    failure::server_error_code,
    nodes,
    schema::{CARTS, META, SHOP},
};

/// What an upgrade led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MigrationOutcome {
    /// The database has this schema version. It is not the current one if no migration leads there.
    Version(i64),
    /// Nothing was changed, because a node of an older version is running: whatever it writes after
    /// the upgrade would never be upgraded.
    OldNodesRunning,
}

/// Upgrades a database of schema version `found` as far as possible.
pub(super) async fn migrate(database: &Database, found: i64) -> Result<MigrationOutcome> {
    if found != 2 {
        return Ok(MigrationOutcome::Version(found));
    }
    if nodes::has_running_nodes(database).await? {
        return Ok(MigrationOutcome::OldNodesRunning);
    }
    let carts = rename_cart_idle_since(database).await?;
    let meta = database.collection::<Document>(META);
    let raised = doc! { "$set": { "schema": 3_i64 } };
    meta.update_one(doc! { "_id": SHOP, "schema": 2_i64 }, raised).await?;
    tracing::info!(from = 2, to = 3, carts, "upgraded the database schema");
    Ok(MigrationOutcome::Version(3))
}

/// Version 3 renames the carts' `lying_since` and its index, which speeds this up and is dropped
/// afterwards. Returns how many carts had the field.
async fn rename_cart_idle_since(database: &Database) -> Result<u64> {
    let carts = database.collection::<Document>(CARTS);
    let renamed = carts
        .update_many(
            doc! { "lying_since": { "$exists": true } },
            doc! { "$rename": { "lying_since": "idle_since" } },
        )
        .await?;
    drop_index_if_present(database, CARTS, "lying").await?;
    Ok(renamed.modified_count)
}

async fn drop_index_if_present(database: &Database, collection: &str, name: &str) -> Result<()> {
    const NAMESPACE_NOT_FOUND: i32 = 26;
    const INDEX_NOT_FOUND: i32 = 27;
    match database.collection::<Document>(collection).drop_index(name).await {
        Err(error)
            if server_error_code(&error)
                .is_some_and(|code| [NAMESPACE_NOT_FOUND, INDEX_NOT_FOUND].contains(&code)) =>
        {
            Ok(())
        }
        result => result,
    }
}
