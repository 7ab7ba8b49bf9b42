//! Reads of sessions.

use rusqlite::Connection;

use super::{
    super::rows::{self, UuidText},
    find_many, find_one,
};
use crate::domain::{
    account::Session,
    clock::Timestamp,
    ids::{SessionId, UserId},
};

macro_rules! sessions {
    ($rest:literal) => {
        concat!(
            "SELECT id, user_id, refresh_hash, created_at, expires_at, revoked_at, version, \
             address, user_agent FROM sessions ",
            $rest
        )
    };
}

pub(in crate::store::sqlite) fn find_session(
    connection: &Connection,
    id: SessionId,
) -> rusqlite::Result<Option<Session>> {
    find_one(
        connection,
        sessions!("WHERE id = ?1"),
        &[&UuidText::new(id.as_uuid())],
        rows::session_from_row,
    )
}

pub(in crate::store::sqlite) fn list_active_sessions(
    connection: &Connection,
    user: UserId,
    now: Timestamp,
    limit: u32,
) -> rusqlite::Result<Vec<Session>> {
    let sql = sessions!(
        "WHERE user_id = ?1 AND revoked_at IS NULL AND expires_at > ?2 ORDER BY id LIMIT ?3"
    );
    find_many(
        connection,
        sql,
        &[&UuidText::new(user.as_uuid()), &now.as_millis(), &limit],
        rows::session_from_row,
    )
}

pub(in crate::store::sqlite) fn list_stale_sessions(
    connection: &Connection,
    user: UserId,
    now: Timestamp,
    kept: u32,
    limit: u32,
) -> rusqlite::Result<Vec<Session>> {
    let sql = sessions!(
        "WHERE user_id = ?1 AND revoked_at IS NULL AND expires_at > ?2 \
         ORDER BY expires_at DESC, id DESC LIMIT ?4 OFFSET ?3"
    );
    find_many(
        connection,
        sql,
        &[&UuidText::new(user.as_uuid()), &now.as_millis(), &kept, &limit],
        rows::session_from_row,
    )
}

pub(in crate::store::sqlite) fn list_sessions_revoked_since(
    connection: &Connection,
    since: Timestamp,
) -> rusqlite::Result<Vec<SessionId>> {
    let sql = "SELECT id FROM sessions WHERE revoked_at >= ?1 ORDER BY revoked_at";
    find_many(connection, sql, &[&since.as_millis()], |row| rows::id_column(row, 0))
}
