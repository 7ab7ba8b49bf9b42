//! The trait [`PricingStore`]: rules of prices, and how often promotions are used.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    SqliteStore,
    rows::{self, UuidText},
    rules,
};
use crate::{
    domain::{
        ids::{PromotionId, RuleId, UserId},
        pricing::{PromotionUses, RuleRecord},
    },
    store::{
        StoreUnavailable,
        plan::{LoadedState, ReadSet, WriteSet},
        pricing_store::PricingStore,
    },
};

#[async_trait]
impl PricingStore for SqliteStore {
    async fn list_pricing_rules(&self) -> Result<Vec<RuleRecord>, StoreUnavailable> {
        let currency = self.currency;
        self.run_read(move |connection| rules::list(connection, currency)).await
    }

    async fn find_pricing_rule(&self, id: RuleId) -> Result<Option<RuleRecord>, StoreUnavailable> {
        let currency = self.currency;
        self.run_read(move |connection| rules::find(connection, id, currency)).await
    }

    async fn list_promotion_uses(
        &self,
        ids: Option<BTreeSet<PromotionId>>,
    ) -> Result<Vec<PromotionUses>, StoreUnavailable> {
        self.run_read(move |connection| match ids {
            None => list_uses(connection),
            Some(ids) => {
                let found = ids.into_iter().map(|id| find_uses(connection, id));
                found.filter_map(Result::transpose).collect()
            }
        })
        .await
    }

    async fn count_buyer_uses(
        &self,
        buyer: UserId,
        promotions: BTreeSet<PromotionId>,
    ) -> Result<HashMap<PromotionId, u32>, StoreUnavailable> {
        self.run_read(move |connection| {
            let count = |id| Ok((id, count_of_buyer(connection, buyer, id)?));
            promotions.into_iter().map(count).collect()
        })
        .await
    }
}

fn uses_from_row(row: &Row<'_>) -> rusqlite::Result<PromotionUses> {
    Ok(PromotionUses {
        promotion_id: rows::id_column(row, 0)?,
        used: row.get(1)?,
        version: row.get(2)?,
    })
}

fn list_uses(connection: &Connection) -> rusqlite::Result<Vec<PromotionUses>> {
    let sql = "SELECT promotion_id, used, version FROM promotion_uses";
    connection.prepare_cached(sql)?.query_map([], uses_from_row)?.collect()
}

fn find_uses(connection: &Connection, id: PromotionId) -> rusqlite::Result<Option<PromotionUses>> {
    let sql = "SELECT promotion_id, used, version FROM promotion_uses WHERE promotion_id = ?1";
    let mut select = connection.prepare_cached(sql)?;
    select.query_row([UuidText::new(id.as_uuid())], uses_from_row).optional()
}

/// An order's charges name the ids of its promotions and of its shipping method, and no others.
fn count_of_buyer<N: rusqlite::types::FromSql>(
    connection: &Connection,
    buyer: UserId,
    promotion: PromotionId,
) -> rusqlite::Result<N> {
    let sql = "SELECT count(*) FROM orders WHERE user_id = ?1 AND charges IS NOT NULL \
               AND instr(charges, ?2) > 0 AND status NOT IN ('cancelled', 'expired')";
    let ids = [buyer.as_uuid(), promotion.as_uuid()].map(UuidText::new);
    connection.prepare_cached(sql)?.query_row(ids, |row| row.get(0))
}

/// Loads the uses that `read_set` names, and how many orders of buyers have promotions.
pub(super) fn load(
    connection: &Connection,
    read_set: &ReadSet,
    loaded: &mut LoadedState,
) -> rusqlite::Result<()> {
    for id in &read_set.promotion_uses {
        let uses = find_uses(connection, *id)?;
        loaded.promotion_uses.extend(uses.map(|uses| (*id, uses)));
    }
    for (buyer, promotion) in &read_set.buyer_uses {
        let count = count_of_buyer(connection, *buyer, *promotion)?;
        loaded.buyer_uses.insert((*buyer, *promotion), count);
    }
    Ok(())
}

/// Writes the uses in `writes`.
pub(super) fn write(connection: &Connection, writes: &WriteSet) -> rusqlite::Result<()> {
    for uses in writes.promotion_uses.values() {
        let mut put = connection.prepare_cached(
            "INSERT OR REPLACE INTO promotion_uses (promotion_id, used, version) \
             VALUES (?1, ?2, ?3)",
        )?;
        let id = UuidText::new(uses.promotion_id.as_uuid());
        put.execute(params![id, uses.used, uses.version])?;
    }
    Ok(())
}
