//! Reads of accounts.

use std::collections::HashMap;

use rusqlite::Connection;

use super::{
    super::rows::{self, UuidText},
    find_many, find_one,
};
use crate::domain::{
    account::{AddressBook, Email, User, UserFilter, VersionedRights},
    ids::UserId,
};

macro_rules! users {
    ($rest:literal) => {
        concat!(
            "SELECT id, email, name, role, password_hash, created_at, version, events, \
             known_networks, scopes, blocked, last_login_at, email_verified, mail_tokens \
             FROM users ",
            $rest
        )
    };
}

pub(in crate::store::sqlite) fn find_user(
    connection: &Connection,
    id: UserId,
) -> rusqlite::Result<Option<User>> {
    find_one(
        connection,
        users!("WHERE id = ?1"),
        &[&UuidText::new(id.as_uuid())],
        rows::user_from_row,
    )
}

pub(in crate::store::sqlite) fn find_emails(
    connection: &Connection,
    users: &[UserId],
) -> rusqlite::Result<HashMap<UserId, Email>> {
    let find = |user: &UserId| {
        let sql = "SELECT email FROM users WHERE id = ?1";
        find_one(connection, sql, &[&UuidText::new(user.as_uuid())], |row| {
            Ok((*user, Email::from_stored(row.get(0)?)))
        })
        .transpose()
    };
    users.iter().filter_map(find).collect()
}

pub(in crate::store::sqlite) fn find_user_by_email(
    connection: &Connection,
    email: &Email,
) -> rusqlite::Result<Option<User>> {
    find_one(connection, users!("WHERE email = ?1"), &[&email.as_str()], rows::user_from_row)
}

/// The words of the filter are compared row by row.
pub(in crate::store::sqlite) fn list_users(
    connection: &Connection,
    filter: &UserFilter,
    before: Option<UserId>,
    limit: u32,
) -> rusqlite::Result<Vec<User>> {
    let sql = users!(
        "WHERE (?1 IS NULL OR id < ?1) AND (?2 IS NULL OR email = ?2) \
         AND (?3 IS NULL OR role = ?3) AND (?4 IS NULL OR blocked = ?4) ORDER BY id DESC"
    );
    let mut select = connection.prepare_cached(sql)?;
    let users = select.query_map(
        rusqlite::params![
            before.map(|id| UuidText::new(id.as_uuid())),
            filter.email.as_ref().map(Email::as_str),
            filter.role.map(|role| role.as_str()),
            filter.blocked,
        ],
        rows::user_from_row,
    )?;
    let matching =
        users.filter(|user| user.as_ref().map_or(true, |user| filter.matches_words(user)));
    matching.take(limit as usize).collect()
}

pub(in crate::store::sqlite) fn find_address_book(
    connection: &Connection,
    user: UserId,
) -> rusqlite::Result<AddressBook> {
    let sql = "SELECT addresses FROM address_books WHERE user_id = ?1";
    let found = find_one(connection, sql, &[&UuidText::new(user.as_uuid())], |row| {
        rows::address_book_from_row(row, user)
    })?;
    Ok(found.unwrap_or(AddressBook::empty(user)))
}

pub(in crate::store::sqlite) fn list_special_rights(
    connection: &Connection,
) -> rusqlite::Result<Vec<VersionedRights>> {
    find_many(connection, users!("WHERE role <> 'customer' OR blocked = 1"), &[], |row| {
        Ok(rows::user_from_row(row)?.versioned_rights())
    })
}

pub(in crate::store::sqlite) fn has_admin(connection: &Connection) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM users WHERE role = 'admin'")?.exists([])
}

/// The admins that are not blocked.
pub(in crate::store::sqlite) fn active_admins<C: FromIterator<UserId>>(
    connection: &Connection,
) -> rusqlite::Result<C> {
    let sql = "SELECT id FROM users WHERE role = 'admin' AND blocked = 0";
    let found = find_many(connection, sql, &[], |row| rows::id_column(row, 0))?;
    Ok(found.into_iter().collect())
}
