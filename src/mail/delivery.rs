//! The way of one mail: claim it, send it, and remove it or let it wait.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lettre::{Message, message::Mailbox};
use secrecy::{ExposeSecret, SecretString};

use super::{
    message::build_message,
    order_variables::OrderVariables,
    smtp::{SendError, SmtpClient},
    templates::{MailVariables, Templates},
};
use crate::{
    auth::mail_token::issue_mail_token,
    domain::{
        account::{
            Email, User,
            mail_token::{MailToken, TokenPurpose},
        },
        clock::{Clock, Timestamp},
        mail::{Mail, MailKind, OrderReference},
    },
    metrics::mail::MailMetrics,
    store::{
        Commit, CommitError, CommitOutcome, Store, StoreUnavailable, Write, writer::CommitWriter,
    },
};

/// How long a commit may take. Nobody waits for it but the mail.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a claim lasts beyond the longest attempt: the time to record its outcome.
const CLAIM_MARGIN: Duration = Duration::from_secs(10);

/// How often the outcome of an attempt is recorded, if the store fails. If none succeeds, the mail
/// is sent again after the claim has ended.
const RECORD_ATTEMPTS: u32 = 5;

/// The pause between these.
const RECORD_PAUSE: Duration = Duration::from_secs(1);

/// Sends mails.
pub(super) struct Delivery {
    pub(super) store: Arc<dyn Store>,
    pub(super) writer: CommitWriter,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: MailMetrics,
    pub(super) smtp: SmtpClient,
    pub(super) templates: Templates,
    pub(super) from: Mailbox,
    /// The name of the shop in mails.
    pub(super) shop: String,
    /// The start of every link, without a slash at its end.
    pub(super) link_base: String,
    pub(super) retry_schedule: Vec<Duration>,
    /// The longest time of an attempt.
    pub(super) timeout: Duration,
    /// Mails per hour to one account that somebody asked for; 0 allows any number.
    pub(super) request_limit: u32,
}

/// A mail that this node has claimed.
struct ClaimedMail {
    mail: Mail,
    contents: MailContents,
    /// The token in its link, if it has one.
    token: Option<SecretString>,
}

/// What a mail says, and to whom.
struct MailContents {
    recipient: Email,
    /// The name of the person.
    name: String,
    /// The account that a token in the mail is for.
    user: Option<User>,
    order: OrderVariables,
}

/// The outcome of a claim.
enum Claim {
    /// This node sends the mail.
    Claimed(Box<ClaimedMail>),
    /// The mail is no longer wanted, and was removed.
    Removed,
    /// Another node sends the mail, the account has changed meanwhile, or the store failed.
    Lost,
}

impl Delivery {
    /// Sends a mail that is due, unless another node is faster. Returns whether it is due no
    /// longer.
    pub(super) async fn deliver(&self, mail: &Mail) -> bool {
        match self.claim(mail).await {
            Ok(Claim::Claimed(claimed)) => {
                let after = self.attempt(&claimed).await;
                self.record(&after).await;
                true
            }
            Ok(Claim::Removed) => true,
            // The store has logged the reason of a failure.
            Ok(Claim::Lost) | Err(StoreUnavailable) => false,
        }
    }

    /// Claims a mail, and stores the hash of its token with the claim. Removes a mail that is no
    /// longer wanted.
    async fn claim(&self, mail: &Mail) -> Result<Claim, StoreUnavailable> {
        let now = self.clock.now();
        let Some(contents) = self.look_up_contents(mail, now).await? else {
            let removed = self.commit(&mail.removed()).await.is_ok();
            return Ok(if removed { Claim::Removed } else { Claim::Lost });
        };
        let claimed = mail.claimed(now, self.timeout + CLAIM_MARGIN);
        let mut commit = Commit::new(now, Instant::now() + COMMIT_TIMEOUT);
        commit.writes.push(Write::Mail(Arc::new(claimed.clone())));
        let issued = token_purpose(mail.kind)
            .zip(contents.user.as_ref())
            .map(|(purpose, user)| (purpose, user, issue_mail_token(user.id)));
        if let Some((purpose, user, issued)) = &issued {
            let token = MailToken {
                purpose: *purpose,
                hash: issued.hash,
                mail_id: mail.id,
                is_requested: mail.is_requested,
                issued_at: now,
                ended: false,
            };
            let version = user.version + 1;
            let changed = User { version, ..User::clone(user) }.with_mail_token(token);
            commit.writes.push(Write::User(Arc::new(changed)));
        }
        // After a conflict, another node has the mail, or the account has changed: then the mail is
        // still due. After a commit with an unknown outcome it is due when the claim ends.
        if self.writer.commit(commit).await.is_err() {
            return Ok(Claim::Lost);
        }
        let token = issued.map(|(_, _, issued)| issued.token);
        Ok(Claim::Claimed(Box::new(ClaimedMail { mail: claimed, contents, token })))
    }

    /// What the mail says. `None` if it is no longer wanted.
    async fn look_up_contents(
        &self,
        mail: &Mail,
        now: Timestamp,
    ) -> Result<Option<MailContents>, StoreUnavailable> {
        if let Some(reference) = mail.order {
            return self.look_up_order(reference).await;
        }
        let user = match (mail.user_id, &mail.recipient) {
            (Some(id), _) => self.store.find_user(id).await?,
            (None, Some(email)) => self.store.find_user_by_email(email).await?,
            (None, None) => None,
        };
        let user = user.filter(|user| mail.is_wanted_by(user, self.request_limit, now));
        Ok(user.zip(mail.recipient.clone()).map(|(user, recipient)| MailContents {
            recipient,
            name: user.name.clone(),
            user: Some(user),
            order: OrderVariables::default(),
        }))
    }

    /// What a mail about an order says. It goes to the address of the order; only orders from
    /// before they had one go to that of the account.
    async fn look_up_order(
        &self,
        reference: OrderReference,
    ) -> Result<Option<MailContents>, StoreUnavailable> {
        let order = self.store.find_order(reference.order_id).await?;
        let Some(order) = order.filter(|order| !order.anonymized) else { return Ok(None) };
        let account = match order.guest {
            true => None,
            false => self.store.find_user(order.user_id).await?,
        };
        let account_email = account.as_ref().map(|account| account.email.clone());
        let Some(recipient) = order.email.clone().or(account_email) else { return Ok(None) };
        // Nobody else is called by a name: whoever orders for a stranger's address could write to
        // them that way.
        let name = account.filter(|account| account.email == recipient).map(|account| account.name);
        let variables = OrderVariables::of(&order, reference.part);
        Ok(variables.map(|order| MailContents {
            order,
            recipient,
            name: name.unwrap_or_default(),
            user: None,
        }))
    }

    /// Sends a claimed mail. Returns what becomes of its record.
    async fn attempt(&self, claimed: &ClaimedMail) -> Mail {
        let mail = &claimed.mail;
        let sent = match self.render(claimed) {
            Ok(message) => self.smtp.send(&message).await,
            Err(reason) => Err(SendError::Permanent(reason)),
        };
        let (id, kind, attempt) = (mail.id, mail.kind.as_str(), mail.attempts);
        match sent {
            Ok(()) => {
                self.metrics.record_sent();
                tracing::debug!(%id, kind, attempt, "sent a mail");
                mail.removed()
            }
            Err(SendError::Temporary(reason)) => {
                let after = mail.postponed(self.clock.now(), &self.retry_schedule);
                if after.ended {
                    self.metrics.record_failed();
                    tracing::warn!(%id, kind, attempt, reason, "gave up a mail");
                } else {
                    self.metrics.record_postponed();
                    tracing::warn!(%id, kind, attempt, reason, "failed to send a mail; retrying");
                }
                after
            }
            Err(SendError::Permanent(reason)) => {
                self.metrics.record_failed();
                tracing::warn!(%id, kind, attempt, reason, "gave up a mail: it was refused");
                mail.removed()
            }
        }
    }

    fn render(&self, claimed: &ClaimedMail) -> Result<Message, String> {
        let ClaimedMail { mail, contents, token } = claimed;
        let token = token.as_ref().map_or("", |token| token.expose_secret());
        let base = &self.link_base;
        let link = match (mail.kind, mail.order) {
            (_, Some(reference)) => format!("{base}/orders/{}", reference.order_id),
            (MailKind::Verification, None) => format!("{base}/verify-email?token={token}"),
            (MailKind::PasswordReset, None) => format!("{base}/reset-password?token={token}"),
            (_, None) => base.clone(),
        };
        let MailContents { recipient, name, order, .. } = contents;
        let variables = MailVariables { shop: &self.shop, name, link: &link, order };
        let text =
            self.templates.render(mail.kind, &variables).map_err(|error| error.to_string())?;
        build_message(mail, recipient, &self.from, text).map_err(|error| error.to_string())
    }

    /// Writes what became of a mail, unless another node has claimed it meanwhile.
    async fn record(&self, mail: &Mail) {
        for _ in 0..RECORD_ATTEMPTS {
            match self.commit(mail).await {
                Ok(_) | Err(CommitError::Conflict) => return,
                Err(_) => tokio::time::sleep(RECORD_PAUSE).await,
            }
        }
        tracing::warn!(id = %mail.id, "failed to record a mail; it may be sent again");
    }

    async fn commit(&self, mail: &Mail) -> CommitOutcome {
        let mut commit = Commit::new(self.clock.now(), Instant::now() + COMMIT_TIMEOUT);
        commit.writes.push(Write::Mail(Arc::new(mail.clone())));
        self.writer.commit(commit).await
    }
}

/// What the token in a mail is good for. `None` if the mail has none.
const fn token_purpose(kind: MailKind) -> Option<TokenPurpose> {
    match kind {
        MailKind::Verification => Some(TokenPurpose::EmailVerification),
        MailKind::PasswordReset => Some(TokenPurpose::PasswordReset),
        MailKind::EmailChanged
        | MailKind::OrderPlaced
        | MailKind::OrderPaid
        | MailKind::OrderShipped
        | MailKind::OrderCancelled
        | MailKind::OrderRefunded => None,
    }
}
