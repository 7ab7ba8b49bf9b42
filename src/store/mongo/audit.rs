//! Reads what an audit checks. All reads of a page are from one snapshot, so they agree even while
//! nodes write. The server computes the sums.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mongodb::{
    Database,
    bson::{Bson, Document, RawDocument, Uuid as BsonUuid, doc},
};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    documents::{DocumentError, id_from_bson, id_to_bson},
    load::deserialize_document,
    partition::{PartitionDocument, is_head},
    read::{ReadResult, SnapshotReader, order_from_document},
    schema::{MOVEMENTS, ORDERS, OUTBOX, PRODUCTS, STOCK},
};
use crate::{
    domain::{
        audit::{
            AuditPage, EventAudit, IdRange, LedgerTotals, MovementTotals, OrderAudit, ProductAudit,
            StoredStock, join_orders_with_movements,
        },
        ids::{OrderId, ProductId},
        inventory::MovementKind,
        order::OrderStatus,
    },
    events::OutboxPosition,
    store::limits::{MAX_MOVEMENT_SUMS, MAX_POSITION_RANGES},
};

/// Matches the ids in `range`.
fn id_range_filter(range: IdRange) -> Document {
    doc! { "$gt": id_to_bson(range.after), "$lte": id_to_bson(range.up_to) }
}

fn limit_stage(limit: usize) -> Document {
    // The server rejects a limit of 0.
    doc! { "$limit": i64::try_from(limit.max(1)).unwrap_or(i64::MAX) }
}

fn product_entry(
    audits: &mut BTreeMap<ProductId, ProductAudit>,
    product: BsonUuid,
) -> &mut ProductAudit {
    let product = id_from_bson(product);
    audits.entry(product).or_insert_with(|| ProductAudit::empty(product))
}

#[derive(Deserialize)]
struct ProductIdRow {
    #[serde(rename = "_id")]
    id: BsonUuid,
}

pub(super) async fn read_product_page(
    database: Database,
    range: IdRange,
    limit: u32,
) -> ReadResult<AuditPage<ProductAudit>> {
    let mut snapshot = SnapshotReader::start(&database).await?;
    let mut audits = BTreeMap::new();
    let ids = vec![
        doc! { "$match": { "_id": id_range_filter(range) } },
        doc! { "$sort": { "_id": 1 } },
        limit_stage(limit as usize),
        doc! { "$project": { "_id": 1 } },
    ];
    let known = |document: &RawDocument| {
        product_entry(&mut audits, deserialize_document::<ProductIdRow>(document)?.id).known = true;
        Ok(())
    };
    snapshot.aggregate_each(PRODUCTS, ids, known).await?;
    let last =
        audits.last_key_value().map(|(last, _)| *last).filter(|_| audits.len() >= limit as usize);
    let (range, rest) = last.map_or((range, None), |last| {
        let (here, rest) = range.split_after(last.as_uuid());
        (here, Some(rest))
    });
    read_stock_levels(&mut snapshot, range, &mut audits).await?;
    sum_ledgers(&mut snapshot, range, &mut audits).await?;
    sum_promised_units(&mut snapshot, range, &mut audits).await?;
    Ok(AuditPage { items: audits.into_values().collect(), remaining: rest })
}

async fn read_stock_levels(
    snapshot: &mut SnapshotReader,
    range: IdRange,
    audits: &mut BTreeMap<ProductId, ProductAudit>,
) -> ReadResult<()> {
    #[derive(Deserialize)]
    struct StockRow {
        #[serde(rename = "_id")]
        id: BsonUuid,
        on_hand: i64,
        reserved: i64,
        version: u64,
        last_movement: i64,
    }
    let level = |document: &RawDocument| {
        let StockRow { id, on_hand, reserved, version, last_movement } =
            deserialize_document(document)?;
        product_entry(audits, id).stock = StoredStock { on_hand, reserved, version, last_movement };
        Ok(())
    };
    snapshot
        .aggregate_each(STOCK, vec![doc! { "$match": { "_id": id_range_filter(range) } }], level)
        .await
}

async fn sum_ledgers(
    snapshot: &mut SnapshotReader,
    range: IdRange,
    audits: &mut BTreeMap<ProductId, ProductAudit>,
) -> ReadResult<()> {
    #[derive(Deserialize)]
    struct LedgerSums {
        #[serde(rename = "_id")]
        id: BsonUuid,
        count: u64,
        first: i64,
        last: i64,
        on_hand: i64,
        reserved: i64,
    }
    // A product's movements are adjacent, so this is one range of the collection.
    let beyond =
        |product: Uuid| doc! { "product_id": id_to_bson(product), "sequence": Bson::MaxKey };
    let stages = vec![
        doc! { "$match": { "_id": { "$gt": beyond(range.after), "$lte": beyond(range.up_to) } } },
        doc! { "$group": {
            "_id": "$_id.product_id", "count": { "$sum": 1_i64 },
            "first": { "$min": "$_id.sequence" }, "last": { "$max": "$_id.sequence" },
            "on_hand": { "$sum": "$on_hand_delta" }, "reserved": { "$sum": "$reserved_delta" },
        } },
    ];
    let sums = |document: &RawDocument| {
        let LedgerSums { id, count, first, last, on_hand, reserved } =
            deserialize_document(document)?;
        product_entry(audits, id).ledger = LedgerTotals { count, first, last, on_hand, reserved };
        Ok(())
    };
    snapshot.aggregate_each(MOVEMENTS, stages, sums).await
}

/// Makes the server scan all orders for each page. An index would avoid that, but slow down every
/// checkout.
async fn sum_promised_units(
    snapshot: &mut SnapshotReader,
    range: IdRange,
    audits: &mut BTreeMap<ProductId, ProductAudit>,
) -> ReadResult<()> {
    #[derive(Deserialize)]
    struct PromisedUnits {
        #[serde(rename = "_id")]
        id: BsonUuid,
        units: i64,
    }
    let open = OrderStatus::ALL.iter().filter(|status| status.holds_reservation());
    let open: Vec<&str> = open.map(|status| status.as_str()).collect();
    let fulfilled = doc! { "$ifNull": ["$lines.fulfilled", 0] };
    let units = doc! { "$subtract": ["$lines.quantity", fulfilled] };
    let stages = vec![
        doc! { "$match": {
            "status": { "$in": open },
            "lines": { "$elemMatch": { "product_id": id_range_filter(range) } },
        } },
        doc! { "$project": { "lines.product_id": 1, "lines.quantity": 1, "lines.fulfilled": 1 } },
        doc! { "$unwind": "$lines" },
        doc! { "$match": { "lines.product_id": id_range_filter(range) } },
        doc! { "$group": { "_id": "$lines.product_id", "units": { "$sum": units } } },
    ];
    let sum = |document: &RawDocument| {
        let PromisedUnits { id, units } = deserialize_document(document)?;
        product_entry(audits, id).promised = units;
        Ok(())
    };
    snapshot.aggregate_each(ORDERS, stages, sum).await
}

pub(super) async fn read_order_page(
    database: Database,
    range: IdRange,
    limit: u32,
) -> ReadResult<AuditPage<OrderAudit>> {
    let mut snapshot = SnapshotReader::start(&database).await?;
    let limit = limit as usize;
    let mut orders = Vec::new();
    let stages = vec![
        doc! { "$match": { "_id": id_range_filter(range) } },
        doc! { "$sort": { "_id": 1 } },
        limit_stage(limit),
    ];
    let order = |document: &RawDocument| {
        orders.push(order_from_document(document)?);
        Ok(())
    };
    snapshot.aggregate_each(ORDERS, stages, order).await?;
    let here = match orders.last() {
        Some(last) if orders.len() >= limit => range.split_after(last.id.as_uuid()).0,
        _ => range,
    };
    let moved = sum_order_movements(&mut snapshot, here).await?;
    let products = orders.iter().flat_map(|order| order.lines.iter().map(|line| line.product_id));
    let products: BTreeSet<ProductId> =
        products.chain(moved.iter().map(|(_, product, _)| *product)).collect();
    let versions = read_stock_versions(&mut snapshot, products).await?;
    Ok(join_orders_with_movements(
        range,
        (orders, limit),
        (moved, MAX_MOVEMENT_SUMS as usize),
        &versions,
    ))
}

async fn sum_order_movements(
    snapshot: &mut SnapshotReader,
    range: IdRange,
) -> ReadResult<Vec<(OrderId, ProductId, MovementTotals)>> {
    #[derive(Deserialize)]
    struct OrderProductKey {
        order_id: BsonUuid,
        product_id: BsonUuid,
    }
    #[derive(Deserialize)]
    struct LedgerSums {
        #[serde(rename = "_id")]
        name: OrderProductKey,
        on_hand: i64,
        reserved: i64,
        ever_reserved: i64,
    }
    let is_reserved = doc! { "$eq": ["$kind", MovementKind::Reserved.as_str()] };
    let stages = vec![
        doc! { "$match": { "order_id": id_range_filter(range) } },
        doc! { "$group": {
            "_id": { "order_id": "$order_id", "product_id": "$_id.product_id" },
            "on_hand": { "$sum": "$on_hand_delta" }, "reserved": { "$sum": "$reserved_delta" },
            "ever_reserved": { "$sum": { "$cond": [is_reserved, "$reserved_delta", 0_i64] } },
        } },
        doc! { "$sort": { "_id": 1 } },
        limit_stage(MAX_MOVEMENT_SUMS as usize),
    ];
    let mut found = Vec::new();
    let sums = |document: &RawDocument| {
        let LedgerSums { name, on_hand, reserved, ever_reserved } = deserialize_document(document)?;
        found.push((
            id_from_bson(name.order_id),
            id_from_bson(name.product_id),
            MovementTotals { on_hand, reserved, total_reserved: ever_reserved },
        ));
        Ok(())
    };
    snapshot.aggregate_each(MOVEMENTS, stages, sums).await?;
    Ok(found)
}

async fn read_stock_versions(
    snapshot: &mut SnapshotReader,
    products: BTreeSet<ProductId>,
) -> ReadResult<HashMap<ProductId, u64>> {
    #[derive(Deserialize)]
    struct RecordVersion {
        #[serde(rename = "_id")]
        id: BsonUuid,
        version: u64,
    }
    let ids: Vec<BsonUuid> =
        products.into_iter().map(|product| id_to_bson(product.as_uuid())).collect();
    let mut found = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(1000) {
        let stages = vec![
            doc! { "$match": { "_id": { "$in": ids } } },
            doc! { "$project": { "version": 1 } },
        ];
        let note = |document: &RawDocument| {
            let RecordVersion { id, version } = deserialize_document(document)?;
            found.insert(id_from_bson(id), version);
            Ok(())
        };
        snapshot.aggregate_each(STOCK, stages, note).await?;
    }
    Ok(found)
}

pub(super) async fn read_event_ranges(database: Database) -> ReadResult<Vec<EventAudit>> {
    #[derive(Deserialize)]
    struct EventRange {
        #[serde(rename = "_id")]
        last: i64,
        count: u64,
    }
    let mut snapshot = SnapshotReader::start(&database).await?;
    let mut audits: BTreeMap<u32, EventAudit> = BTreeMap::new();
    let head = |document: &RawDocument| {
        let head: PartitionDocument = deserialize_document(document)?;
        let (partition, recorded_last) = (head.partition(), Some(head.last));
        audits.insert(partition, EventAudit { partition, recorded_last, ranges: Vec::new() });
        Ok(())
    };
    snapshot.aggregate_each(OUTBOX, vec![doc! { "$match": is_head() }], head).await?;
    let join_ranges = |document: &RawDocument| {
        let EventRange { last, count } = deserialize_document(document)?;
        let invalid = || DocumentError(format!("{last} is not a position"));
        let OutboxPosition { partition, offset: last } =
            OutboxPosition::from_i64(last).ok_or_else(invalid)?;
        let audit = audits
            .entry(partition)
            .or_insert_with(|| EventAudit { partition, ..EventAudit::default() });
        let first = (last + 1).saturating_sub(count);
        let room = audit.ranges.len() < MAX_POSITION_RANGES as usize;
        match audit.ranges.last_mut() {
            Some((_, end)) if *end + 1 == first => *end = last,
            _ if room => audit.ranges.push((first, last)),
            _ => {}
        }
        Ok(())
    };
    let count = doc! { "$toLong": { "$size": "$events" } };
    snapshot
        .aggregate_each(
            OUTBOX,
            vec![
                doc! { "$match": { "_id": { "$type": "number" } } },
                doc! { "$sort": { "_id": 1 } },
                doc! { "$project": { "count": count } },
            ],
            join_ranges,
        )
        .await?;
    Ok(audits.into_values().collect())
}
