//! The partitions of the outbox. Each writer has one, which no other writer writes, so writers do
//! not wait for each other to number their events.
//!
//! A partition has a document with its owner and its head. Writers claim partitions that no running
//! node has, so their number is that of the writers that ever ran at once, and a reader's cursor
//! stays short. Ownership is only a hint: should two writers have the same partition, because a
//! node that seemed dead goes on, the head that each transaction writes makes one of them fail, and
//! that one claims another partition.

use mongodb::{
    Collection, Database,
    bson::{Bson, Document, RawDocumentBuf, Uuid as BsonUuid, doc, rawdoc},
    error::Result,
    options::{ReadConcern, ReturnDocument},
};
use serde::{Deserialize, Serialize};

use super::{
    documents::{id_from_bson, id_to_binary},
    schema::OUTBOX,
    transaction_error::{DUPLICATE_KEY, TransactionError, server_error_code},
};
use crate::events::OutboxPosition;

/// The head of a partition, as stored in `outbox` beside the events: so a transaction writes both
/// with one command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PartitionDocument {
    #[serde(rename = "_id")]
    id: PartitionId,
    /// The node whose writer has the partition. `None` when it may be claimed.
    node: Option<BsonUuid>,
    /// Which of the node's writers.
    lane: Option<i64>,
    /// The offset of the newest event.
    pub(super) last: u64,
    /// The logical time of the last commit.
    pub(super) commit_time: i64,
    /// Events up to this offset are deleted.
    pub(super) trimmed: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct PartitionId {
    partition: u32,
}

impl PartitionDocument {
    /// The number of the partition.
    pub(super) const fn partition(&self) -> u32 {
        self.id.partition
    }
}

/// Matches the heads, and not the events, whose `_id` is a number.
pub(super) fn is_head() -> Document {
    doc! { "_id": { "$type": "object" } }
}

/// Matches the head of one partition.
pub(super) fn is_head_of(partition: u32) -> Document {
    doc! { "_id": { "partition": i64::from(partition) } }
}

/// A writer: the id of its node, and its lane there.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartitionOwner {
    pub(super) node: BsonUuid,
    pub(super) lane: i64,
}

/// A partition that a writer has claimed, and its head.
#[derive(Debug)]
pub(super) struct ClaimedPartition {
    number: u32,
    owner: PartitionOwner,
    last_offset: u64,
    last_commit_time: i64,
}

impl ClaimedPartition {
    /// Claims a partition for a writer, or finds the one that it has.
    pub(super) async fn claim(database: &Database, owner: PartitionOwner) -> Result<Self> {
        let PartitionOwner { node, lane } = owner;
        let partitions = database.collection::<PartitionDocument>(OUTBOX);
        let mut mine = is_head();
        mine.extend(doc! { "node": node, "lane": lane });
        // The head must not be older than the writer's own last commit.
        let found = partitions.find_one(mine).read_concern(ReadConcern::local()).await?;
        if let Some(document) = found {
            return Ok(Self::new(owner, &document));
        }
        let mut unclaimed = is_head();
        unclaimed.insert("node", Bson::Null);
        loop {
            let free = partitions
                .find_one_and_update(
                    unclaimed.clone(),
                    doc! { "$set": { "node": node, "lane": lane } },
                )
                .sort(doc! { "_id": 1 })
                .return_document(ReturnDocument::After)
                .await?;
            if let Some(document) = free {
                return Ok(Self::new(owner, &document));
            }
            if let Some(document) = create_partition(&partitions, owner).await? {
                return Ok(Self::new(owner, &document));
            }
        }
    }

    const fn new(owner: PartitionOwner, document: &PartitionDocument) -> Self {
        let PartitionDocument { id, last, commit_time, .. } = document;
        Self { number: id.partition, owner, last_offset: *last, last_commit_time: *commit_time }
    }

    /// The position of the next event.
    pub(super) const fn next_position(&self) -> OutboxPosition {
        OutboxPosition { partition: self.number, offset: self.last_offset + 1 }
    }

    /// The logical time of a commit that builds on records of `latest_commit_time`: later than
    /// those, than the writer's last commit, and not before `now`, in microseconds.
    ///
    /// Such times are in the order of cause and effect, whatever the nodes' clocks say (Kulkarni et
    /// al., "Logical Physical Clocks", 2014).
    pub(super) fn next_commit_time(&self, latest_commit_time: i64, now: i64) -> i64 {
        now.max(latest_commit_time.saturating_add(1)).max(self.last_commit_time.saturating_add(1))
    }

    /// The statement that moves the head by `events`. It finds no document if the head is not the
    /// one that this writer knows.
    pub(super) fn head_update(
        &self,
        events: u64,
        commit_time: i64,
    ) -> std::result::Result<RawDocumentBuf, TransactionError> {
        let out_of_range = |_| TransactionError::permanent("the outbox has no positions left");
        let last = i64::try_from(self.last_offset).map_err(out_of_range)?;
        let next = i64::try_from(self.last_offset + events).map_err(out_of_range)?;
        Ok(rawdoc! {
            "q": {
                "_id": { "partition": i64::from(self.number) },
                "node": id_to_binary(id_from_bson(self.owner.node)),
                "lane": self.owner.lane,
                "last": last,
            },
            "u": { "$set": { "last": next, "commit_time": commit_time } },
        })
    }

    /// Moves the known head, after a transaction with `events` events was committed.
    pub(super) const fn advance_head(&mut self, events: u64, commit_time: i64) {
        self.last_offset += events;
        self.last_commit_time = commit_time;
    }
}

/// Creates the next partition. `None` if another node has just done so.
async fn create_partition(
    partitions: &Collection<PartitionDocument>,
    owner: PartitionOwner,
) -> Result<Option<PartitionDocument>> {
    let newest = partitions.find_one(is_head()).sort(doc! { "_id": -1 }).await?;
    let created = PartitionDocument {
        id: PartitionId { partition: newest.map_or(0, |newest| newest.partition() + 1) },
        node: Some(owner.node),
        lane: Some(owner.lane),
        last: 0,
        commit_time: 0,
        trimmed: 0,
    };
    match partitions.insert_one(&created).await {
        Ok(_) => Ok(Some(created)),
        Err(error) if server_error_code(&error) == Some(DUPLICATE_KEY) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Lets other nodes claim the partitions of `node`.
pub(super) async fn release_partitions(database: &Database, node: BsonUuid) -> Result<()> {
    let released = doc! { "$set": { "node": null } };
    let partitions = database.collection::<PartitionDocument>(OUTBOX);
    let mut claimed = is_head();
    claimed.insert("node", node);
    partitions.update_many(claimed, released).await.map(drop)
}
