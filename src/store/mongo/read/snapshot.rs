//! Several reads from one snapshot.

use mongodb::{
    ClientSession, Collection, Database,
    bson::{Document, RawDocument, RawDocumentBuf},
    options::{CollectionOptions, ReadConcern},
};

use super::{super::documents::DocumentError, ReadResult};

/// Reads from one snapshot, which a majority of the members has.
pub(in crate::store::mongo) struct SnapshotReader {
    database: Database,
    session: ClientSession,
}

impl SnapshotReader {
    /// The first read takes the snapshot.
    pub(in crate::store::mongo) async fn start(database: &Database) -> ReadResult<Self> {
        let session = database.client().start_session().snapshot(true).await?;
        Ok(Self { database: database.clone(), session })
    }

    /// Calls `each` with every result of an aggregation.
    pub(in crate::store::mongo) async fn aggregate_each(
        &mut self,
        collection: &str,
        stages: Vec<Document>,
        mut each: impl FnMut(&RawDocument) -> Result<(), DocumentError>,
    ) -> ReadResult<()> {
        let collection = self.collection(collection);
        let found = collection.aggregate(stages).batch_size(10_000).with_type::<RawDocumentBuf>();
        let mut cursor = found.session(&mut self.session).await?;
        while cursor.advance(&mut self.session).await? {
            each(cursor.current())?;
        }
        Ok(())
    }

    /// The documents that match `filter`, with these `fields` or all.
    pub(in crate::store::mongo) async fn find_many<T>(
        &mut self,
        collection: &str,
        filter: Document,
        fields: Option<Document>,
        convert: impl Fn(&RawDocument) -> Result<T, DocumentError>,
    ) -> ReadResult<Vec<T>> {
        let collection = self.collection(collection);
        let mut find = collection.find(filter).batch_size(10_000);
        if let Some(fields) = fields {
            find = find.projection(fields);
        }
        let mut cursor = find.session(&mut self.session).await?;
        let mut found = Vec::new();
        while cursor.advance(&mut self.session).await? {
            found.push(convert(cursor.current())?);
        }
        Ok(found)
    }

    fn collection(&self, name: &str) -> Collection<RawDocumentBuf> {
        let options = CollectionOptions::builder().read_concern(ReadConcern::snapshot()).build();
        self.database.collection_with_options(name, options)
    }
}
