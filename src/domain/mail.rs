//! Mails that wait to be sent.
//!
//! A mail is recorded in the commit that makes it necessary, and removed once it was sent or given
//! up. It has no text: that is rendered when it is sent, and so is the token that it may contain.
//! A node that is about to send a mail claims it for a while. If the node fails, the claim ends and
//! another one sends the mail, so a mail may arrive twice, but none is lost.

use std::time::Duration;

use uuid::Uuid;

use super::{
    account::{Email, User},
    clock::Timestamp,
    ids::{MailId, OrderId, UserId},
    order::{Order, OrderNotice},
};

/// What a mail is about.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum MailKind {
    /// Asks the owner of an account to confirm that the address is theirs.
    Verification,
    /// Has a link to choose a new password.
    PasswordReset,
    /// Tells the former address of an account that it has another one now.
    EmailChanged,
    /// Confirms an order.
    OrderPlaced,
    /// Confirms that an order is paid.
    OrderPaid,
    /// Tells which units of an order were shipped, and how to follow them.
    OrderShipped,
    /// Tells that an order was cancelled.
    OrderCancelled,
    /// Tells that money goes back.
    OrderRefunded,
}

impl MailKind {
    /// Every kind, in the order of declaration.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name in the header `X-Souk-Mail` and of the templates.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What an order's mail is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderReference {
    /// The order.
    pub order_id: OrderId,
    /// The shipment or the refund.
    pub part: Option<Uuid>,
}

/// A mail that waits to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The mail's identifier, which its `Message-ID` contains.
    pub id: MailId,
    /// What it is about.
    pub kind: MailKind,
    /// Where it goes. `None` if that is looked up when it is sent: an order's mail goes to the
    /// address of the order.
    pub recipient: Option<Email>,
    /// The account that it is about. `None` if it is that of the recipient, if there is one:
    /// whoever asks for a new password only types an address.
    pub user_id: Option<UserId>,
    /// The order that it is about.
    pub order: Option<OrderReference>,
    /// Whether somebody asked for it, so that it counts toward the limit of such mails.
    pub is_requested: bool,
    /// When it became necessary.
    pub created_at: Timestamp,
    /// When it is sent next. While a node has claimed it, that is the end of the claim.
    pub due_at: Timestamp,
    /// How often a node has claimed it.
    pub attempts: u32,
    /// Counts the changes of the record, from 1.
    pub version: u64,
    /// Whether the record is to be removed: the mail was sent or given up.
    pub ended: bool,
}

impl Mail {
    /// A new mail, which is due at once.
    #[must_use]
    pub fn new(kind: MailKind, recipient: Email, user_id: Option<UserId>, now: Timestamp) -> Self {
        Self { recipient: Some(recipient), user_id, ..Self::of_kind(kind, now) }
    }

    /// A new mail for the buyer of `order`, which is due at once.
    #[must_use]
    pub fn about_order(order: &Order, notice: OrderNotice, now: Timestamp) -> Self {
        let (kind, part) = match notice {
            OrderNotice::Placed => (MailKind::OrderPlaced, None),
            OrderNotice::Paid => (MailKind::OrderPaid, None),
            OrderNotice::Shipped(id) => (MailKind::OrderShipped, Some(id.as_uuid())),
            OrderNotice::Cancelled => (MailKind::OrderCancelled, None),
            OrderNotice::Refunded(id) => (MailKind::OrderRefunded, Some(id.as_uuid())),
        };
        Self {
            user_id: Some(order.user_id),
            order: Some(OrderReference { order_id: order.id, part }),
            ..Self::of_kind(kind, now)
        }
    }

    /// A new mail without a recipient.
    fn of_kind(kind: MailKind, now: Timestamp) -> Self {
        Self {
            id: MailId::new(),
            kind,
            recipient: None,
            user_id: None,
            order: None,
            is_requested: false,
            created_at: now,
            due_at: now,
            attempts: 0,
            version: 1,
            ended: false,
        }
    }

    /// Whether the mail still makes sense for the account `user`, of which at most `request_limit`
    /// mails within an hour are sent on request; 0 allows any number.
    #[must_use]
    pub fn is_wanted_by(&self, user: &User, request_limit: u32, now: Timestamp) -> bool {
        let is_current = self.recipient.as_ref() == Some(&user.email) && !user.blocked;
        // Later attempts are the same mail.
        let is_within_limit = !self.is_requested
            || self.attempts > 0
            || request_limit == 0
            || user.requested_mails(self.id, now) < request_limit as usize;
        match self.kind {
            MailKind::Verification => is_current && !user.email_verified && is_within_limit,
            MailKind::PasswordReset => is_current && is_within_limit,
            MailKind::EmailChanged
            | MailKind::OrderPlaced
            | MailKind::OrderPaid
            | MailKind::OrderShipped
            | MailKind::OrderCancelled
            | MailKind::OrderRefunded => true,
        }
    }

    /// The mail, claimed until `now` plus `lease`.
    #[must_use]
    pub fn claimed(&self, now: Timestamp, lease: Duration) -> Self {
        Self {
            attempts: self.attempts.saturating_add(1),
            due_at: now.saturating_add(lease),
            version: self.version + 1,
            ..self.clone()
        }
    }

    /// The mail after an attempt that failed and may succeed later: it waits, or ends when
    /// `schedule` has no wait left for it.
    #[must_use]
    pub fn postponed(&self, now: Timestamp, schedule: &[Duration]) -> Self {
        let failures = usize::try_from(self.attempts).unwrap_or(usize::MAX);
        match failures.checked_sub(1).and_then(|index| schedule.get(index)) {
            Some(wait) => Self {
                due_at: now.saturating_add(*wait),
                version: self.version + 1,
                ..self.clone()
            },
            None => self.removed(),
        }
    }

    /// The mail, to be removed.
    #[must_use]
    pub fn removed(&self) -> Self {
        Self { ended: true, version: self.version + 1, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_mail_waits_longer_each_time_and_ends() {
        let start = Timestamp::from_millis(1_000_000);
        let schedule = [Duration::from_secs(5), Duration::from_secs(30)];
        let address = Email::parse("ada@example.com").unwrap();
        let mut mail = Mail::new(MailKind::PasswordReset, address, None, start);
        for wait in schedule {
            let claimed = mail.claimed(start, Duration::from_secs(60));
            assert_eq!(claimed.due_at, start.saturating_add(Duration::from_secs(60)));
            mail = claimed.postponed(start, &schedule);
            assert_eq!((mail.due_at, mail.ended), (start.saturating_add(wait), false));
        }
        let last = mail.claimed(start, Duration::ZERO).postponed(start, &schedule);
        assert!(last.ended);
        assert_eq!((last.attempts, last.version), (3, 7));
    }
}
