//! Finds damaged pages of the database.

use rusqlite::Connection;

/// The most problems that SQLite lists.
const MAX_LISTED: u32 = 100;

/// How thorough a check is. Both read every page.
#[derive(Debug, Clone, Copy)]
pub(super) enum IntegrityCheck {
    /// The structure of every table and index, and the types of values.
    Quick,
    /// Also that each index agrees with its table, and uniqueness.
    Full,
}

/// Returns a line for each problem; none if the database is sound. Text that was changed within a
/// value is not found, since SQLite stores no checksums.
pub(super) fn find_damage(connection: &Connection, check: IntegrityCheck) -> Vec<String> {
    let pragma = match check {
        IntegrityCheck::Quick => format!("PRAGMA quick_check({MAX_LISTED})"),
        IntegrityCheck::Full => format!("PRAGMA integrity_check({MAX_LISTED})"),
    };
    let list = || -> rusqlite::Result<Vec<String>> {
        connection.prepare(&pragma)?.query_map([], |row| row.get(0))?.collect()
    };
    let rows = match list() {
        Ok(rows) => rows,
        // The check itself could not go on.
        Err(error) => vec![error.to_string()],
    };
    let lines = rows.iter().flat_map(|row| row.lines());
    // SQLite begins its findings with a line that names the database.
    lines
        .filter(|line| *line != "ok" && !line.is_empty() && !line.starts_with("***"))
        .map(str::to_owned)
        .collect()
}
