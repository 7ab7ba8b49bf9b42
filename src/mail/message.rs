//! A mail as it is sent: an RFC 5322 message with a text and an HTML part.

use std::time::{Duration, UNIX_EPOCH};

use lettre::{
    Address, Message,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
};

use super::templates::MailText;
use crate::domain::{account::Email, mail::Mail};

/// The header with the kind of the mail.
const KIND_HEADER: HeaderName = HeaderName::new_from_ascii_str("X-Souk-Mail");

/// Keeps autoresponders from answering (RFC 3834).
const AUTOMATIC_HEADER: HeaderName = HeaderName::new_from_ascii_str("Auto-Submitted");

/// A mail cannot be sent to this address, or not with this text.
#[derive(Debug, thiserror::Error)]
#[error("it cannot be written as a message")]
pub(super) struct UnsendableMail;

/// Builds the message. It has the same `Message-ID` and date at every attempt.
pub(super) fn build_message(
    mail: &Mail,
    recipient: &Email,
    from: &Mailbox,
    text: MailText,
) -> Result<Message, UnsendableMail> {
    // The error of the parser would have the address.
    let recipient: Address = recipient.as_str().parse().map_err(|_| UnsendableMail)?;
    let millis = u64::try_from(mail.created_at.as_millis()).unwrap_or(0);
    Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, recipient))
        .subject(text.subject)
        .date(UNIX_EPOCH + Duration::from_millis(millis))
        .message_id(Some(format!("<{}@{}>", mail.id, from.email.domain())))
        .raw_header(HeaderValue::new(KIND_HEADER, mail.kind.as_str().to_owned()))
        .raw_header(HeaderValue::new(AUTOMATIC_HEADER, "auto-generated".to_owned()))
        .multipart(MultiPart::alternative_plain_html(text.text, text.html))
        .map_err(|_| UnsendableMail)
}
