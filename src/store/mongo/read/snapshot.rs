//! Several reads from one snapshot.

use mongodb::{
    ClientSession, Collection, Database,
    bson::{Document, RawDocument, RawDocumentBuf},
    options::{CollectionOptions, ReadConcern},
};

use super::{
    super::documents::{DocumentError, ForEach},
    ReadResult,
};

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
        mut each: impl FnMut(&RawDocument) -> Result<(), DocumentError> + Send,
    ) -> ReadResult<()> {
        self.aggregate(collection, stages, &mut each).await
    }

    async fn aggregate(
        &mut self,
        collection: &str,
        stages: Vec<Document>,
        each: &mut ForEach<'_>,
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
    pub(in crate::store::mongo) async fn find_many<T: Send>(
        &mut self,
        collection: &str,
        filter: Document,
        fields: Option<Document>,
        mut convert: impl FnMut(&RawDocument) -> Result<T, DocumentError> + Send,
    ) -> ReadResult<Vec<T>> {
        let mut found = Vec::new();
        let mut each = |document: &RawDocument| {
            found.push(convert(document)?);
            Ok(())
        };
        self.find_each(collection, filter, fields, &mut each).await?;
        Ok(found)
    }

    async fn find_each(
        &mut self,
        collection: &str,
        filter: Document,
        fields: Option<Document>,
        each: &mut ForEach<'_>,
    ) -> ReadResult<()> {
        let collection = self.collection(collection);
        let mut find = collection.find(filter).batch_size(10_000);
        if let Some(fields) = fields {
            find = find.projection(fields);
        }
        let mut cursor = find.session(&mut self.session).await?;
        while cursor.advance(&mut self.session).await? {
            each(cursor.current())?;
        }
        Ok(())
    }

    fn collection(&self, name: &str) -> Collection<RawDocumentBuf> {
        let options = CollectionOptions::builder().read_concern(ReadConcern::snapshot()).build();
        self.database.collection_with_options(name, options)
    }
}
