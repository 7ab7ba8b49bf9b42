//! The event feed, as a listener reads it.

use std::{collections::BTreeMap, time::Duration};

use futures_util::StreamExt;
use serde_json::Value;

use super::{Account, TestApp};

/// Nothing takes as long, on any machine.
const NEVER: Duration = Duration::from_secs(60);

/// An event as the feed tells it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) kind: String,
    /// The CloudEvent.
    pub(crate) body: Value,
}

/// An open feed.
pub(crate) struct Feed {
    response:
        std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    buffer: String,
}

impl TestApp {
    /// Opens the feed as `who`, or as anyone, after event `last`. From here on no event is missed.
    pub(crate) async fn listen(&self, who: Option<&Account>, last: Option<&str>) -> Feed {
        let mut call = self.get("/api/events");
        if let Some(who) = who {
            call = call.token(who);
        }
        if let Some(last) = last {
            call = call.header("last-event-id", last);
        }
        let response = call.open().await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut feed = Feed { response: Box::pin(response.bytes_stream()), buffer: String::new() };
        assert_eq!(feed.block().await.as_deref(), Some(": souk"), "a feed greets");
        feed
    }
}

impl Feed {
    /// The next event.
    pub(crate) async fn next(&mut self) -> Event {
        self.next_or_end().await.expect("the feed ended")
    }

    /// The next event, or nothing when the server has ended the feed.
    pub(crate) async fn next_or_end(&mut self) -> Option<Event> {
        loop {
            let block = self.block().await?;
            if !block.starts_with(':') {
                return Some(Event::parse(&block));
            }
        }
    }

    /// All events up to the first that `is_last`, which is the last of them.
    pub(crate) async fn until(&mut self, is_last: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            events.push(self.next().await);
            if events.last().is_some_and(&is_last) {
                return events;
            }
        }
    }

    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let block = block.to_owned();
                self.buffer = rest.to_owned();
                return Some(block);
            }
            let piece = tokio::time::timeout(NEVER, self.response.next())
                .await
                .expect("the feed says nothing");
            // Broken off is ended, too, when the server was killed.
            self.buffer.push_str(std::str::from_utf8(&piece?.ok()?).unwrap());
        }
    }
}

impl Event {
    fn parse(block: &str) -> Self {
        let field = |name: &str| {
            let value = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value.unwrap_or_else(|| panic!("no {name} in {block}")).to_owned()
        };
        let body: Value = serde_json::from_str(&field("data")).unwrap();
        let event = Self { id: field("id"), kind: field("event"), body };
        assert_eq!(
            (event.body["id"].as_str(), event.body["type"].as_str()),
            (Some(&*event.id), Some(&*event.kind))
        );
        event
    }

    pub(crate) fn subject(&self) -> &str {
        self.body["subject"].as_str().unwrap()
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.body["sequence"].as_str().unwrap().parse().unwrap()
    }

    /// What its sequence counts with: `catalog`, `inventory`, `cart`.
    pub(crate) fn family(&self) -> &str {
        self.kind.split('.').next().unwrap()
    }

    /// `low` and `depleted` carry the sequence of the change they came with.
    fn counts(&self) -> bool {
        !matches!(&*self.kind, "inventory.stock.low" | "inventory.stock.depleted")
    }
}

/// Asserts that the sequences of each subject and family go on one by one, in this order; the last of each.
pub(crate) fn gap_free<'a>(
    events: impl IntoIterator<Item = &'a Event>,
) -> BTreeMap<(String, String), u64> {
    let mut last = BTreeMap::new();
    for event in events {
        let key = (event.subject().to_owned(), event.family().to_owned());
        let sequence = event.sequence();
        match last.get(&key) {
            Some(before) if event.counts() => {
                assert_eq!(sequence, before + 1, "after {before} of {key:?}")
            }
            Some(before) => assert_eq!(sequence, *before, "of {}", event.kind),
            None => {}
        }
        last.insert(key, sequence);
    }
    last
}
