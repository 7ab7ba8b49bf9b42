//! Rows of accounts and sessions.

use rusqlite::Row;

use super::{
    super::{login_failures::known_networks_from_bytes, mails::mail_tokens_from_bytes},
    conversion_error, id_column, text_column, timestamp_column,
};
use crate::{
    domain::{
        account::{AddressBook, Email, Role, ScopeSet, Session, User},
        clock::Timestamp,
        ids::UserId,
    },
    store::stored_address::StoredAddress,
};

/// An account, from all columns of `users` in table order.
pub(in crate::store::sqlite) fn user_from_row(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        id: id_column(row, 0)?,
        email: Email::from_stored(row.get(1)?),
        name: row.get(2)?,
        role: text_column(row, 3)?
            .parse::<Role>()
            .map_err(|_| conversion_error(3)("no role".into()))?,
        password_hash: row.get(4)?,
        created_at: timestamp_column(row, 5)?,
        version: row.get(6)?,
        event_sequence: row.get(7)?,
        known_networks: known_networks_from_bytes(row.get_ref(8)?.as_blob()?),
        scopes: ScopeSet::from_stored(text_column(row, 9)?.split(' ')),
        blocked: row.get(10)?,
        last_login_at: row.get::<_, Option<i64>>(11)?.map(Timestamp::from_millis),
        email_verified: row.get(12)?,
        mail_tokens: mail_tokens_from_bytes(row.get_ref(13)?.as_blob()?),
    })
}

/// The addresses of `user`, from the column `addresses`.
pub(in crate::store::sqlite) fn address_book_from_row(
    row: &Row<'_>,
    user: UserId,
) -> rusqlite::Result<AddressBook> {
    let addresses: Vec<StoredAddress<'_>> = serde_json::from_str(text_column(row, 0)?)
        .map_err(|error| conversion_error(0)(error.into()))?;
    StoredAddress::into_book(user, addresses).map_err(|error| conversion_error(0)(error.into()))
}

/// A session, from all columns of `sessions` in table order.
pub(in crate::store::sqlite) fn session_from_row(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        id: id_column(row, 0)?,
        user_id: id_column(row, 1)?,
        refresh_hash: row.get(2)?,
        created_at: timestamp_column(row, 3)?,
        expires_at: timestamp_column(row, 4)?,
        revoked_at: row.get::<_, Option<i64>>(5)?.map(Timestamp::from_millis),
        version: row.get(6)?,
        address: row.get::<_, Option<String>>(7)?.and_then(|text| text.parse().ok()),
        user_agent: row.get(8)?,
    })
}
