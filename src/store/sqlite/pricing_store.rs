//! The trait [`PricingStore`]: pricing rules, and how often promotions are used.

use std::collections::{BTreeSet, HashMap, HashSet};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    SqliteStore,
    read::key_condition,
    rows::{self, UuidText},
    rules,
};
use crate::{
    domain::{
        ids::{OrderId, PromotionId, RuleId},
        order::{Buyer, BuyerKey},
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
        buyer: Buyer,
        promotions: BTreeSet<PromotionId>,
    ) -> Result<HashMap<PromotionId, u32>, StoreUnavailable> {
        self.run_read(move |connection| {
            let count = |id| {
                let mut orders = HashSet::new();
                for key in buyer.keys() {
                    orders.extend(orders_with(connection, &key, id)?);
                }
                Ok((id, u32::try_from(orders.len()).unwrap_or(u32::MAX)))
            };
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
fn orders_with(
    connection: &Connection,
    key: &BuyerKey,
    promotion: PromotionId,
) -> rusqlite::Result<HashSet<OrderId>> {
    let (condition, value) = key_condition(key);
    let sql = format!(
        "SELECT id FROM orders WHERE {condition} AND charges IS NOT NULL \
         AND instr(charges, ?2) > 0 AND status NOT IN ('cancelled', 'expired')"
    );
    let mut select = connection.prepare_cached(&sql)?;
    let parameters = params![value, UuidText::new(promotion.as_uuid())];
    select.query_map(parameters, |row| rows::id_column(row, 0))?.collect()
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
    for pair @ (key, promotion) in &read_set.buyer_uses {
        loaded.buyer_uses.insert(pair.clone(), orders_with(connection, key, *promotion)?);
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
