//! Mails that wait to be sent, and the tokens in accounts that mails contain.

use rusqlite::{Connection, Row, params};

use super::rows::{
    UuidText, conversion_error, id_column, optional_id_column, text_column, timestamp_column,
};
use crate::{
    domain::{
        account::{
            Email,
            mail_token::{MailToken, TokenPurpose},
        },
        clock::Timestamp,
        ids::MailId,
        mail::{Mail, MailKind, OrderReference},
    },
    store::plan::WriteSet,
};

/// Writes and removes the mails in `writes`.
pub(super) fn write_mails(connection: &Connection, writes: &WriteSet) -> rusqlite::Result<()> {
    if writes.mails.is_empty() {
        return Ok(());
    }
    let mut delete = connection.prepare_cached("DELETE FROM mails WHERE id = ?1")?;
    let mut put = connection.prepare_cached(
        "INSERT INTO mails (id, kind, recipient, user_id, is_requested, created_at, due_at, \
         attempts, version, order_id, part_id) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
         ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, recipient = excluded.recipient, \
         user_id = excluded.user_id, is_requested = excluded.is_requested, \
         created_at = excluded.created_at, due_at = excluded.due_at, \
         attempts = excluded.attempts, version = excluded.version, \
         order_id = excluded.order_id, part_id = excluded.part_id",
    )?;
    for mail in writes.mails.values() {
        let id = UuidText::new(mail.id.as_uuid());
        if mail.ended {
            delete.execute([id])?;
            continue;
        }
        put.execute(params![
            id,
            mail.kind.as_str(),
            mail.recipient.as_ref().map_or("", Email::as_str),
            mail.user_id.map(|id| UuidText::new(id.as_uuid())),
            mail.is_requested,
            mail.created_at.as_millis(),
            mail.due_at.as_millis(),
            mail.attempts,
            mail.version,
            mail.order.map(|order| UuidText::new(order.order_id.as_uuid())),
            mail.order.and_then(|order| order.part).map(UuidText::new),
        ])?;
    }
    Ok(())
}

/// Mails that are due at `now`, the longest due first. A row that cannot be read is skipped, so
/// that the others are sent.
pub(super) fn list_due_mails(
    connection: &Connection,
    now: Timestamp,
    limit: u32,
) -> rusqlite::Result<Vec<Mail>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, kind, recipient, user_id, is_requested, created_at, due_at, attempts, version, \
         order_id, part_id FROM mails WHERE due_at <= ?1 ORDER BY due_at, id",
    )?;
    let found = statement.query_map([now.as_millis()], |row| {
        Ok(mail_from_row(row).map_err(|error| (row.get(0), error)))
    })?;
    let readable = found.filter_map(|row| match row {
        Ok(Ok(mail)) => Some(Ok(mail)),
        Ok(Err((id, error))) => {
            let id: String = id.unwrap_or_default();
            tracing::error!(mail = id, %error, "failed to read a mail; it cannot be sent");
            None
        }
        Err(error) => Some(Err(error)),
    });
    readable.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect()
}

fn mail_from_row(row: &Row<'_>) -> rusqlite::Result<Mail> {
    Ok(Mail {
        id: id_column(row, 0)?,
        kind: text_column(row, 1)?
            .parse::<MailKind>()
            .map_err(|_| conversion_error(1)("no kind of mail".into()))?,
        recipient: Some(row.get::<_, String>(2)?)
            .filter(|address| !address.is_empty())
            .map(Email::from_stored),
        user_id: optional_id_column(row, 3)?,
        order: optional_id_column(row, 9)?
            .map(|order_id| {
                Ok::<_, rusqlite::Error>(OrderReference {
                    order_id,
                    part: optional_id_column(row, 10)?,
                })
            })
            .transpose()?,
        is_requested: row.get(4)?,
        created_at: timestamp_column(row, 5)?,
        due_at: timestamp_column(row, 6)?,
        attempts: row.get(7)?,
        version: row.get(8)?,
        ended: false,
    })
}

/// The length of a token in the column `mail_tokens`.
const TOKEN_BYTES: usize = 57;

/// The flags of a token in its first byte.
const IS_RESET: u8 = 1;
const IS_REQUESTED: u8 = 2;
const HAS_ENDED: u8 = 4;

/// The column `mail_tokens`.
pub(super) fn mail_tokens_to_bytes(tokens: &[MailToken]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(tokens.len() * TOKEN_BYTES);
    for token in tokens {
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        bytes.push(
            flag(token.purpose == TokenPurpose::PasswordReset, IS_RESET)
                | flag(token.is_requested, IS_REQUESTED)
                | flag(token.ended, HAS_ENDED),
        );
        bytes.extend(token.hash);
        bytes.extend(token.mail_id.as_uuid().as_bytes());
        bytes.extend(token.issued_at.as_millis().to_be_bytes());
    }
    bytes
}

/// Reads the column `mail_tokens`.
pub(super) fn mail_tokens_from_bytes(bytes: &[u8]) -> Vec<MailToken> {
    bytes.as_chunks().0.iter().filter_map(token_from_bytes).collect()
}

fn token_from_bytes(chunk: &[u8; TOKEN_BYTES]) -> Option<MailToken> {
    let (flags, rest) = chunk.split_first()?;
    let (hash, rest) = rest.split_first_chunk()?;
    let (mail_id, issued_at) = rest.split_first_chunk::<16>()?;
    Some(MailToken {
        purpose: match flags & IS_RESET {
            0 => TokenPurpose::EmailVerification,
            _ => TokenPurpose::PasswordReset,
        },
        hash: *hash,
        mail_id: MailId::from(uuid::Uuid::from_bytes(*mail_id)),
        is_requested: flags & IS_REQUESTED != 0,
        issued_at: Timestamp::from_millis(i64::from_be_bytes(issued_at.try_into().ok()?)),
        ended: flags & HAS_ENDED != 0,
    })
}
