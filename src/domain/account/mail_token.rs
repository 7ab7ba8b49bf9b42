//! Tokens in mails: they prove that somebody reads the mail of an account.

use std::{collections::BTreeSet, time::Duration};

use super::User;
use crate::domain::{clock::Timestamp, ids::MailId};

/// How long a token for a new password works.
pub const RESET_TOKEN_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// How long a token that verifies an address works.
pub const VERIFICATION_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The window of the limit of mails on request.
const REQUEST_WINDOW: Duration = Duration::from_secs(60 * 60);

/// The most tokens that an account has. The newest ones stay.
pub const MAX_MAIL_TOKENS: usize = 64;

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenPurpose {
    /// Sets a new password.
    PasswordReset,
    /// Verifies the e-mail address of the account.
    EmailVerification,
}

impl TokenPurpose {
    const fn lifetime(self) -> Duration {
        match self {
            Self::PasswordReset => RESET_TOKEN_LIFETIME,
            Self::EmailVerification => VERIFICATION_TOKEN_LIFETIME,
        }
    }
}

/// A token that was sent to the address of an account. An account that gets another address or
/// another password has no tokens that work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailToken {
    /// What it is good for.
    pub purpose: TokenPurpose,
    /// The SHA-256 hash of the token.
    pub hash: [u8; 32],
    /// The mail that it was sent in. Each attempt to send that mail has a token of its own.
    pub mail_id: MailId,
    /// Whether somebody asked for the mail.
    pub is_requested: bool,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// Whether it no longer works. It still counts toward the limit of mails.
    pub ended: bool,
}

impl MailToken {
    fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.issued_at.saturating_add(self.purpose.lifetime())
    }
}

impl User {
    /// The account with one more token. It forgets expired ones, and the oldest when there are too
    /// many.
    #[must_use]
    pub fn with_mail_token(mut self, token: MailToken) -> Self {
        self.mail_tokens.retain(|known| !known.is_expired(token.issued_at));
        self.mail_tokens.push(token);
        let surplus = self.mail_tokens.len().saturating_sub(MAX_MAIL_TOKENS);
        self.mail_tokens.drain(..surplus);
        self
    }

    /// Whether a token with this hash works now.
    #[must_use]
    pub fn accepts_mail_token(
        &self,
        purpose: TokenPurpose,
        hash: &[u8; 32],
        now: Timestamp,
    ) -> bool {
        self.mail_tokens.iter().any(|token| {
            token.purpose == purpose
                && token.hash == *hash
                && !token.ended
                && !token.is_expired(now)
        })
    }

    /// The account after all of its tokens have ended.
    #[must_use]
    pub fn with_ended_mail_tokens(mut self) -> Self {
        self.mail_tokens.iter_mut().for_each(|token| token.ended = true);
        self
    }

    /// The account with a verified address. Tokens that verify it have ended.
    #[must_use]
    pub fn with_verified_email(mut self) -> Self {
        self.email_verified = true;
        self.mail_tokens
            .iter_mut()
            .filter(|token| token.purpose == TokenPurpose::EmailVerification)
            .for_each(|token| token.ended = true);
        self
    }

    /// How many mails other than `mail` it got within the last hour because somebody asked for
    /// them.
    #[must_use]
    pub fn requested_mails(&self, mail: MailId, now: Timestamp) -> usize {
        let counts = |token: &&MailToken| {
            token.is_requested
                && token.mail_id != mail
                && now < token.issued_at.saturating_add(REQUEST_WINDOW)
        };
        let mails: BTreeSet<MailId> =
            self.mail_tokens.iter().filter(counts).map(|token| token.mail_id).collect();
        mails.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_000_000_000);

    fn after(seconds: u64) -> Timestamp {
        START.saturating_add(Duration::from_secs(seconds))
    }

    fn token(purpose: TokenPurpose, number: u8, issued_at: Timestamp) -> MailToken {
        let mail_id = MailId::new();
        MailToken {
            purpose,
            hash: [number; 32],
            mail_id,
            is_requested: true,
            issued_at,
            ended: false,
        }
    }

    fn ada() -> User {
        User::sample(START)
    }

    #[test]
    fn token_works_for_its_purpose_until_it_expires_or_ends() {
        use TokenPurpose::{EmailVerification, PasswordReset};
        let user = ada().with_mail_token(token(PasswordReset, 1, START)).with_mail_token(token(
            EmailVerification,
            2,
            START,
        ));
        let accepts = |user: &User, purpose, number, now| {
            user.accepts_mail_token(purpose, &[number; 32], now)
        };
        assert!(accepts(&user, PasswordReset, 1, after(3599)));
        assert!(!accepts(&user, PasswordReset, 1, after(3600)));
        assert!(!accepts(&user, EmailVerification, 1, START), "another purpose");
        assert!(!accepts(&user, PasswordReset, 3, START), "unknown");
        assert!(accepts(&user, EmailVerification, 2, after(24 * 3600 - 1)));
        assert!(!accepts(&user, EmailVerification, 2, after(24 * 3600)));
        let verified = user.clone().with_verified_email();
        assert!(verified.email_verified && !accepts(&verified, EmailVerification, 2, START));
        assert!(accepts(&verified, PasswordReset, 1, START));
        let ended = user.with_ended_mail_tokens();
        assert!(!accepts(&ended, PasswordReset, 1, START));
        assert!(!accepts(&ended, EmailVerification, 2, START));
    }

    #[test]
    fn requested_mails_are_counted_for_an_hour_and_tokens_are_bounded() {
        let mut user = ada();
        let first = token(TokenPurpose::PasswordReset, 1, START);
        let again = MailToken { hash: [2; 32], issued_at: after(10), ..first };
        let welcome = MailToken {
            is_requested: false,
            ..token(TokenPurpose::EmailVerification, 3, after(10))
        };
        for token in [first, again, welcome] {
            user = user.with_mail_token(token);
        }
        user = user.with_ended_mail_tokens();
        let other = MailId::new();
        assert_eq!(user.requested_mails(other, after(20)), 1, "attempts are one mail");
        assert_eq!(user.requested_mails(first.mail_id, after(20)), 0);
        assert_eq!(user.requested_mails(other, after(3610)), 0);
        for number in 0..200 {
            user = user.with_mail_token(token(TokenPurpose::PasswordReset, number, after(30)));
        }
        assert_eq!(user.mail_tokens.len(), MAX_MAIL_TOKENS);
        assert!(user.accepts_mail_token(TokenPurpose::PasswordReset, &[199; 32], after(31)));
    }
}
