//! The commands that create and delete API keys.

use std::sync::Arc;

use rand::distr::{Alphanumeric, SampleString};

use super::{change_rights::wait_for_other_nodes, service::AccountService};
use crate::{
    actors::retry_on_conflict::{CommandRetry, Decision, idempotency_record, is_conflict},
    domain::account::{API_KEY_PREFIX, API_KEY_RANDOM_CHARS, ApiKey, MAX_API_KEYS},
    error::Error,
    events::DomainEvent,
    messages::{
        accounts::{CreateApiKey, DeleteApiKey, NewApiKey},
        command_context::{CommandContext, Reply},
    },
    store::{Commit, Condition, Write, commit::StoredReplyBody},
};

impl AccountService {
    /// Creates a key. The reply comes when every node knows it.
    pub(super) async fn create_api_key(
        &self,
        message: CreateApiKey,
    ) -> Result<Reply<NewApiKey>, Error> {
        let CreateApiKey { request, created_by, context } = message;
        let decide = async || {
            let now = self.deps.clock.now();
            request.validate(now)?;
            let secret = random_key();
            let record = Arc::new(ApiKey::new(&secret, request.clone(), created_by, now));
            // What is remembered for repeats must not have the key.
            let body = StoredReplyBody::Ready((self.deps.render_api_key)(&record));
            let mut commit = self.api_key_commit(&record, &context, body);
            commit.conditions.push(Condition::ApiKeysBelow(created_by, MAX_API_KEYS));
            let reply = NewApiKey { key: record, secret: secret.into() };
            Ok(Decision::Commit(Box::new(commit), move |_| reply))
        };
        let retry = self.command_retry();
        let reply = retry.retry_on_conflict(&context, decide, async || Ok(())).await?;
        wait_for_other_nodes(&*self.deps.store).await;
        Ok(reply)
    }

    /// Deletes a key. The reply comes when every node refuses it.
    pub(super) async fn delete_api_key(&self, message: DeleteApiKey) -> Result<Reply<()>, Error> {
        let DeleteApiKey { id, context } = message;
        let decide = async || {
            let key = self.deps.store.find_api_key(id).await?;
            let key = key.filter(|key| key.deleted_at.is_none());
            let key = key.ok_or_else(Error::api_key_not_found)?;
            let deleted = Arc::new(key.to_deleted(self.deps.clock.now()));
            let body = StoredReplyBody::Ready(bytes::Bytes::new());
            let commit = self.api_key_commit(&deleted, &context, body);
            Ok(Decision::Commit(Box::new(commit), |_| ()))
        };
        let retry = self.command_retry();
        let reply = retry.retry_on_conflict(&context, decide, async || Ok(())).await?;
        wait_for_other_nodes(&*self.deps.store).await;
        Ok(reply)
    }

    fn command_retry(&self) -> CommandRetry<'_> {
        CommandRetry {
            store: &*self.deps.store,
            writer: &self.deps.writer,
            clock: &*self.deps.clock,
            follower: None,
            is_conflict,
        }
    }

    fn api_key_commit(
        &self,
        key: &Arc<ApiKey>,
        context: &CommandContext,
        body: StoredReplyBody,
    ) -> Commit {
        Commit {
            writes: vec![Write::ApiKey(Arc::clone(key))],
            events: vec![DomainEvent::ApiKey(Arc::clone(key))],
            idempotency_record: idempotency_record(context, body),
            ..self.build_commit(&context.ticket, context.trace.clone())
        }
    }
}

fn random_key() -> String {
    let random = Alphanumeric.sample_string(&mut rand::rng(), API_KEY_RANDOM_CHARS);
    format!("{API_KEY_PREFIX}{random}")
}
