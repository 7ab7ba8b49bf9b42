//! A client of the event feed.

use std::{collections::BTreeMap, time::Duration};

use futures_util::StreamExt;
use serde_json::Value;

use super::{Account, TestApp};

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What a feed sends when events are missing.
const GAP: &str = "event: souk.gap\ndata: {}";

/// An event of a feed, the broker or the outbox.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) kind: String,
    /// The CloudEvent.
    pub(crate) body: Value,
    /// Where a feed that sent the event can be resumed. It is no part of the event.
    pub(crate) feed_id: Option<String>,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        (&self.id, &self.kind, &self.body) == (&other.id, &other.kind, &other.body)
    }
}

/// An open feed.
pub(crate) struct Feed {
    response:
        std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    buffer: String,
    /// The last id that the feed sent, or was opened with.
    last_id: Option<String>,
}

impl TestApp {
    /// Opens the feed, anonymously or with a token, after the id `last`, or else after the newest
    /// event. No later event is missed.
    pub(crate) async fn open_feed(&self, account: Option<&Account>, last: Option<&str>) -> Feed {
        self.open_feed_at("/api/events", account, last).await
    }

    /// Opens the feed with the oldest event that is kept.
    pub(crate) async fn open_whole_feed(&self, account: Option<&Account>) -> Feed {
        let mut feed = self.open_feed(account, Some("none")).await;
        feed.expect_gap().await;
        feed
    }

    /// Opens the feed at a path with a query.
    pub(crate) async fn open_feed_at(
        &self,
        path: &str,
        account: Option<&Account>,
        last: Option<&str>,
    ) -> Feed {
        let mut call = self.get(path);
        if let Some(account) = account {
            call = call.token(account);
        }
        if let Some(last) = last {
            call = call.header("last-event-id", last);
        }
        let response = call.send_streaming().await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let policy = &response.headers()["content-security-policy"];
        assert_eq!(policy, "default-src 'none'; frame-ancestors 'none'");
        let mut feed = Feed {
            response: Box::pin(response.bytes_stream()),
            buffer: String::new(),
            last_id: last.map(str::to_owned),
        };
        let opening = feed.next_block().await.expect("the feed ended");
        let lines: Vec<&str> = opening.lines().filter(|line| !line.starts_with("id: ")).collect();
        assert_eq!(lines, [": souk", "retry: 2000"], "a feed starts with a comment");
        feed
    }
}

impl Feed {
    pub(crate) async fn next(&mut self) -> Event {
        self.next_or_end().await.expect("the feed ended")
    }

    /// The next event, or `None` when the server has ended the feed.
    pub(crate) async fn next_or_end(&mut self) -> Option<Event> {
        loop {
            let block = self.next_block().await?;
            if !block.starts_with(':') {
                return Some(Event::parse(&block));
            }
        }
    }

    /// The last id that the feed sent, or was opened with: what a browser would resume with.
    pub(crate) fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// Waits for the comment that keeps the connection alive, and returns its id.
    pub(crate) async fn next_keep_alive(&mut self) -> String {
        let block = self.next_block().await.expect("the feed ended");
        block.strip_prefix(": alive\nid: ").unwrap_or_else(|| panic!("got {block}")).to_owned()
    }

    /// Expects the notice that events are missing.
    pub(crate) async fn expect_gap(&mut self) {
        assert_eq!(self.next_block().await.as_deref(), Some(GAP));
    }

    /// All events up to and including the first for which `is_last` is true.
    pub(crate) async fn read_until(&mut self, is_last: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            events.push(self.next().await);
            if events.last().is_some_and(&is_last) {
                return events;
            }
        }
    }

    async fn next_block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let block = block.to_owned();
                self.buffer = rest.to_owned();
                let id = block.lines().find_map(|line| line.strip_prefix("id: "));
                self.last_id = id.map(str::to_owned).or(self.last_id.take());
                return Some(block);
            }
            let chunk = tokio::time::timeout(TIMEOUT, self.response.next())
                .await
                .expect("the feed sends nothing");
            // A killed server breaks the connection, which also ends the feed.
            self.buffer.push_str(std::str::from_utf8(&chunk?.ok()?).unwrap());
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
        let id = body["id"].as_str().unwrap().to_owned();
        let event = Self { id, kind: field("event"), body, feed_id: Some(field("id")) };
        assert_eq!(event.body["type"], event.kind);
        event
    }

    pub(crate) fn subject(&self) -> &str {
        self.body["subject"].as_str().unwrap()
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.body["sequence"].as_str().unwrap().parse().unwrap()
    }

    /// The first part of the type, which scopes the sequence: `catalog`, `inventory`, `cart`.
    pub(crate) fn family(&self) -> &str {
        self.kind.split('.').next().unwrap()
    }

    /// `low` and `depleted` repeat the sequence of the change that caused them.
    fn advances_sequence(&self) -> bool {
        !matches!(&*self.kind, "inventory.stock.low" | "inventory.stock.depleted")
    }
}

/// Asserts that sequences have no gaps per subject and family; returns the last of each.
pub(crate) fn assert_gap_free<'a>(
    events: impl IntoIterator<Item = &'a Event>,
) -> BTreeMap<(String, String), u64> {
    let mut last = BTreeMap::new();
    for event in events {
        let key = (event.subject().to_owned(), event.family().to_owned());
        let sequence = event.sequence();
        match last.get(&key) {
            Some(before) if event.advances_sequence() => {
                assert_eq!(sequence, before + 1, "after {before} of {key:?}")
            }
            Some(before) => assert_eq!(sequence, *before, "of {}", event.kind),
            None => {}
        }
        last.insert(key, sequence);
    }
    last
}
