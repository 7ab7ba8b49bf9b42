//! The counters of failed logins, and the networks that an account is known at.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::domain::{
    account::{
        known_networks::KnownNetwork,
        login_failures::{FAILURE_WINDOW, FailureWindow, LoginKey},
    },
    clock::Timestamp,
};

/// Expired counters that one failure deletes at most. More than the counters that it adds, so that
/// a backlog shrinks.
const MAX_DELETED_COUNTERS: u32 = 64;

/// The counters of `keys`, in order.
pub(super) fn find_login_failures(
    connection: &Connection,
    keys: &[LoginKey],
) -> rusqlite::Result<Vec<Option<FailureWindow>>> {
    keys.iter().map(|key| find_window(connection, *key)).collect()
}

fn find_window(connection: &Connection, key: LoginKey) -> rusqlite::Result<Option<FailureWindow>> {
    connection
        .prepare_cached("SELECT started_at, failures FROM login_failures WHERE key = ?1")?
        .query_row([key.as_bytes()], |row| {
            let started_at = Timestamp::from_millis(row.get(0)?);
            Ok(FailureWindow { started_at, failures: row.get(1)? })
        })
        .optional()
}

/// The greatest password hash in text order.
pub(super) fn greatest_password_hash(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT max(password_hash) FROM users";
    connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
}

/// Counts a failure under each key. Returns the counters after it, in order.
///
/// The commit does not wait for the disk, so that a flood of failed logins holds up no other write:
/// the failure outlives the process, and a failure of the power may undo it.
pub(super) fn count_login_failure(
    connection: &mut Connection,
    keys: &[LoginKey],
    now: Timestamp,
) -> rusqlite::Result<Vec<FailureWindow>> {
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut windows = Vec::with_capacity(keys.len());
    for key in keys {
        let window = FailureWindow::after_failure(find_window(&transaction, *key)?, now);
        let sql = "INSERT OR REPLACE INTO login_failures (key, started_at, failures) \
                   VALUES (?1, ?2, ?3)";
        transaction.prepare_cached(sql)?.execute(params![
            key.as_bytes(),
            window.started_at.as_millis(),
            window.failures
        ])?;
        windows.push(window);
    }
    let sql = "DELETE FROM login_failures WHERE key IN (SELECT key FROM login_failures \
               WHERE started_at <= ?1 ORDER BY started_at LIMIT ?2)";
    let expired = now.saturating_sub(FAILURE_WINDOW).as_millis();
    transaction.prepare_cached(sql)?.execute(params![expired, MAX_DELETED_COUNTERS])?;
    transaction.commit()?;
    Ok(windows)
}

/// The length of a known network in the column `known_networks`.
const KNOWN_NETWORK_BYTES: usize = 24;

/// The column `known_networks`.
pub(super) fn known_networks_to_bytes(networks: &[KnownNetwork]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(networks.len() * KNOWN_NETWORK_BYTES);
    for network in networks {
        bytes.extend(network.key.as_bytes());
        bytes.extend(network.last_login_at.as_millis().to_be_bytes());
    }
    bytes
}

/// Reads the column `known_networks`.
pub(super) fn known_networks_from_bytes(bytes: &[u8]) -> Vec<KnownNetwork> {
    let network = |chunk: &[u8; KNOWN_NETWORK_BYTES]| {
        let (key, rest) = chunk.split_first_chunk()?;
        let last_login_at = Timestamp::from_millis(i64::from_be_bytes(rest.try_into().ok()?));
        Some(KnownNetwork { key: LoginKey::from_bytes(*key), last_login_at })
    };
    bytes.as_chunks().0.iter().filter_map(network).collect()
}
