//! The commands around tokens in mails: a forgotten password, and the verification of an address.
//!
//! The request for a new password does the same for every address: it records a mail. Whether there
//! is an account shows only when the mail is about to be sent.

use std::sync::Arc;

use secrecy::ExposeSecret;

use super::{
    change_password::MAX_ENDED_SESSIONS,
    change_rights::add_revocations,
    hash_queue::HashOrigin,
    service::{AccountService, with_next_version},
};
use crate::{
    actors::{commit_error::map_commit_error, retry_on_conflict::Decision},
    auth::mail_token::{ParsedMailToken, parse_mail_token},
    domain::{
        account::{
            Email, Password, RevocationReason, User, client_network, mail_token::TokenPurpose,
        },
        mail::{Mail, MailKind},
    },
    error::{Error, ErrorCode},
    messages::accounts::{RequestPasswordReset, RequestVerification, ResetPassword, VerifyEmail},
    store::{Commit, Write},
};

impl AccountService {
    pub(super) async fn request_password_reset(
        &self,
        message: RequestPasswordReset,
    ) -> Result<(), Error> {
        let RequestPasswordReset { email, ticket } = message;
        if !self.deps.sends_mail {
            return Ok(());
        }
        ticket.mark_started()?;
        let mut commit = self.build_commit(&ticket, None);
        let mail = Mail::new(MailKind::PasswordReset, email, None, commit.decided_at);
        commit.writes.push(Write::Mail(Arc::new(Mail { is_requested: true, ..mail })));
        self.deps.writer.commit(commit).await.map(drop).map_err(map_commit_error)
    }

    pub(super) async fn reset_password(&self, message: ResetPassword) -> Result<(), Error> {
        let ResetPassword { token, new, address, ticket, trace } = message;
        let new = Password::parse("new_password", new.expose_secret().to_owned())?;
        let token = parse_mail_token(token.expose_secret()).ok_or_else(token_invalid)?;
        self.find_token_owner(&token, TokenPurpose::PasswordReset).await?;
        let origin = HashOrigin::new_password(client_network(address));
        let password_hash = self.deps.hasher.hash(origin, new, ticket.deadline()).await?;
        let _guard = self.lock_account(token.user_id).await;
        // As when a password is changed, the last step ends the rest of the sessions together with
        // the password. It is the one that uses up the token.
        loop {
            let is_last = self
                .decide_and_commit(&ticket, async || {
                    let user = self.find_token_owner(&token, TokenPurpose::PasswordReset).await?;
                    let mut commit = self.build_commit(&ticket, trace.clone());
                    let mut changed = with_next_version(&user);
                    let reason = RevocationReason::PasswordReset;
                    let ended =
                        add_revocations(&*self.deps.store, &mut changed, reason, &mut commit)
                            .await?;
                    let is_last = ended < MAX_ENDED_SESSIONS;
                    if is_last {
                        let network = self.login_limiter.pair_keys(&user.email, address).first;
                        changed = changed
                            .with_verified_email()
                            .with_ended_mail_tokens()
                            .with_known_network(network, commit.decided_at);
                        changed.password_hash.clone_from(&password_hash);
                    }
                    commit.writes.push(Write::User(Arc::new(changed)));
                    Ok(Decision::Commit(Box::new(commit), move |_| is_last))
                })
                .await?;
            if is_last {
                return Ok(());
            }
        }
    }

    pub(super) async fn request_verification(
        &self,
        message: RequestVerification,
    ) -> Result<(), Error> {
        let RequestVerification { user_id, ticket } = message;
        let user = self.deps.store.find_user(user_id).await?.ok_or_else(Error::user_not_found)?;
        if user.email_verified || !self.deps.sends_mail {
            return Ok(());
        }
        ticket.mark_started()?;
        let mut commit = self.build_commit(&ticket, None);
        let mail = Mail::new(MailKind::Verification, user.email, Some(user_id), commit.decided_at);
        commit.writes.push(Write::Mail(Arc::new(Mail { is_requested: true, ..mail })));
        self.deps.writer.commit(commit).await.map(drop).map_err(map_commit_error)
    }

    pub(super) async fn verify_email(&self, message: VerifyEmail) -> Result<(), Error> {
        let VerifyEmail { token, ticket } = message;
        let token = parse_mail_token(token.expose_secret()).ok_or_else(token_invalid)?;
        let _guard = self.lock_account(token.user_id).await;
        self.decide_and_commit(&ticket, async || {
            let user = self.find_token_owner(&token, TokenPurpose::EmailVerification).await?;
            let mut commit = self.build_commit(&ticket, None);
            let verified = with_next_version(&user).with_verified_email();
            commit.writes.push(Write::User(Arc::new(verified)));
            Ok(Decision::Commit(Box::new(commit), |_| ()))
        })
        .await
    }

    /// The account of a token that works now.
    async fn find_token_owner(
        &self,
        token: &ParsedMailToken,
        purpose: TokenPurpose,
    ) -> Result<User, Error> {
        let user = self.deps.store.find_user(token.user_id).await?;
        let now = self.deps.clock.now();
        let is_valid =
            |user: &User| !user.blocked && user.accepts_mail_token(purpose, &token.hash, now);
        user.filter(is_valid).ok_or_else(token_invalid)
    }

    /// Adds a mail to verify the address of a new account, or of one that has another address now.
    /// `former` gets a mail about the change.
    pub(super) fn add_address_mails(
        &self,
        user: &User,
        former: Option<Email>,
        commit: &mut Commit,
    ) {
        if !self.deps.sends_mail {
            return;
        }
        let verification = (MailKind::Verification, user.email.clone());
        let notice = former.map(|address| (MailKind::EmailChanged, address));
        for (kind, recipient) in [verification].into_iter().chain(notice) {
            let mail = Mail::new(kind, recipient, Some(user.id), commit.decided_at);
            commit.writes.push(Write::Mail(Arc::new(mail)));
        }
    }
}

/// The error of every token that does not work. It does not tell why.
fn token_invalid() -> Error {
    Error::new(
        ErrorCode::TokenInvalid,
        "The token is not valid, has expired, or was used. Ask for a new mail.",
    )
}
