//! The same documents and queries in a full-text table of SQLite.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, params};

use super::catalog::{Item, texts};

/// Builds the table, and returns how long that took and the size of the file in bytes.
pub fn build(items: &[Item], count: usize, path: &Path) -> anyhow::Result<(Duration, u64)> {
    let started = Instant::now();
    let mut connection = Connection::open(path)?;
    connection.execute_batch(
        "CREATE VIRTUAL TABLE products USING fts5(name, description, labels, \
         tokenize = 'porter unicode61', prefix = '2 3')",
    )?;
    let transaction = connection.transaction()?;
    {
        let mut insert = transaction.prepare("INSERT INTO products VALUES (?1, ?2, ?3)")?;
        for (name, description, labels) in (0..count).filter_map(|number| texts(items, number)) {
            insert.execute(params![name, description, labels])?;
        }
    }
    transaction.commit()?;
    Ok((started.elapsed(), std::fs::metadata(path)?.len()))
}

/// Runs the queries on `threads` connections for `time`. Returns the latency of each.
pub fn measure(
    path: &Path,
    queries: &[String],
    threads: usize,
    time: Duration,
) -> anyhow::Result<Vec<Duration>> {
    let end = Instant::now() + time;
    let run = |first: usize| -> anyhow::Result<Vec<Duration>> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut search = connection.prepare(
            "SELECT rowid, name FROM products WHERE products MATCH ?1 ORDER BY rank LIMIT 20",
        )?;
        let mut latencies = Vec::new();
        for query in queries.iter().cycle().skip(first) {
            let started = Instant::now();
            if started > end {
                break;
            }
            let rows =
                search.query_map([match_expression(query)], |row| row.get::<_, String>(1))?;
            for name in rows {
                name?;
            }
            latencies.push(started.elapsed());
        }
        Ok(latencies)
    };
    let share = queries.len() / threads.max(1);
    thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> =
            (0..threads).map(|number| scope.spawn(move || run(number * share))).collect();
        let mut latencies = Vec::new();
        for thread in threads {
            let part = thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
            latencies.extend(part?);
        }
        Ok(latencies)
    })
}

/// Every word, the last one by prefix.
fn match_expression(query: &str) -> String {
    let words = query.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let quoted: Vec<String> = words.map(|word| format!("\"{word}\"")).collect();
    if quoted.is_empty() { "\"\"".to_owned() } else { quoted.join(" ") + "*" }
}
