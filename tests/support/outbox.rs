//! The outbox as stored in MongoDB.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use mongodb::{
    Database,
    bson::{Bson, Document, doc},
};
use souk::events::OutboxPosition;

use super::support::Event;

/// The stored events by position; asserts that positions are unique.
pub(crate) async fn events(database: &Database) -> BTreeMap<OutboxPosition, Event> {
    let outbox = database.collection("outbox");
    let are_events = doc! { "_id": { "$type": "number" } };
    let documents: Vec<Document> =
        outbox.find(are_events).await.unwrap().try_collect().await.unwrap();
    let mut kept = BTreeMap::new();
    for document in documents {
        let events = document.get_array("events").unwrap();
        let last = OutboxPosition::from_i64(document.get_i64("_id").unwrap()).unwrap();
        for (offset, event) in (last.offset + 1 - events.len() as u64..).zip(events) {
            let event = event.as_document().unwrap();
            let Some(Bson::Binary(id)) = event.get("id") else { panic!("{event} has no id") };
            let (id, kind) =
                (id.to_uuid().unwrap().to_string(), event.get_str("type").unwrap().to_owned());
            let body = serde_json::from_str(event.get_str("body").unwrap()).unwrap();
            let position = OutboxPosition { offset, ..last };
            let other = kept.insert(position, Event { id, kind, body, feed_id: None });
            assert_eq!(other, None, "two events are at {position}");
        }
    }
    kept
}
