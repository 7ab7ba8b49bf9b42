//! Mails that wait to be sent, and the tokens of accounts that they contain.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use souk::{
    domain::{
        account::{
            Email, User,
            mail_token::{MailToken, TokenPurpose},
        },
        clock::Timestamp,
        ids::{MailId, OrderId, UserId},
        mail::{Mail, MailKind, OrderReference},
    },
    store::{CommitError, Store, Write},
};

use crate::{
    fixtures::{apply, apply_one, commit, now, put_user, user},
    harness::Harness,
};

fn mail(kind: MailKind, at: Timestamp) -> Mail {
    Mail::new(kind, Email::parse("zoë'\"@exämple.com").unwrap(), None, at)
}

fn put_mail(mail: &Mail) -> Write {
    Write::Mail(Arc::new(mail.clone()))
}

async fn due(store: &dyn Store, now: Timestamp) -> Vec<Mail> {
    store.list_due_mails(now, 100).await.unwrap()
}

pub(crate) async fn mails_round_trip_and_are_listed_when_due(harness: &dyn Harness) {
    let store = harness.open().await;
    let start = now();
    let at = |seconds| start.saturating_add(Duration::from_secs(seconds));
    let of_account = Mail {
        user_id: Some(UserId::new()),
        is_requested: true,
        attempts: 3,
        due_at: at(2),
        ..mail(MailKind::Verification, start)
    };
    let order = OrderReference { order_id: OrderId::new(), part: Some(MailId::new().as_uuid()) };
    let of_order = Mail {
        recipient: None,
        order: Some(order),
        user_id: Some(UserId::new()),
        ..mail(MailKind::OrderShipped, at(1))
    };
    let mails = [mail(MailKind::PasswordReset, at(3)), of_account, of_order];
    apply(&*store, mails.iter().map(|mail| commit([put_mail(mail)]))).await;
    store.close().await;
    let store = harness.open().await;
    let [reset, verification, changed] = mails;
    assert_eq!(due(&*store, start).await, []);
    assert_eq!(due(&*store, at(2)).await, [changed.clone(), verification.clone()]);
    assert_eq!(due(&*store, at(9)).await, [changed.clone(), verification, reset]);
    assert_eq!(store.list_due_mails(at(9), 1).await, Ok(vec![changed]));
}

pub(crate) async fn mail_is_claimed_once_and_removed(harness: &dyn Harness) {
    let store = harness.open().await;
    let start = now();
    let waiting = mail(MailKind::PasswordReset, start);
    apply_one(&*store, commit([put_mail(&waiting)])).await.unwrap();
    let lease = Duration::from_secs(60);
    let claims = (0..4).map(|n| {
        let claimed = waiting.claimed(start.saturating_add(Duration::from_millis(n)), lease);
        let store = &store;
        async move { (apply_one(&**store, commit([put_mail(&claimed)])).await, claimed) }
    });
    let mut claims = join_all(claims).await;
    claims.sort_by_key(|(outcome, _)| outcome.is_err());
    let outcomes: Vec<bool> = claims.iter().map(|(outcome, _)| outcome.is_ok()).collect();
    assert_eq!(outcomes, [true, false, false, false]);
    assert!(claims[1..].iter().all(|(outcome, _)| *outcome == Err(CommitError::Conflict)));
    let claimed = claims[0].1.clone();
    assert_eq!(due(&*store, start.saturating_add(lease / 2)).await, []);
    let later = start.saturating_add(lease * 2);
    assert_eq!(due(&*store, later).await, std::slice::from_ref(&claimed));
    let stale = waiting.removed();
    assert_eq!(apply_one(&*store, commit([put_mail(&stale)])).await, Err(CommitError::Conflict));
    apply_one(&*store, commit([put_mail(&claimed.removed())])).await.unwrap();
    assert_eq!(due(&*store, later).await, []);
    // Who claims it late finds nothing.
    let again = claimed.claimed(later, lease);
    assert_eq!(apply_one(&*store, commit([put_mail(&again)])).await, Err(CommitError::Conflict));
}

pub(crate) async fn mail_and_account_are_one_commit(harness: &dyn Harness) {
    let store = harness.open().await;
    let (ada, start) = (user("ada@example.com"), now());
    apply_one(&*store, commit([put_user(&ada)])).await.unwrap();
    let waiting = mail(MailKind::PasswordReset, start);
    // In one batch: a mail that comes and goes, and one whose commit fails.
    let (brief, lost) = (mail(MailKind::Verification, start), mail(MailKind::Verification, start));
    let batch = [
        commit([put_mail(&waiting)]),
        commit([put_mail(&brief)]),
        commit([put_mail(&brief.removed())]),
        commit([put_mail(&lost), put_user(&ada)]),
    ];
    let outcomes = apply(&*store, batch).await.outcomes;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3, "{outcomes:?}");
    assert_eq!(outcomes[3], Err(CommitError::Conflict));
    assert_eq!(due(&*store, start).await, std::slice::from_ref(&waiting));
    let token = |number: u8, purpose, flag| MailToken {
        purpose,
        hash: [number; 32],
        mail_id: MailId::new(),
        is_requested: flag,
        issued_at: start,
        ended: !flag,
    };
    let with_tokens = User { version: 2, email_verified: true, ..ada }
        .with_mail_token(token(1, TokenPurpose::PasswordReset, true))
        .with_mail_token(token(2, TokenPurpose::EmailVerification, false));
    let claimed = waiting.claimed(start, Duration::from_secs(1));
    apply_one(&*store, commit([put_mail(&claimed), put_user(&with_tokens)])).await.unwrap();
    store.close().await;
    let store = harness.open().await;
    assert_eq!(store.find_user(with_tokens.id).await, Ok(Some(with_tokens)));
    assert_eq!(due(&*store, claimed.due_at).await, [claimed]);
}
