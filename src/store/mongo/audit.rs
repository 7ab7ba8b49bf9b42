//! What an audit looks at. All reads of a page are from one snapshot, so that they agree however much is changed beside them; sums
//! are made by the server.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mongodb::{
    ClientSession, Database,
    bson::{Bson, Document, RawDocument, RawDocumentBuf, Uuid as Id, doc},
    options::{CollectionOptions, ReadConcern},
};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    documents::{DocumentError, id_from_bson, id_to_bson},
    load::deserialize_document,
    read::{ReadResult, order_from_document},
    schema::{COUNTERS, MOVEMENTS, ORDERS, OUTBOX, PRODUCTS, STOCK},
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
    store::limits::{MAX_MOVEMENT_SUMS, MAX_POSITION_RANGES},
};

/// One moment of the store.
struct SnapshotReader {
    database: Database,
    session: ClientSession,
}

impl SnapshotReader {
    /// The moment of the first read.
    async fn start(database: Database) -> ReadResult<Self> {
        let session = database.client().start_session().snapshot(true).await?;
        Ok(Self { database, session })
    }

    /// Has `each` read what `stages` make of a collection.
    async fn aggregate_each(
        &mut self,
        collection: &str,
        stages: Vec<Document>,
        mut each: impl FnMut(&RawDocument) -> Result<(), DocumentError>,
    ) -> ReadResult<()> {
        let options = CollectionOptions::builder().read_concern(ReadConcern::snapshot()).build();
        let collection =
            self.database.collection_with_options::<RawDocumentBuf>(collection, options);
        let found = collection.aggregate(stages).batch_size(10_000).with_type::<RawDocumentBuf>();
        let mut cursor = found.session(&mut self.session).await?;
        while cursor.advance(&mut self.session).await? {
            each(cursor.current())?;
        }
        Ok(())
    }
}

/// Ids in `span`.
fn id_range_filter(span: IdRange) -> Document {
    doc! { "$gt": id_to_bson(span.after), "$lte": id_to_bson(span.up_to) }
}

fn limit_stage(limit: usize) -> Document {
    // To the server, no limit would be an error.
    doc! { "$limit": i64::try_from(limit.max(1)).unwrap_or(i64::MAX) }
}

fn product_entry(facts: &mut BTreeMap<ProductId, ProductAudit>, product: Id) -> &mut ProductAudit {
    let product = id_from_bson(product);
    facts.entry(product).or_insert_with(|| ProductAudit::empty(product))
}

#[derive(Deserialize)]
struct ProductIdRow {
    #[serde(rename = "_id")]
    id: Id,
}

pub(super) async fn read_product_page(
    database: Database,
    span: IdRange,
    most: u32,
) -> ReadResult<AuditPage<ProductAudit>> {
    let mut moment = SnapshotReader::start(database).await?;
    let mut facts = BTreeMap::new();
    let ids = vec![
        doc! { "$match": { "_id": id_range_filter(span) } },
        doc! { "$sort": { "_id": 1 } },
        limit_stage(most as usize),
        doc! { "$project": { "_id": 1 } },
    ];
    let known = |document: &RawDocument| {
        product_entry(&mut facts, deserialize_document::<ProductIdRow>(document)?.id).known = true;
        Ok(())
    };
    moment.aggregate_each(PRODUCTS, ids, known).await?;
    let last =
        facts.last_key_value().map(|(last, _)| *last).filter(|_| facts.len() >= most as usize);
    let (span, rest) = last.map_or((span, None), |last| {
        let (here, rest) = span.split_after(last.as_uuid());
        (here, Some(rest))
    });
    read_stock_levels(&mut moment, span, &mut facts).await?;
    sum_ledgers(&mut moment, span, &mut facts).await?;
    sum_promised_units(&mut moment, span, &mut facts).await?;
    Ok(AuditPage { items: facts.into_values().collect(), remaining: rest })
}

async fn read_stock_levels(
    moment: &mut SnapshotReader,
    span: IdRange,
    facts: &mut BTreeMap<ProductId, ProductAudit>,
) -> ReadResult<()> {
    #[derive(Deserialize)]
    struct StockRow {
        #[serde(rename = "_id")]
        id: Id,
        on_hand: i64,
        reserved: i64,
        version: u64,
        last_movement: i64,
    }
    let level = |document: &RawDocument| {
        let StockRow { id, on_hand, reserved, version, last_movement } =
            deserialize_document(document)?;
        product_entry(facts, id).stock = StoredStock { on_hand, reserved, version, last_movement };
        Ok(())
    };
    moment
        .aggregate_each(STOCK, vec![doc! { "$match": { "_id": id_range_filter(span) } }], level)
        .await
}

async fn sum_ledgers(
    moment: &mut SnapshotReader,
    span: IdRange,
    facts: &mut BTreeMap<ProductId, ProductAudit>,
) -> ReadResult<()> {
    #[derive(Deserialize)]
    struct LedgerSums {
        #[serde(rename = "_id")]
        id: Id,
        count: u64,
        first: i64,
        last: i64,
        on_hand: i64,
        reserved: i64,
    }
    // A product's movements stand together, in order, so that this is one stretch of the collection.
    let beyond =
        |product: Uuid| doc! { "product_id": id_to_bson(product), "sequence": Bson::MaxKey };
    let stages = vec![
        doc! { "$match": { "_id": { "$gt": beyond(span.after), "$lte": beyond(span.up_to) } } },
        doc! { "$group": {
            "_id": "$_id.product_id", "count": { "$sum": 1_i64 },
            "first": { "$min": "$_id.sequence" }, "last": { "$max": "$_id.sequence" },
            "on_hand": { "$sum": "$on_hand_delta" }, "reserved": { "$sum": "$reserved_delta" },
        } },
    ];
    let sums = |document: &RawDocument| {
        let LedgerSums { id, count, first, last, on_hand, reserved } =
            deserialize_document(document)?;
        product_entry(facts, id).ledger = LedgerTotals { count, first, last, on_hand, reserved };
        Ok(())
    };
    moment.aggregate_each(MOVEMENTS, stages, sums).await
}

/// Has the server read all orders for each page: an index that would spare it would cost every checkout.
async fn sum_promised_units(
    moment: &mut SnapshotReader,
    span: IdRange,
    facts: &mut BTreeMap<ProductId, ProductAudit>,
) -> ReadResult<()> {
    #[derive(Deserialize)]
    struct PromisedUnits {
        #[serde(rename = "_id")]
        id: Id,
        units: i64,
    }
    let open = [OrderStatus::PendingPayment, OrderStatus::Paid].map(OrderStatus::as_str);
    let stages = vec![
        doc! { "$match": { "status": { "$in": open.to_vec() }, "lines": { "$elemMatch": { "product_id": id_range_filter(span) } } } },
        doc! { "$project": { "lines.product_id": 1, "lines.quantity": 1 } },
        doc! { "$unwind": "$lines" },
        doc! { "$match": { "lines.product_id": id_range_filter(span) } },
        doc! { "$group": { "_id": "$lines.product_id", "units": { "$sum": "$lines.quantity" } } },
    ];
    let sum = |document: &RawDocument| {
        let PromisedUnits { id, units } = deserialize_document(document)?;
        product_entry(facts, id).promised = units;
        Ok(())
    };
    moment.aggregate_each(ORDERS, stages, sum).await
}

pub(super) async fn read_order_page(
    database: Database,
    span: IdRange,
    most: u32,
) -> ReadResult<AuditPage<OrderAudit>> {
    let mut moment = SnapshotReader::start(database).await?;
    let most = most as usize;
    let mut orders = Vec::new();
    let stages = vec![
        doc! { "$match": { "_id": id_range_filter(span) } },
        doc! { "$sort": { "_id": 1 } },
        limit_stage(most),
    ];
    let order = |document: &RawDocument| {
        orders.push(order_from_document(document)?);
        Ok(())
    };
    moment.aggregate_each(ORDERS, stages, order).await?;
    let here = match orders.last() {
        Some(last) if orders.len() >= most => span.split_after(last.id.as_uuid()).0,
        _ => span,
    };
    let moved = sum_order_movements(&mut moment, here).await?;
    let named = orders.iter().flat_map(|order| order.lines.iter().map(|line| line.product_id));
    let named: BTreeSet<ProductId> =
        named.chain(moved.iter().map(|(_, product, _)| *product)).collect();
    let versions = read_stock_versions(&mut moment, named).await?;
    Ok(join_orders_with_movements(
        span,
        (orders, most),
        (moved, MAX_MOVEMENT_SUMS as usize),
        &versions,
    ))
}

async fn sum_order_movements(
    moment: &mut SnapshotReader,
    span: IdRange,
) -> ReadResult<Vec<(OrderId, ProductId, MovementTotals)>> {
    #[derive(Deserialize)]
    struct OrderProductKey {
        order_id: Id,
        product_id: Id,
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
        doc! { "$match": { "order_id": id_range_filter(span) } },
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
    moment.aggregate_each(MOVEMENTS, stages, sums).await?;
    Ok(found)
}

async fn read_stock_versions(
    moment: &mut SnapshotReader,
    named: BTreeSet<ProductId>,
) -> ReadResult<HashMap<ProductId, u64>> {
    #[derive(Deserialize)]
    struct RecordVersion {
        #[serde(rename = "_id")]
        id: Id,
        version: u64,
    }
    let ids: Vec<Id> = named.into_iter().map(|product| id_to_bson(product.as_uuid())).collect();
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
        moment.aggregate_each(STOCK, stages, note).await?;
    }
    Ok(found)
}

pub(super) async fn read_event_ranges(database: Database) -> ReadResult<EventAudit> {
    #[derive(Deserialize)]
    struct EventRange {
        #[serde(rename = "_id")]
        last: u64,
        count: u64,
    }
    #[derive(Deserialize)]
    struct Counter {
        last: u64,
    }
    let mut moment = SnapshotReader::start(database).await?;
    let mut facts = EventAudit::default();
    let counter = |document: &RawDocument| {
        facts.recorded_last = Some(deserialize_document::<Counter>(document)?.last);
        Ok(())
    };
    moment.aggregate_each(COUNTERS, vec![doc! { "$match": { "_id": OUTBOX } }], counter).await?;
    let together = |document: &RawDocument| {
        let EventRange { last, count } = deserialize_document(document)?;
        let first = (last + 1).saturating_sub(count);
        let room = facts.ranges.len() < MAX_POSITION_RANGES as usize;
        match facts.ranges.last_mut() {
            Some((_, end)) if *end + 1 == first => *end = last,
            _ if room => facts.ranges.push((first, last)),
            _ => {}
        }
        Ok(())
    };
    let count = doc! { "$toLong": { "$size": "$events" } };
    moment
        .aggregate_each(
            OUTBOX,
            vec![doc! { "$sort": { "_id": 1 } }, doc! { "$project": { "count": count } }],
            together,
        )
        .await?;
    Ok(facts)
}
