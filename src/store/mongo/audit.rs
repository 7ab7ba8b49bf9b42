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
    documents::{Unfit, id, own},
    load::read,
    read::{Read, order_of},
    schema::{COUNTERS, MOVEMENTS, ORDERS, OUTBOX, PRODUCTS, STOCK},
};
use crate::domain::{
    audit::{EventFacts, Ledger, Moved, OrderFacts, Page, ProductFacts, Span, StockFacts, join},
    ids::{OrderId, ProductId},
    inventory::MovementKind,
    order::OrderStatus,
};

/// Most sums of an order's movements on a page of orders.
const MAX_MOVED: usize = 50_000;

/// Most stretches of events that are told.
const MAX_RUNS: usize = 1000;

/// One moment of the store.
struct Moment {
    database: Database,
    session: ClientSession,
}

impl Moment {
    /// The moment of the first read.
    async fn new(database: Database) -> Read<Self> {
        let session = database.client().start_session().snapshot(true).await?;
        Ok(Self { database, session })
    }

    /// Has `each` read what `stages` make of a collection.
    async fn read(
        &mut self,
        collection: &str,
        stages: Vec<Document>,
        mut each: impl FnMut(&RawDocument) -> Result<(), Unfit>,
    ) -> Read<()> {
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
fn within(span: Span) -> Document {
    doc! { "$gt": id(span.after), "$lte": id(span.upto) }
}

fn limit(limit: usize) -> Document {
    // To the server, no limit would be an error.
    doc! { "$limit": i64::try_from(limit.max(1)).unwrap_or(i64::MAX) }
}

fn entry(facts: &mut BTreeMap<ProductId, ProductFacts>, product: Id) -> &mut ProductFacts {
    let product = own(product);
    facts.entry(product).or_insert_with(|| ProductFacts::none(product))
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "_id")]
    id: Id,
}

pub(super) async fn products(
    database: Database,
    span: Span,
    most: u32,
) -> Read<Page<ProductFacts>> {
    let mut moment = Moment::new(database).await?;
    let mut facts = BTreeMap::new();
    let ids = vec![
        doc! { "$match": { "_id": within(span) } },
        doc! { "$sort": { "_id": 1 } },
        limit(most as usize),
        doc! { "$project": { "_id": 1 } },
    ];
    let known = |document: &RawDocument| {
        entry(&mut facts, read::<Named>(document)?.id).known = true;
        Ok(())
    };
    moment.read(PRODUCTS, ids, known).await?;
    let last =
        facts.last_key_value().map(|(last, _)| *last).filter(|_| facts.len() >= most as usize);
    let (span, rest) = last.map_or((span, None), |last| {
        let (here, rest) = span.split(last.as_uuid());
        (here, Some(rest))
    });
    levels(&mut moment, span, &mut facts).await?;
    ledgers(&mut moment, span, &mut facts).await?;
    promised(&mut moment, span, &mut facts).await?;
    Ok(Page { items: facts.into_values().collect(), rest })
}

async fn levels(
    moment: &mut Moment,
    span: Span,
    facts: &mut BTreeMap<ProductId, ProductFacts>,
) -> Read<()> {
    #[derive(Deserialize)]
    struct Level {
        #[serde(rename = "_id")]
        id: Id,
        on_hand: i64,
        reserved: i64,
        version: u64,
        last_movement: i64,
    }
    let level = |document: &RawDocument| {
        let Level { id, on_hand, reserved, version, last_movement } = read(document)?;
        entry(facts, id).stock = StockFacts { on_hand, reserved, version, last_movement };
        Ok(())
    };
    moment.read(STOCK, vec![doc! { "$match": { "_id": within(span) } }], level).await
}

async fn ledgers(
    moment: &mut Moment,
    span: Span,
    facts: &mut BTreeMap<ProductId, ProductFacts>,
) -> Read<()> {
    #[derive(Deserialize)]
    struct Sums {
        #[serde(rename = "_id")]
        id: Id,
        count: u64,
        first: i64,
        last: i64,
        on_hand: i64,
        reserved: i64,
    }
    // A product's movements stand together, in order, so that this is one stretch of the collection.
    let beyond = |product: Uuid| doc! { "product_id": id(product), "sequence": Bson::MaxKey };
    let stages = vec![
        doc! { "$match": { "_id": { "$gt": beyond(span.after), "$lte": beyond(span.upto) } } },
        doc! { "$group": {
            "_id": "$_id.product_id", "count": { "$sum": 1_i64 },
            "first": { "$min": "$_id.sequence" }, "last": { "$max": "$_id.sequence" },
            "on_hand": { "$sum": "$on_hand_delta" }, "reserved": { "$sum": "$reserved_delta" },
        } },
    ];
    let sums = |document: &RawDocument| {
        let Sums { id, count, first, last, on_hand, reserved } = read(document)?;
        entry(facts, id).ledger = Ledger { count, first, last, on_hand, reserved };
        Ok(())
    };
    moment.read(MOVEMENTS, stages, sums).await
}

/// Has the server read all orders for each page: an index that would spare it would cost every checkout.
async fn promised(
    moment: &mut Moment,
    span: Span,
    facts: &mut BTreeMap<ProductId, ProductFacts>,
) -> Read<()> {
    #[derive(Deserialize)]
    struct Sum {
        #[serde(rename = "_id")]
        id: Id,
        pieces: i64,
    }
    let open = [OrderStatus::PendingPayment, OrderStatus::Paid].map(OrderStatus::as_str);
    let stages = vec![
        doc! { "$match": { "status": { "$in": open.to_vec() }, "lines": { "$elemMatch": { "product_id": within(span) } } } },
        doc! { "$project": { "lines.product_id": 1, "lines.quantity": 1 } },
        doc! { "$unwind": "$lines" },
        doc! { "$match": { "lines.product_id": within(span) } },
        doc! { "$group": { "_id": "$lines.product_id", "pieces": { "$sum": "$lines.quantity" } } },
    ];
    let sum = |document: &RawDocument| {
        let Sum { id, pieces } = read(document)?;
        entry(facts, id).promised = pieces;
        Ok(())
    };
    moment.read(ORDERS, stages, sum).await
}

pub(super) async fn orders(database: Database, span: Span, most: u32) -> Read<Page<OrderFacts>> {
    let mut moment = Moment::new(database).await?;
    let most = most as usize;
    let mut orders = Vec::new();
    let stages = vec![
        doc! { "$match": { "_id": within(span) } },
        doc! { "$sort": { "_id": 1 } },
        limit(most),
    ];
    let order = |document: &RawDocument| {
        orders.push(order_of(document)?);
        Ok(())
    };
    moment.read(ORDERS, stages, order).await?;
    let here = match orders.last() {
        Some(last) if orders.len() >= most => span.split(last.id.as_uuid()).0,
        _ => span,
    };
    let moved = moved(&mut moment, here).await?;
    let named = orders.iter().flat_map(|order| order.lines.iter().map(|line| line.product_id));
    let named: BTreeSet<ProductId> =
        named.chain(moved.iter().map(|(_, product, _)| *product)).collect();
    let versions = versions(&mut moment, named).await?;
    Ok(join(span, (orders, most), (moved, MAX_MOVED), &versions))
}

async fn moved(moment: &mut Moment, span: Span) -> Read<Vec<(OrderId, ProductId, Moved)>> {
    #[derive(Deserialize)]
    struct Name {
        order_id: Id,
        product_id: Id,
    }
    #[derive(Deserialize)]
    struct Sums {
        #[serde(rename = "_id")]
        name: Name,
        on_hand: i64,
        reserved: i64,
        ever_reserved: i64,
    }
    let is_reserved = doc! { "$eq": ["$kind", MovementKind::Reserved.as_str()] };
    let stages = vec![
        doc! { "$match": { "order_id": within(span) } },
        doc! { "$group": {
            "_id": { "order_id": "$order_id", "product_id": "$_id.product_id" },
            "on_hand": { "$sum": "$on_hand_delta" }, "reserved": { "$sum": "$reserved_delta" },
            "ever_reserved": { "$sum": { "$cond": [is_reserved, "$reserved_delta", 0_i64] } },
        } },
        doc! { "$sort": { "_id": 1 } },
        limit(MAX_MOVED),
    ];
    let mut found = Vec::new();
    let sums = |document: &RawDocument| {
        let Sums { name, on_hand, reserved, ever_reserved } = read(document)?;
        found.push((
            own(name.order_id),
            own(name.product_id),
            Moved { on_hand, reserved, ever_reserved },
        ));
        Ok(())
    };
    moment.read(MOVEMENTS, stages, sums).await?;
    Ok(found)
}

async fn versions(
    moment: &mut Moment,
    named: BTreeSet<ProductId>,
) -> Read<HashMap<ProductId, u64>> {
    #[derive(Deserialize)]
    struct Version {
        #[serde(rename = "_id")]
        id: Id,
        version: u64,
    }
    let ids: Vec<Id> = named.into_iter().map(|product| id(product.as_uuid())).collect();
    let mut found = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(1000) {
        let stages = vec![
            doc! { "$match": { "_id": { "$in": ids } } },
            doc! { "$project": { "version": 1 } },
        ];
        let note = |document: &RawDocument| {
            let Version { id, version } = read(document)?;
            found.insert(own(id), version);
            Ok(())
        };
        moment.read(STOCK, stages, note).await?;
    }
    Ok(found)
}

pub(super) async fn events(database: Database) -> Read<EventFacts> {
    #[derive(Deserialize)]
    struct Together {
        #[serde(rename = "_id")]
        last: u64,
        count: u64,
    }
    #[derive(Deserialize)]
    struct Counter {
        last: u64,
    }
    let mut moment = Moment::new(database).await?;
    let mut facts = EventFacts::default();
    let counter = |document: &RawDocument| {
        facts.last = Some(read::<Counter>(document)?.last);
        Ok(())
    };
    moment.read(COUNTERS, vec![doc! { "$match": { "_id": OUTBOX } }], counter).await?;
    let together = |document: &RawDocument| {
        let Together { last, count } = read(document)?;
        let first = (last + 1).saturating_sub(count);
        let room = facts.runs.len() < MAX_RUNS;
        match facts.runs.last_mut() {
            Some((_, end)) if *end + 1 == first => *end = last,
            _ if room => facts.runs.push((first, last)),
            _ => {}
        }
        Ok(())
    };
    let count = doc! { "$toLong": { "$size": "$events" } };
    moment
        .read(
            OUTBOX,
            vec![doc! { "$sort": { "_id": 1 } }, doc! { "$project": { "count": count } }],
            together,
        )
        .await?;
    Ok(facts)
}
