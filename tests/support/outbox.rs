//! The outbox as stored in MongoDB.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use mongodb::{
    Database,
    bson::{Bson, Document},
};

use super::support::Event;

/// The stored events by position; asserts that positions are unique.
pub(crate) async fn events(database: &Database) -> BTreeMap<u64, Event> {
    let documents: Vec<Document> = database
        .collection("outbox")
        .find(Document::new())
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let mut kept = BTreeMap::new();
    for document in documents {
        let events = document.get_array("events").unwrap();
        let last: u64 = document.get_i64("_id").unwrap().try_into().unwrap();
        for (position, event) in (last + 1 - events.len() as u64..).zip(events) {
            let event = event.as_document().unwrap();
            let Some(Bson::Binary(id)) = event.get("id") else { panic!("{event} has no id") };
            let (id, kind) =
                (id.to_uuid().unwrap().to_string(), event.get_str("type").unwrap().to_owned());
            let body = serde_json::from_str(event.get_str("body").unwrap()).unwrap();
            let event = Event { id, kind, body };
            let other = kept.insert(position, event);
            assert_eq!(other, None, "two events are at {position}");
        }
    }
    kept
}
