//! What a store keeps for those who work for the shop: API keys and actions.

use async_trait::async_trait;

use super::StoreUnavailable;
use crate::domain::{
    account::ApiKey,
    action::{Action, ActionFilter},
    clock::Timestamp,
    ids::{ActionId, ApiKeyId},
};

/// A place in the list of actions: after the action with this time and id.
pub type ActionPosition = (Timestamp, ActionId);

/// The reads of API keys and actions. Commits write them.
#[async_trait]
pub trait StaffStore: Send + Sync {
    /// The API key with this id, even when it is deleted.
    async fn find_api_key(&self, id: ApiKeyId) -> Result<Option<ApiKey>, StoreUnavailable>;

    /// Up to `limit` API keys that are not deleted, newest first, with ids below `before`.
    async fn list_api_keys(
        &self,
        before: Option<ApiKeyId>,
        limit: u32,
    ) -> Result<Vec<ApiKey>, StoreUnavailable>;

    /// Records when keys were used. A time that is older than the known one changes nothing. To be
    /// cheap, it is no commit: a failure of the power or of the primary may undo the last ones.
    async fn record_api_key_uses(
        &self,
        uses: Vec<(ApiKeyId, Timestamp)>,
    ) -> Result<(), StoreUnavailable>;

    /// Up to `limit` actions that match `filter`, newest first, which follow `after` in that order.
    async fn list_actions(
        &self,
        filter: ActionFilter,
        after: Option<ActionPosition>,
        limit: u32,
    ) -> Result<Vec<Action>, StoreUnavailable>;
}
