//! Writes what was decided: one or two commands for each collection, however many commits there are.

use std::collections::HashMap;

use mongodb::bson::{RawDocumentBuf, rawdoc};
use serde::Serialize;
use uuid::Uuid;

use super::{
    documents::{
        CartDocument, EventDocument, KeyDocument, KeyName, MovementDocument, ProductDocument, SessionDocument, StockDocument,
        UserDocument, raw, raw_id,
    },
    failure::Failure,
    schema::{CARTS, KEYS, MOVEMENTS, OUTBOX, PRODUCTS, SESSIONS, STOCK, USERS},
    transaction::{Statement, Transaction},
};
use crate::{
    domain::{
        clock::Timestamp,
        ids::{ProductId, SessionId, UserId},
    },
    messages::{
        change::{IdempotencyKey, Remembered},
        events::Published,
    },
    store::batch::{Loaded, WriteSet},
};

/// What the snapshot holds of the records that may be written: the versions by which they are found again, and who has which sku.
pub(super) struct Before {
    carts: HashMap<UserId, u64>,
    products: HashMap<ProductId, u64>,
    skus: HashMap<String, ProductId>,
    users: HashMap<UserId, u64>,
    sessions: HashMap<SessionId, u64>,
    stock: HashMap<ProductId, u64>,
}

impl Before {
    pub(super) fn of(loaded: &Loaded) -> Self {
        Self {
            carts: loaded.carts.clone(),
            products: loaded.products.clone(),
            skus: loaded.skus.clone(),
            users: loaded.users.clone(),
            sessions: loaded.sessions.clone(),
            stock: loaded.stock.iter().map(|(id, level)| (*id, level.version)).collect(),
        }
    }
}

/// Writes everything in `writes`; `published` are its events, rendered. Stock comes last and in the order of ids, since it is what
/// other nodes most likely want at the same time.
pub(super) async fn flush(
    transaction: &mut Transaction<'_>,
    writes: &WriteSet,
    before: &Before,
    published: &[Published],
) -> Result<(), Failure> {
    let mut users = Versioned::new(USERS);
    for (user_id, user) in &writes.users {
        users.put(user_id.as_uuid(), before.users.get(user_id), &UserDocument::from(&**user))?;
    }
    users.write(transaction).await?;
    let mut sessions = Versioned::new(SESSIONS);
    for (session_id, session) in &writes.sessions {
        sessions.put(session_id.as_uuid(), before.sessions.get(session_id), &SessionDocument::from(&**session))?;
    }
    sessions.write(transaction).await?;
    let mut carts = Versioned::new(CARTS);
    for (owner, cart) in &writes.carts {
        carts.put(owner.as_uuid(), before.carts.get(owner), &CartDocument::from(&**cart))?;
    }
    carts.write(transaction).await?;
    products(transaction, writes, before).await?;
    remembered(transaction, &writes.remembered).await?;
    movements(transaction, writes).await?;
    events(transaction, writes, published).await?;
    let mut stock = Versioned::new(STOCK);
    for (product_id, level) in &writes.stock {
        stock.put(product_id.as_uuid(), before.stock.get(product_id), &StockDocument::from(*level))?;
    }
    stock.write(transaction).await
}

/// Documents of one collection: some are new, the others replace the version that was read.
struct Versioned {
    collection: &'static str,
    new: Vec<Statement>,
    next: Vec<Statement>,
}

impl Versioned {
    const fn new(collection: &'static str) -> Self {
        Self { collection, new: Vec::new(), next: Vec::new() }
    }

    fn put(&mut self, record: Uuid, version: Option<&u64>, document: &impl Serialize) -> Result<(), Failure> {
        let document = raw(document).map_err(|error| Failure::unfit(record, error))?;
        let Some(version) = version else {
            self.new.push(Statement { record, body: document });
            return Ok(());
        };
        let version = i64::try_from(*version).unwrap_or(i64::MAX);
        let body = rawdoc! { "q": { "_id": raw_id(record), "version": version }, "u": document };
        self.next.push(Statement { record, body });
        Ok(())
    }

    async fn write(self, transaction: &mut Transaction<'_>) -> Result<(), Failure> {
        transaction.insert(self.collection, &self.new).await?;
        transaction.update(self.collection, &self.next).await
    }
}

async fn products(transaction: &mut Transaction<'_>, writes: &WriteSet, before: &Before) -> Result<(), Failure> {
    transaction.update(PRODUCTS, &released_skus(writes, before)).await?;
    let mut products = Versioned::new(PRODUCTS);
    for (product_id, product) in &writes.products {
        let record = product_id.as_uuid();
        let document = ProductDocument::try_from(&**product).map_err(|error| Failure::unfit(record, error))?;
        products.put(record, before.products.get(product_id), &document)?;
    }
    products.write(transaction).await
}

/// Takes each sku from the product that gives it up in this same batch, which is written later and may come after.
fn released_skus(writes: &WriteSet, before: &Before) -> Vec<Statement> {
    let mut released = Vec::new();
    for product in writes.products.values().filter(|product| !product.deleted) {
        let holder = product.facts.sku.as_ref().and_then(|sku| before.skus.get(sku));
        let Some(holder) = holder.filter(|holder| **holder != product.id && writes.products.contains_key(holder)) else {
            continue;
        };
        let record = holder.as_uuid();
        released.push(Statement { record, body: rawdoc! { "q": { "_id": raw_id(record) }, "u": { "$unset": { "sku": "" } } } });
    }
    released
}

/// A key that stands here already is one that is honoured no longer.
async fn remembered(
    transaction: &mut Transaction<'_>,
    remembered: &[(IdempotencyKey, Remembered, Timestamp)],
) -> Result<(), Failure> {
    let mut puts = Vec::with_capacity(remembered.len());
    for (key, answer, at) in remembered {
        let record = key.owner.as_uuid();
        let unfit = |error| Failure::unfit(record, error);
        let name = raw(&KeyName::of(key)).map_err(unfit)?;
        let document = raw(&KeyDocument::new(key, answer, *at)).map_err(unfit)?;
        puts.push(Statement { record, body: rawdoc! { "q": { "_id": name }, "u": document, "upsert": true } });
    }
    transaction.update(KEYS, &puts).await
}

async fn movements(transaction: &mut Transaction<'_>, writes: &WriteSet) -> Result<(), Failure> {
    let mut documents = Vec::with_capacity(writes.movements.len());
    for movement in &writes.movements {
        let record = movement.product_id.as_uuid();
        documents.push(statement(record, &MovementDocument::from(movement))?);
    }
    transaction.insert(MOVEMENTS, &documents).await
}

async fn events(transaction: &mut Transaction<'_>, writes: &WriteSet, published: &[Published]) -> Result<(), Failure> {
    let mut documents = Vec::with_capacity(published.len());
    for (event, place) in writes.events.iter().zip(published) {
        let record = event.fact.subject();
        let document = EventDocument::new(event, place).map_err(|error| Failure::unfit(record, error))?;
        documents.push(statement(record, &document)?);
    }
    transaction.insert(OUTBOX, &documents).await
}

fn statement(record: Uuid, document: &impl Serialize) -> Result<Statement, Failure> {
    let body: RawDocumentBuf = raw(document).map_err(|error| Failure::unfit(record, error))?;
    Ok(Statement { record, body })
}
