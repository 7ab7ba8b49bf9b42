//! Writes what was decided: one or two commands for each collection, however many commits there are.

use std::collections::{HashMap, HashSet};

use mongodb::bson::{RawBson, rawdoc};
use serde::Serialize;
use uuid::Uuid;

use super::{
    documents::{
        CartDocument, EventsDocument, KeyDocument, KeyName, MovementDocument, OrderDocument,
        ProductDocument, SessionDocument, StockDocument, UserDocument, date, raw, raw_id,
    },
    failure::Failure,
    schema::{CARTS, INBOX, KEYS, MOVEMENTS, ORDERS, OUTBOX, PRODUCTS, SESSIONS, STOCK, USERS},
    transaction::{Statement, Transaction},
};
use crate::{
    domain::{
        clock::Timestamp,
        ids::{OrderId, ProductId, SessionId, UserId},
    },
    events::{Event, Published},
    store::plan::{KeyId, Loaded, WriteSet},
};

/// Most events in one document, and most bytes of them, unless one alone has more.
const EVENTS: (usize, usize) = (256, 1024 * 1024);

/// What the snapshot holds of the records that may be written, and who has which sku.
///
/// A record is written by its id alone. It has the version that was read: the server lets a transaction fail that writes a document
/// which has changed since its snapshot. To ask for the version as well would take the server nearly twice as long.
pub(super) struct Before {
    carts: HashSet<UserId>,
    products: HashSet<ProductId>,
    skus: HashMap<String, ProductId>,
    orders: HashSet<OrderId>,
    users: HashSet<UserId>,
    sessions: HashSet<SessionId>,
    stock: HashSet<ProductId>,
    /// Keys that are there and honoured no longer.
    worn: HashSet<KeyId>,
}

impl Before {
    pub(super) fn of(loaded: &Loaded, worn: HashSet<KeyId>) -> Self {
        Self {
            carts: loaded.carts.keys().copied().collect(),
            products: loaded.products.keys().copied().collect(),
            skus: loaded.skus.clone(),
            orders: loaded.orders.keys().copied().collect(),
            users: loaded.users.keys().copied().collect(),
            sessions: loaded.sessions.keys().copied().collect(),
            stock: loaded.stock.keys().copied().collect(),
            worn,
        }
    }
}

/// Writes everything in `writes`; `published` are its events, rendered.
pub(super) async fn flush(
    transaction: &mut Transaction<'_>,
    writes: &WriteSet,
    before: &Before,
    published: &[Published],
) -> Result<(), Failure> {
    for documents in in_order(writes, before, published)? {
        documents.write(transaction).await?;
    }
    Ok(())
}

/// What is written, in that order. Stock comes last and in the order of ids, since it is what other nodes most likely want at the same
/// time.
fn in_order(
    writes: &WriteSet,
    before: &Before,
    published: &[Published],
) -> Result<[Documents; 11], Failure> {
    let mut users = Documents::of(USERS);
    for (user_id, user) in &writes.users {
        users.put(
            user_id.as_uuid(),
            before.users.contains(user_id),
            &UserDocument::from(&**user),
        )?;
    }
    let mut sessions = Documents::of(SESSIONS);
    for (session_id, session) in &writes.sessions {
        sessions.put(
            session_id.as_uuid(),
            before.sessions.contains(session_id),
            &SessionDocument::from(&**session),
        )?;
    }
    let mut carts = Documents::of(CARTS);
    for (owner, cart) in &writes.carts {
        carts.put(owner.as_uuid(), before.carts.contains(owner), &CartDocument::from(&**cart))?;
    }
    let mut products = Documents::of(PRODUCTS);
    for (product_id, product) in &writes.products {
        let record = product_id.as_uuid();
        let document =
            ProductDocument::try_from(&**product).map_err(|error| Failure::unfit(record, error))?;
        products.put(record, before.products.contains(product_id), &document)?;
    }
    let mut orders = Documents::of(ORDERS);
    for (order_id, order) in &writes.orders {
        orders.put(
            order_id.as_uuid(),
            before.orders.contains(order_id),
            &OrderDocument::from(&**order),
        )?;
    }
    let mut stock = Documents::of(STOCK);
    for (product_id, level) in &writes.stock {
        stock.put(
            product_id.as_uuid(),
            before.stock.contains(product_id),
            &StockDocument::from(*level),
        )?;
    }
    Ok([
        users,
        sessions,
        carts,
        released_skus(writes, before),
        products,
        orders,
        remembered(writes, before)?,
        inbox(writes),
        movements(writes)?,
        events(writes, published)?,
        stock,
    ])
}

/// Documents of one collection: some are new, the others replace what was read.
struct Documents {
    collection: &'static str,
    new: Vec<Statement>,
    next: Vec<Statement>,
}

impl Documents {
    const fn of(collection: &'static str) -> Self {
        Self { collection, new: Vec::new(), next: Vec::new() }
    }

    fn put(
        &mut self,
        record: Uuid,
        exists: bool,
        document: &impl Serialize,
    ) -> Result<(), Failure> {
        self.put_named(record, exists, raw_id(record), document)
    }

    /// Puts one whose `_id` is another than that of the record it is blamed on.
    fn put_named(
        &mut self,
        record: Uuid,
        exists: bool,
        name: impl Into<RawBson>,
        document: &impl Serialize,
    ) -> Result<(), Failure> {
        let document = raw(document).map_err(|error| Failure::unfit(record, error))?;
        if exists {
            self.next.push(Statement {
                record,
                body: rawdoc! { "q": { "_id": name.into() }, "u": document },
            });
        } else {
            self.new.push(Statement { record, body: document });
        }
        Ok(())
    }

    async fn write(self, transaction: &mut Transaction<'_>) -> Result<(), Failure> {
        transaction.insert(self.collection, &self.new).await?;
        transaction.update(self.collection, &self.next).await
    }
}

/// Takes each sku from the product that gives it up in this same batch, which is written later and may come after.
fn released_skus(writes: &WriteSet, before: &Before) -> Documents {
    let mut released = Documents::of(PRODUCTS);
    for product in writes.products.values().filter(|product| !product.deleted) {
        let holder = product.facts.sku.as_ref().and_then(|sku| before.skus.get(sku));
        let Some(holder) =
            holder.filter(|holder| **holder != product.id && writes.products.contains_key(holder))
        else {
            continue;
        };
        let record = holder.as_uuid();
        let unset = rawdoc! { "q": { "_id": raw_id(record) }, "u": { "$unset": { "sku": "" } } };
        released.next.push(Statement { record, body: unset });
    }
    released
}

fn remembered(writes: &WriteSet, before: &Before) -> Result<Documents, Failure> {
    let mut keys = Documents::of(KEYS);
    for (key, answer, at) in &writes.remembered {
        let record = key.owner.as_uuid();
        let name = raw(&KeyName::of(key)).map_err(|error| Failure::unfit(record, error))?;
        let worn = !before.worn.is_empty() && before.worn.contains(&(key.owner, key.key.clone()));
        keys.put_named(record, worn, name, &KeyDocument::new(key, answer, *at))?;
    }
    Ok(keys)
}

fn inbox(writes: &WriteSet) -> Documents {
    // No record to blame: should one not be written, nobody knows whose it is.
    let statement = |(id, at): &(Box<str>, Timestamp)| Statement {
        record: Uuid::nil(),
        body: rawdoc! { "_id": &**id, "at": date(*at) },
    };
    Documents { new: writes.inbox.iter().map(statement).collect(), ..Documents::of(INBOX) }
}

fn movements(writes: &WriteSet) -> Result<Documents, Failure> {
    let mut movements = Documents::of(MOVEMENTS);
    for movement in &writes.movements {
        movements.put(movement.product_id.as_uuid(), false, &MovementDocument::from(movement))?;
    }
    Ok(movements)
}

/// A document that is refused cannot be blamed on one commit.
fn events(writes: &WriteSet, published: &[Published]) -> Result<Documents, Failure> {
    let events: Vec<(&Event, &Published)> = writes.events.iter().zip(published).collect();
    let mut documents = Documents::of(OUTBOX);
    let mut rest = events.as_slice();
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |(_, place): &&(&Event, &Published)| {
            bytes += place.body.len();
            bytes <= EVENTS.1
        };
        let count = rest.iter().take(EVENTS.0).take_while(fits).count().max(1);
        let (together, after) = rest.split_at(count);
        let document = EventsDocument::new(together).map_err(|error| Failure::refused(error.0))?;
        documents.put(Uuid::nil(), false, &document)?;
        rest = after;
    }
    Ok(documents)
}
