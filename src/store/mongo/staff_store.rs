//! The trait [`StaffStore`]: API keys and actions.

use async_trait::async_trait;

use super::{MongoStore, read};
use crate::{
    domain::{
        account::ApiKey,
        action::{Action, ActionFilter},
        clock::Timestamp,
        ids::ApiKeyId,
    },
    store::{
        StoreUnavailable,
        staff_store::{ActionPosition, StaffStore},
    },
};

#[async_trait]
impl StaffStore for MongoStore {
    async fn find_api_key(&self, id: ApiKeyId) -> Result<Option<ApiKey>, StoreUnavailable> {
        self.run_read(|database| read::find_api_key(database, id)).await
    }

    async fn list_api_keys(
        &self,
        before: Option<ApiKeyId>,
        limit: u32,
    ) -> Result<Vec<ApiKey>, StoreUnavailable> {
        self.run_read(|database| read::list_api_keys(database, before, limit)).await
    }

    async fn record_api_key_uses(
        &self,
        uses: Vec<(ApiKeyId, Timestamp)>,
    ) -> Result<(), StoreUnavailable> {
        self.run_update(|database| read::record_api_key_uses(database, uses)).await
    }

    async fn list_actions(
        &self,
        filter: ActionFilter,
        after: Option<ActionPosition>,
        limit: u32,
    ) -> Result<Vec<Action>, StoreUnavailable> {
        self.run_read(move |database| read::list_actions(database, filter, after, limit)).await
    }
}
