//! The schema's migrations. A released migration never changes.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::open_error::OpenError;
use crate::domain::money::Currency;

/// Migration `n`, counted from 0, migrates from schema version `n` to `n + 1`.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_start.sql"),
    include_str!("migrations/0002_orders.sql"),
    include_str!("migrations/0003_inbox.sql"),
    include_str!("migrations/0004_movements_of_orders.sql"),
    include_str!("migrations/0005_purchase_limits.sql"),
    include_str!("migrations/0006_ended_records.sql"),
    include_str!("migrations/0007_login_limit.sql"),
    include_str!("migrations/0008_rights.sql"),
    include_str!("migrations/0009_session_clients.sql"),
    include_str!("migrations/0010_mail.sql"),
    include_str!("migrations/0011_keys_and_actions.sql"),
    include_str!("migrations/0012_privacy.sql"),
    include_str!("migrations/0013_shipments.sql"),
    include_str!("migrations/0014_weight_and_tax_class.sql"),
    include_str!("migrations/0015_payments.sql"),
    include_str!("migrations/0016_order_mails.sql"),
    include_str!("migrations/0017_units_of_orders.sql"),
    include_str!("migrations/0018_payment_providers.sql"),
    include_str!("migrations/0019_webhooks.sql"),
    include_str!("migrations/0020_pricing_rules.sql"),
    include_str!("migrations/0021_charges.sql"),
    include_str!("migrations/0022_guest_orders.sql"),
];

/// The id of this application in the database's header: "Souk" in ASCII.
const APPLICATION_ID: i64 = 0x536f_756b;

/// Whether Souk wrote the database. The first versions wrote no application id.
pub(super) fn is_souk_database(connection: &Connection) -> rusqlite::Result<bool> {
    let number = |query| connection.query_row(query, [], |row| row.get::<_, i64>(0));
    let tables = "SELECT count(*) FROM sqlite_schema \
                  WHERE type = 'table' AND name IN ('meta', 'products', 'carts')";
    Ok(match number("PRAGMA application_id")? {
        APPLICATION_ID => true,
        0 => number("PRAGMA user_version")? > 0 && number(tables)? == 3,
        _ => false,
    })
}

/// Migrates the database in `dir` to the newest schema, each step in a transaction of its own.
/// Stores `currency` in a new database, and compares it in an existing one.
pub(super) fn prepare_schema(
    connection: &mut Connection,
    currency: Currency,
    dir: &Path,
) -> Result<(), OpenError> {
    run_migrations(connection, dir)?;
    connection
        .pragma_update(None, "application_id", APPLICATION_ID)
        .map_err(OpenError::database_unusable(dir))?;
    let stored =
        connection.query_row("SELECT value FROM meta WHERE name = 'currency'", [], |row| {
            row.get::<_, String>(0)
        });
    match stored.optional().map_err(OpenError::database_unusable(dir))? {
        Some(stored) if stored == currency.code() => Ok(()),
        Some(stored) => Err(OpenError::CurrencyMismatch {
            dir: dir.to_owned(),
            found: stored,
            expected: currency,
        }),
        None => {
            let insert = "INSERT INTO meta (name, value) VALUES ('currency', ?1)";
            connection
                .execute(insert, [currency.code()])
                .map_err(OpenError::database_unusable(dir))?;
            Ok(())
        }
    }
}

/// The schema version of the database in `dir`, unless a newer souk wrote it.
pub(super) fn supported_version(connection: &Connection, dir: &Path) -> Result<i64, OpenError> {
    let version = connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
    let version = version.map_err(OpenError::database_unusable(dir))?;
    match usize::try_from(version) {
        Ok(found) if found <= MIGRATIONS.len() => Ok(version),
        _ => Err(OpenError::SchemaTooNew {
            dir: dir.to_owned(),
            found: version,
            supported: MIGRATIONS.len(),
        }),
    }
}

fn run_migrations(connection: &mut Connection, dir: &Path) -> Result<(), OpenError> {
    // A supported version is not negative.
    let found = usize::try_from(supported_version(connection, dir)?).unwrap_or_default();
    for (before, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        apply_migration(connection, migration, before + 1)
            .map_err(OpenError::database_unusable(dir))?;
    }
    Ok(())
}

fn apply_migration(
    connection: &mut Connection,
    migration: &str,
    version: usize,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(migration)?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database of this schema version.
    fn database_of_version(version: usize) -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        for (before, migration) in MIGRATIONS.iter().enumerate().take(version) {
            apply_migration(&mut connection, migration, before + 1).unwrap();
        }
        connection
    }

    #[test]
    fn accounts_of_schema_version_7_keep_their_rights() {
        let mut connection = database_of_version(7);
        for (id, role) in [("1", "customer"), ("2", "admin")] {
            connection
                .execute(
                    "INSERT INTO users (id, email, name, role, password_hash, created_at, \
                     version, events) VALUES (?1, ?1, 'Ada', ?2, '', 0, 1, 1)",
                    [id, role],
                )
                .unwrap();
        }
        prepare_schema(&mut connection, "EUR".parse().unwrap(), Path::new("data")).unwrap();
        let mut select = connection
            .prepare("SELECT role, scopes, blocked, last_login_at FROM users ORDER BY id")
            .unwrap();
        let row = |row: &rusqlite::Row<'_>| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, Option<i64>>(3)?))
        };
        let users: Vec<(String, String, bool, Option<i64>)> =
            select.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap();
        let unchanged = |role: &str| (role.to_owned(), String::new(), false, None);
        assert_eq!(users, ["customer", "admin"].map(unchanged));
    }

    #[test]
    fn events_of_schema_version_9_lose_who_somebody_is() {
        let mut connection = database_of_version(9);
        let insert = "INSERT INTO outbox (position, id, type, subject, audience, body) \
                      VALUES (?1, ?1, ?2, '', 'nobody', ?3)";
        let data = r#"{"data":{"user_id":"7","email":"ada@example.com","name":"Ada","role":"x"}}"#;
        for (position, kind) in [(1, "auth.user.registered"), (2, "catalog.product.created")] {
            connection.execute(insert, rusqlite::params![position, kind, data]).unwrap();
        }
        prepare_schema(&mut connection, "EUR".parse().unwrap(), Path::new("data")).unwrap();
        let body = |position: i64| {
            let select = "SELECT body FROM outbox WHERE position = ?1";
            connection.query_row(select, [position], |row| row.get::<_, String>(0)).unwrap()
        };
        assert_eq!(body(1), r#"{"data":{"user_id":"7","role":"x"}}"#);
        assert_eq!(body(2), data);
    }

    #[test]
    fn orders_of_schema_version_16_get_their_units() {
        let mut connection = database_of_version(16);
        let insert = "INSERT INTO orders (id, user_id, status, version, currency, lines, \
                      payment_method, placed_at, expires_at, updated_at) \
                      VALUES (?1, '7', 'pending_payment', 1, 'EUR', ?2, 'manual', 0, 0, 0)";
        for (id, lines) in [("1", r#"[{"quantity":2},{"quantity":3}]"#), ("2", "[]")] {
            connection.execute(insert, [id, lines]).unwrap();
        }
        prepare_schema(&mut connection, "EUR".parse().unwrap(), Path::new("data")).unwrap();
        let units = |id: &str| {
            let select = "SELECT units FROM orders WHERE id = ?1";
            connection.query_row(select, [id], |row| row.get::<_, i64>(0)).unwrap()
        };
        assert_eq!((units("1"), units("2")), (5, 0));
    }

    #[test]
    fn orders_of_schema_version_21_get_the_email_of_their_account() {
        let mut connection = database_of_version(21);
        connection
            .execute(
                "INSERT INTO users (id, email, name, role, password_hash, created_at, version, \
                 events) VALUES ('7', 'ada@example.com', 'Ada', 'customer', '', 0, 1, 1)",
                [],
            )
            .unwrap();
        let insert = "INSERT INTO orders (id, user_id, status, version, currency, lines, \
                      payment_method, placed_at, updated_at, anonymized) \
                      VALUES (?1, ?2, 'paid', 1, 'EUR', '[]', 'manual', 0, 0, ?3)";
        for (id, user, anonymized) in [("1", "7", false), ("2", "8", false), ("3", "7", true)] {
            connection.execute(insert, rusqlite::params![id, user, anonymized]).unwrap();
        }
        prepare_schema(&mut connection, "EUR".parse().unwrap(), Path::new("data")).unwrap();
        let mut select = connection.prepare("SELECT email FROM orders ORDER BY id").unwrap();
        let emails: Vec<Option<String>> =
            select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(emails, [Some("ada@example.com".to_owned()), None, None]);
    }

    #[test]
    fn first_release_database_is_migrated() {
        let mut connection = database_of_version(1);
        connection
            .execute("INSERT INTO meta (name, value) VALUES ('currency', 'EUR')", [])
            .unwrap();
        let (dir, euro) = (Path::new("data"), "EUR".parse().unwrap());
        for _ in 0..2 {
            prepare_schema(&mut connection, euro, dir).unwrap();
            assert_eq!(
                connection.query_row("PRAGMA user_version", [], |row| row.get(0)),
                Ok(MIGRATIONS.len())
            );
            assert_eq!(
                connection.query_row("SELECT count(*) FROM orders", [], |row| row.get(0)),
                Ok(0)
            );
        }
    }
}
