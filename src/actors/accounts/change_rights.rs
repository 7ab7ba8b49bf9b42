//! The command that changes what an account may do.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    change_password::MAX_ENDED_SESSIONS,
    service::{AccountService, add_revocation, with_next_version},
};
use crate::{
    actors::retry_on_conflict::{CommandRetry, Decision, idempotency_record_about, is_conflict},
    cache::follower::MAX_STALENESS,
    domain::{
        account::{RevocationReason, Rights, User},
        ids::UserId,
    },
    error::Error,
    events::DomainEvent,
    messages::{
        accounts::ChangeRights,
        command_context::{CommandContext, Reply},
    },
    store::{Commit, Condition, Store, Write, commit::StoredReplyBody},
};

impl AccountService {
    /// Changes rights. A block ends all sessions of the account, and so does its end: a session
    /// that a crash left open must not come back.
    pub(super) async fn change_rights(&self, message: ChangeRights) -> Result<Reply<User>, Error> {
        let ChangeRights { user_id, change, context } = message;
        let _guard = self.lock_account(user_id).await;
        if change.blocked == Some(false) {
            self.end_sessions_of_blocked(user_id, &context).await?;
        }
        let decide = async || {
            let user = self.find_user_to_change(user_id, &context).await?;
            let rights = change.apply(user.rights())?;
            let is_changed = rights != user.rights();
            if !is_changed && context.idempotency_key.is_none() {
                return Ok(Decision::NoChange { reply: user, body: Bytes::new() });
            }
            let commit = self.build_commit(&context.ticket, context.trace.clone());
            // A response that changed nothing is stored, too, and is about the account.
            let (user, mut commit) = match is_changed {
                true => add_rights_change(&*self.deps.store, &user, rights, commit).await?,
                false => (user, commit),
            };
            let body = StoredReplyBody::Ready((self.deps.render_user)(&user));
            commit.idempotency_record = idempotency_record_about(user_id, &context, body);
            Ok(Decision::Commit(Box::new(commit), move |_| user))
        };
        let retry = CommandRetry {
            store: &*self.deps.store,
            writer: &self.deps.writer,
            clock: &*self.deps.clock,
            follower: None,
            is_conflict,
        };
        let reply = retry.retry_on_conflict(&context, decide, async || Ok(())).await?;
        if change.blocked == Some(true) {
            self.end_sessions_of_blocked(user_id, &context).await?;
        }
        wait_for_other_nodes(&*self.deps.store).await;
        Ok(reply)
    }

    /// The account, if it has the version that the request asks for.
    pub(super) async fn find_user_to_change(
        &self,
        user_id: UserId,
        context: &CommandContext,
    ) -> Result<User, Error> {
        let user = self.deps.store.find_user(user_id).await?.ok_or_else(Error::user_not_found)?;
        let version = user.version.to_string();
        match &context.if_match {
            Some(if_match) if !if_match.matches_tag(&version) => {
                Err(Error::version_mismatch(&format!("\"{version}\"")))
            }
            _ => Ok(user),
        }
    }

    /// Ends what is left of the sessions of an account, if it is blocked. Usually the commit of the
    /// block has ended all.
    async fn end_sessions_of_blocked(
        &self,
        user_id: UserId,
        context: &CommandContext,
    ) -> Result<(), Error> {
        loop {
            let is_done = self
                .decide_and_commit(&context.ticket, async || {
                    let mut commit = self.build_commit(&context.ticket, context.trace.clone());
                    let user = self.deps.store.find_user(user_id).await?;
                    let user = user.filter(|user| user.blocked);
                    let Some(mut user) = user.as_ref().map(with_next_version) else {
                        return Ok(Decision::NoChange { reply: true, body: Bytes::new() });
                    };
                    let reason = RevocationReason::AccountBlocked;
                    if add_revocations(&*self.deps.store, &mut user, reason, &mut commit).await?
                        == 0
                    {
                        return Ok(Decision::NoChange { reply: true, body: Bytes::new() });
                    }
                    commit.writes.push(Write::User(Arc::new(user)));
                    Ok(Decision::Commit(Box::new(commit), |_| false))
                })
                .await?;
            if is_done {
                return Ok(());
            }
        }
    }
}

/// Adds a change of rights with its event to a commit. A block ends as many sessions as a commit
/// may end. Returns the account after the commit, too.
pub(super) async fn add_rights_change(
    store: &dyn Store,
    user: &User,
    rights: Rights,
    mut commit: Commit,
) -> Result<(User, Commit), Error> {
    let mut changed = user.with_rights(rights);
    commit.events.push(DomainEvent::RightsChanged(Arc::new(changed.clone())));
    if rights.blocked {
        let reason = RevocationReason::AccountBlocked;
        add_revocations(store, &mut changed, reason, &mut commit).await?;
    }
    if user.rights().is_active_admin() && !rights.is_active_admin() {
        commit.conditions.push(Condition::OtherAdminRemains(user.id));
    }
    commit.writes.push(Write::User(Arc::new(changed.clone())));
    Ok((changed, commit))
}

/// Adds the end of sessions to a commit, as many as one may end. Returns how many.
pub(super) async fn add_revocations(
    store: &dyn Store,
    user: &mut User,
    reason: RevocationReason,
    commit: &mut Commit,
) -> Result<u32, Error> {
    let sessions =
        store.list_active_sessions(user.id, commit.decided_at, MAX_ENDED_SESSIONS).await?;
    for session in &sessions {
        add_revocation(session, user, reason, commit);
    }
    Ok(u32::try_from(sessions.len()).unwrap_or(u32::MAX))
}

/// Waits until no node can still serve what was before a change that is durable: each has seen it
/// by then, or asks the store before it serves anything.
pub(super) async fn wait_for_other_nodes(store: &dyn Store) {
    if store.is_shared() {
        tokio::time::sleep(MAX_STALENESS).await;
    }
}
