//! Commits and their outcomes as BSON, on their way between nodes.

#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use mongodb::bson::{self, Binary, DateTime};
use serde::{Deserialize, Serialize};

use super::super::documents::{
    ActorDocument, CartDocument, DocumentError, MailDocument, OrderDocument, bytes_to_binary,
    deserialize_bytes, hash_from_binary, timestamp_from_bson, timestamp_to_bson,
};
use crate::{
    domain::{
        action::ActionOrigin,
        cart::CartEvent,
        ids::{ProductId, PromotionId, UserId},
        pricing::UseChange,
    },
    events::DomainEvent,
    messages::command_context::{IdempotencyKey, StoredReply, TraceParent},
    store::commit::{
        Commit, CommitError, CommitOutcome, CommitReceipt, Condition, IdempotencyRecord,
        StockWrite, StoredReplyBody, Write,
    },
};

/// How long before its deadline a forwarded commit must be done, so that its outcome is back in
/// time.
const REPLY_MARGIN: Duration = Duration::from_millis(50);

/// The length of an empty BSON document.
const MIN_DOCUMENT_BYTES: usize = 5;

/// A commit that another node applies.
#[derive(Debug)]
pub(super) struct ForwardedCommit {
    pub(super) commit: Commit,
    /// Apply it before commits without priority.
    pub(super) has_priority: bool,
}

#[derive(Serialize, Deserialize)]
struct CommitDocument<'a> {
    has_priority: bool,
    conditions: Cow<'a, [Condition]>,
    #[serde(borrow)]
    writes: Vec<WriteDocument<'a>>,
    events: Vec<EventDocument>,
    #[serde(borrow)]
    idempotency_record: Option<IdempotencyDocument<'a>>,
    inbox_message_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    action: Option<ActionOriginDocument<'a>>,
    decided_at: DateTime,
    trace: Option<Cow<'a, str>>,
    /// The time left until the deadline. The clocks of nodes differ.
    remaining_millis: u32,
}

#[derive(Serialize, Deserialize)]
struct ActionOriginDocument<'a> {
    actor: ActorDocument,
    operation: Cow<'a, str>,
    request_id: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
enum WriteDocument<'a> {
    #[serde(borrow)]
    Cart(CartDocument<'a>),
    #[serde(borrow)]
    Order(Box<OrderDocument<'a>>),
    Stock(Cow<'a, StockWrite>),
    Mail(MailDocument),
    PromotionUse(PromotionId, UseChange),
}

/// An event of a record that the commit writes, without the record.
#[derive(Serialize, Deserialize)]
enum EventDocument {
    Cart(CartEvent),
    Order,
}

#[derive(Serialize, Deserialize)]
struct IdempotencyDocument<'a> {
    owner: UserId,
    #[serde(borrow)]
    key: Cow<'a, str>,
    fingerprint: Binary,
    received_at: DateTime,
    body: ReplyBodyDocument,
    about: Option<UserId>,
}

#[derive(Serialize, Deserialize)]
enum ReplyBodyDocument {
    Ready(Binary),
    StockLevelOf(ProductId),
}

#[derive(Serialize, Deserialize)]
struct OutcomeDocument {
    outcome: OutcomeKind,
}

#[derive(Serialize, Deserialize)]
enum OutcomeKind {
    Applied(CommitReceipt),
    Replayed(Binary),
    Failed(CommitError),
}

/// A commit for another node. `None` if it has parts that are not forwarded, or too little time
/// left.
pub(super) fn encode_commit(commit: &Commit, has_priority: bool, now: Instant) -> Option<Vec<u8>> {
    let remaining = commit.deadline.checked_duration_since(now)?.checked_sub(REPLY_MARGIN)?;
    let document = CommitDocument {
        has_priority,
        conditions: Cow::Borrowed(&commit.conditions),
        writes: commit.writes.iter().map(write_document).collect::<Option<_>>()?,
        events: commit
            .events
            .iter()
            .map(|event| event_document(event, &commit.writes))
            .collect::<Option<_>>()?,
        idempotency_record: match &commit.idempotency_record {
            Some(record) => Some(idempotency_document(record)?),
            None => None,
        },
        inbox_message_id: commit.inbox_message_id.as_deref().map(Cow::Borrowed),
        action: commit.action.as_deref().map(|origin| ActionOriginDocument {
            actor: origin.actor.into(),
            operation: Cow::Borrowed(&origin.operation),
            request_id: origin.request_id.as_deref().map(Cow::Borrowed),
        }),
        decided_at: timestamp_to_bson(commit.decided_at),
        trace: commit.trace.as_ref().map(|trace| Cow::Borrowed(trace.as_str())),
        remaining_millis: u32::try_from(remaining.as_millis()).ok()?,
    };
    bson::serialize_to_vec(&document).ok()
}

fn write_document(write: &Write) -> Option<WriteDocument<'_>> {
    Some(match write {
        Write::Cart(cart) => WriteDocument::Cart(CartDocument::from(&**cart)),
        Write::Order(order) => WriteDocument::Order(Box::new(OrderDocument::from(&**order))),
        Write::Stock(stock) => WriteDocument::Stock(Cow::Borrowed(stock)),
        Write::Mail(mail) if !mail.ended => WriteDocument::Mail(MailDocument::from(&**mail)),
        Write::PromotionUse(promotion, change) => WriteDocument::PromotionUse(*promotion, *change),
        Write::Product(_)
        | Write::User(_)
        | Write::ReassignGuestReplies { .. }
        | Write::Session(_)
        | Write::ApiKey(_)
        | Write::Mail(_)
        | Write::Webhook(_)
        | Write::WebhookDelivery(_)
        | Write::AddressBook(_)
        | Write::EraseAccount(_)
        | Write::PricingRule(_) => return None,
    })
}

fn event_document(event: &DomainEvent, writes: &[Write]) -> Option<EventDocument> {
    let (document, is_written) = match event {
        DomainEvent::Cart(cart, event) => {
            let written = find_cart(writes)?;
            (EventDocument::Cart(event.clone()), Arc::ptr_eq(written, cart))
        }
        DomainEvent::Order(order) => {
            (EventDocument::Order, Arc::ptr_eq(find_order(writes)?, order))
        }
        _ => return None,
    };
    is_written.then_some(document)
}

macro_rules! find_written {
    ($name:ident, $variant:ident, $record:ty) => {
        /// The only record of its kind that the commit writes.
        fn $name(writes: &[Write]) -> Option<&Arc<$record>> {
            let mut found = writes.iter().filter_map(|write| match write {
                Write::$variant(record) => Some(record),
                _ => None,
            });
            found.next().filter(|_| found.next().is_none())
        }
    };
}

find_written!(find_cart, Cart, crate::domain::cart::Cart);
find_written!(find_order, Order, crate::domain::order::Order);

fn idempotency_document(record: &IdempotencyRecord) -> Option<IdempotencyDocument<'_>> {
    let key = &record.key;
    Some(IdempotencyDocument {
        owner: key.owner,
        key: Cow::Borrowed(&key.key),
        fingerprint: bytes_to_binary(&key.fingerprint),
        received_at: timestamp_to_bson(key.received_at),
        body: match &record.body {
            StoredReplyBody::Ready(body) => ReplyBodyDocument::Ready(bytes_to_binary(body)),
            StoredReplyBody::StockLevelOf(product) => ReplyBodyDocument::StockLevelOf(*product),
            StoredReplyBody::Refused => return None,
        },
        about: record.about,
    })
}

/// Reads what [`encode_commit`] wrote.
pub(super) fn decode_commit(bytes: &[u8], now: Instant) -> Result<ForwardedCommit, DocumentError> {
    let document: CommitDocument<'_> = deserialize_bytes(bytes)?;
    let writes: Vec<Write> =
        document.writes.into_iter().map(decode_write).collect::<Result<_, _>>()?;
    let missing = || DocumentError("an event has no record".to_owned());
    let event = |event| {
        Ok(match event {
            EventDocument::Cart(event) => {
                DomainEvent::Cart(Arc::clone(find_cart(&writes).ok_or_else(missing)?), event)
            }
            EventDocument::Order => {
                DomainEvent::Order(Arc::clone(find_order(&writes).ok_or_else(missing)?))
            }
        })
    };
    let events = document.events.into_iter().map(event).collect::<Result<_, DocumentError>>()?;
    let commit = Commit {
        conditions: document.conditions.into_owned(),
        writes,
        events,
        idempotency_record: document.idempotency_record.map(decode_idempotency).transpose()?,
        inbox_message_id: document.inbox_message_id.map(|id| id.into_owned().into_boxed_str()),
        action: document.action.map(decode_origin).transpose()?,
        decided_at: timestamp_from_bson(document.decided_at),
        trace: document.trace.as_deref().and_then(TraceParent::parse),
        deadline: now + Duration::from_millis(document.remaining_millis.into()),
    };
    Ok(ForwardedCommit { commit, has_priority: document.has_priority })
}

fn decode_write(document: WriteDocument<'_>) -> Result<Write, DocumentError> {
    Ok(match document {
        WriteDocument::Cart(cart) => Write::Cart(Arc::new(cart.try_into()?)),
        WriteDocument::Order(order) => Write::Order(Arc::new((*order).try_into()?)),
        WriteDocument::Stock(stock) => Write::Stock(stock.into_owned()),
        WriteDocument::Mail(mail) => Write::Mail(Arc::new(mail.try_into()?)),
        WriteDocument::PromotionUse(promotion, change) => Write::PromotionUse(promotion, change),
    })
}

fn decode_origin(document: ActionOriginDocument<'_>) -> Result<Arc<ActionOrigin>, DocumentError> {
    Ok(Arc::new(ActionOrigin {
        actor: document.actor.try_into()?,
        operation: Cow::Owned(document.operation.into_owned()),
        request_id: document.request_id.map(|id| id.into_owned().into_boxed_str()),
    }))
}

fn decode_idempotency(
    document: IdempotencyDocument<'_>,
) -> Result<IdempotencyRecord, DocumentError> {
    Ok(IdempotencyRecord {
        key: IdempotencyKey {
            owner: document.owner,
            key: document.key.into_owned().into_boxed_str(),
            fingerprint: hash_from_binary(&document.fingerprint)?,
            received_at: timestamp_from_bson(document.received_at),
        },
        body: match document.body {
            ReplyBodyDocument::Ready(body) => StoredReplyBody::Ready(Bytes::from(body.bytes)),
            ReplyBodyDocument::StockLevelOf(product) => StoredReplyBody::StockLevelOf(product),
        },
        about: document.about,
    })
}

/// The outcome of a commit, for the node that forwarded it. `None` if it cannot be represented.
pub(super) fn encode_outcome(outcome: CommitOutcome) -> Option<Vec<u8>> {
    let outcome = match outcome {
        Ok(receipt) => OutcomeKind::Applied(receipt),
        Err(CommitError::Replayed(reply)) => OutcomeKind::Replayed(bytes_to_binary(&reply.body)),
        Err(error) => OutcomeKind::Failed(error),
    };
    bson::serialize_to_vec(&OutcomeDocument { outcome }).ok()
}

/// Reads what [`encode_outcome`] wrote.
pub(super) fn decode_outcome(bytes: &[u8]) -> Result<CommitOutcome, DocumentError> {
    let document: OutcomeDocument = deserialize_bytes(bytes)?;
    Ok(match document.outcome {
        OutcomeKind::Applied(receipt) => Ok(receipt),
        OutcomeKind::Replayed(body) => {
            Err(CommitError::Replayed(StoredReply { body: Bytes::from(body.bytes) }))
        }
        OutcomeKind::Failed(error) => Err(error),
    })
}

/// Appends one of several messages of a frame: its number, and a BSON document.
pub(super) fn push_message(frame: &mut Vec<u8>, number: u64, document: &[u8]) {
    frame.extend_from_slice(&number.to_be_bytes());
    frame.extend_from_slice(document);
}

/// Splits a frame into its messages.
pub(super) fn split_messages(mut frame: &[u8]) -> Option<Vec<(u64, &[u8])>> {
    let mut messages = Vec::new();
    while !frame.is_empty() {
        let (number, rest) = frame.split_first_chunk::<8>()?;
        // A BSON document begins with its length.
        let length = i32::from_le_bytes(*rest.first_chunk::<4>()?);
        let (document, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        if document.len() < MIN_DOCUMENT_BYTES {
            return None;
        }
        messages.push((u64::from_be_bytes(*number), document));
        frame = rest;
    }
    Some(messages)
}
