//! The command that changes the name and the e-mail address of an account.

use std::sync::Arc;

use bytes::Bytes;

use super::service::{AccountService, invalid_credentials, with_next_version};
use crate::{
    actors::retry_on_conflict::Decision,
    domain::account::{User, validate_account_name},
    error::Error,
    messages::accounts::UpdateProfile,
    store::Write,
};

impl AccountService {
    pub(super) async fn update_profile(&self, message: UpdateProfile) -> Result<User, Error> {
        let UpdateProfile { user_id, name, email, current_password, address, context } = message;
        if let Some(name) = &name {
            validate_account_name(name)?;
        }
        let user = self.deps.store.find_user(user_id).await?.ok_or_else(Error::user_not_found)?;
        let is_new_email = email.as_ref().is_some_and(|email| *email != user.email);
        let password = match (is_new_email, current_password) {
            (false, _) => None,
            (true, Some(password)) => Some(password),
            (true, None) => {
                let message = "current_password is needed to change the e-mail address";
                return Err(Error::invalid_field("current_password", "required", message));
            }
        };
        let origin = self.login_limiter.find_origin(Some(&user.email), Some(&user), address);
        let mut verified = match &password {
            Some(password) => {
                let attempt =
                    self.login_limiter.admit_login(&origin, context.ticket.deadline()).await?;
                let hash_origin = origin.hash_origin;
                let verified = self
                    .verify_credentials(Some(user), password, hash_origin, &context.ticket)
                    .await?;
                let Some(verified) = verified else {
                    attempt.count_failure().await?;
                    return Err(invalid_credentials());
                };
                attempt.confirm_success().await?;
                verified.user
            }
            None => user,
        };
        let _guard = self.lock_account(user_id).await;
        self.decide_and_commit(&context.ticket, async || {
            let user = self.find_user_to_change(user_id, &context).await?;
            if let Some(password) = &password {
                let (origin, ticket) = (origin.hash_origin, &context.ticket);
                self.reverify_credentials(&mut verified, password, origin, ticket).await?;
            }
            let changed = User {
                name: name.clone().unwrap_or_else(|| user.name.clone()),
                email: email.clone().unwrap_or_else(|| user.email.clone()),
                ..user.clone()
            };
            if changed == user {
                return Ok(Decision::NoChange { reply: user, body: Bytes::new() });
            }
            let mut changed = with_next_version(&changed);
            let mut commit = self.build_commit(&context.ticket, context.trace.clone());
            if changed.email != user.email {
                changed = User { email_verified: false, ..changed }.with_ended_mail_tokens();
                self.add_address_mails(&changed, Some(user.email), &mut commit);
            }
            commit.writes.push(Write::User(Arc::new(changed.clone())));
            Ok(Decision::Commit(Box::new(commit), move |_| changed))
        })
        .await
    }
}
