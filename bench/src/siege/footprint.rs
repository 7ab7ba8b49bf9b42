//! Memory and disk of the shop during a phase, and what of their growth is not the buyers' own.
//!
//! A shop that sells grows: each purchase leaves an order, movements, events and a remembered
//! reply. So what a purchase takes is measured while the buyers are alone, and taken off from what
//! the shop grows by during the siege. Each table is compared by itself: one that grows less than
//! before makes no room for another. What is left is the floods'; the report says whether it is
//! flat.

use std::{collections::BTreeMap, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags};
use tokio::time::{Instant, sleep_until};

use super::buyers::Buyers;
use crate::shop_process::ShopProcess;

/// What memory, and the disk, may grow by in a minute of the siege besides the buyers' own, in MiB:
/// a margin for an allocator that gives memory back in steps, and for pages that are partly filled.
const MAX_MEMORY_GROWTH: f64 = 8.0;
const MAX_DISK_GROWTH: f64 = 2.0;

/// Samples of the memory in a phase, an even number.
const MEMORY_SAMPLES: u32 = 60;

/// Tables that grow less in a minute are not printed, in MiB.
const MIN_PRINTED_GROWTH: f64 = 0.1;

const MIB: f64 = 1_048_576.0;

/// Memory and disk in a phase.
pub struct Footprint {
    time: Duration,
    /// Samples in MiB, at equal distances.
    memory: Vec<f64>,
    /// At the beginning, in the middle, and at the end.
    snapshots: Vec<Snapshot>,
}

/// The files of the shop at one time.
struct Snapshot {
    /// Purchases since the buyers began.
    purchases: u64,
    /// Bytes of the tables with their indexes, of free pages, and of the other files.
    disk: BTreeMap<String, u64>,
}

/// What the shop grows by in the second half of a phase, in MiB a minute.
struct Growth {
    memory: f64,
    disk: BTreeMap<String, f64>,
    purchases: f64,
}

/// A measure of growth, and how much of it is not the buyers' own; in MiB a minute.
struct Share {
    all: f64,
    of_floods: f64,
}

impl Footprint {
    pub async fn sample(
        shop: &ShopProcess,
        buyers: &Buyers,
        time: Duration,
    ) -> anyhow::Result<Self> {
        let began = Instant::now();
        let mut sampled =
            Self { time, memory: Vec::new(), snapshots: vec![Snapshot::take(shop, buyers).await?] };
        for number in 1..=MEMORY_SAMPLES {
            sleep_until(began + time * number / MEMORY_SAMPLES).await;
            sampled.memory.push(shop.resident_mib()?);
            if number % (MEMORY_SAMPLES / 2) == 0 {
                sampled.snapshots.push(Snapshot::take(shop, buyers).await?);
            }
        }
        Ok(sampled)
    }

    /// Memory in MiB at the beginning, in the middle, and at the end: each the median of a tenth of
    /// the samples, since an allocator gives memory back in steps.
    fn memory(&self) -> [f64; 3] {
        let tenth = self.memory.len() / 10;
        let middle = (self.memory.len() - tenth) / 2;
        [0, middle, self.memory.len() - tenth].map(|first| {
            let mut samples: Vec<f64> =
                self.memory.iter().skip(first).take(tenth.max(1)).copied().collect();
            samples.sort_unstable_by(f64::total_cmp);
            samples.get(samples.len() / 2).copied().unwrap_or_default()
        })
    }

    /// All files in MiB at the same times.
    fn disk(&self) -> Vec<f64> {
        let size = |snapshot: &Snapshot| snapshot.disk.values().sum::<u64>() as f64 / MIB;
        self.snapshots.iter().map(size).collect()
    }

    fn growth(&self) -> Growth {
        let minutes = self.time.as_secs_f64() / 120.0;
        let [_, middle, end] = self.memory();
        let mut growth =
            Growth { memory: (end - middle) / minutes, disk: BTreeMap::new(), purchases: 0.0 };
        if let [_, middle, end] = self.snapshots.as_slice() {
            growth.purchases = end.purchases.saturating_sub(middle.purchases) as f64 / minutes;
            for (name, bytes) in &end.disk {
                let before = middle.disk.get(name).copied().unwrap_or_default();
                let grown = (*bytes as f64 - before as f64) / MIB / minutes;
                growth.disk.insert(name.clone(), grown);
            }
        }
        growth
    }

    pub fn print(&self, phase: &str) {
        println!("\n{phase}: MiB at the beginning, the middle and the end");
        for (name, sizes) in [("memory", self.memory().to_vec()), ("disk", self.disk())] {
            let sizes: String = sizes.iter().map(|size| format!(" {size:>8.1}")).collect();
            println!("  {name:<8}{sizes}");
        }
    }
}

impl Growth {
    /// The part of memory that is not the buyers' own: of `self`, during the siege, without what
    /// `quiet` took for as many purchases.
    fn memory_share(&self, quiet: &Self) -> Share {
        share(self.memory, quiet.memory, self.purchases / quiet.purchases)
    }

    /// The same of each table and file.
    fn disk_shares(&self, quiet: &Self) -> BTreeMap<&str, Share> {
        let ratio = self.purchases / quiet.purchases;
        let of = |name: &str| quiet.disk.get(name).copied().unwrap_or_default();
        let each = self.disk.iter();
        each.map(|(name, grown)| (name.as_str(), share(*grown, of(name), ratio))).collect()
    }
}

fn share(all: f64, quiet: f64, ratio: f64) -> Share {
    // What shrank while the buyers were alone need not shrink any more.
    let own = if ratio.is_finite() { quiet.max(0.0) * ratio } else { 0.0 };
    Share { all, of_floods: (all - own).max(0.0) }
}

impl Snapshot {
    async fn take(shop: &ShopProcess, buyers: &Buyers) -> anyhow::Result<Self> {
        let (dir, purchases) = (shop.dir().to_owned(), buyers.purchases());
        let disk = tokio::task::spawn_blocking(move || sizes(&dir)).await??;
        Ok(Self { purchases, disk })
    }
}

/// The bytes of each table, and of each other file below `dir`.
fn sizes(dir: &Path) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut sizes = BTreeMap::new();
    add_files(dir, &mut sizes)?;
    Ok(sizes)
}

fn add_files(dir: &Path, sizes: &mut BTreeMap<String, u64>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir)?.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        match entry.metadata() {
            Ok(found) if found.is_dir() => add_files(&path, sizes)?,
            Ok(_) if name == "souk.db" => add_tables(&path, sizes)?,
            Ok(found) => *sizes.entry(name).or_default() += found.len(),
            // It has gone meanwhile.
            Err(_) => {}
        }
    }
    Ok(())
}

/// The tables of a database in use, as of its newest commit.
fn add_tables(database: &Path, sizes: &mut BTreeMap<String, u64>) -> anyhow::Result<()> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let transaction = connection.unchecked_transaction()?;
    let mut tables = transaction.prepare(
        "SELECT coalesce(tbl_name, stat.name), sum(stat.pgsize) FROM dbstat AS stat \
         LEFT JOIN sqlite_schema ON sqlite_schema.name = stat.name \
         WHERE stat.aggregate = TRUE GROUP BY 1",
    )?;
    let mut rows = tables.query([])?;
    while let Some(row) = rows.next()? {
        sizes.insert(row.get(0)?, row.get(1)?);
    }
    let free = "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size";
    let free = transaction.query_row(free, [], |row| row.get(0))?;
    sizes.insert("free pages".to_owned(), free);
    Ok(())
}

/// Prints how the shop grew in the second half of the siege, and whether the floods' part is flat.
pub fn print_growth(quiet: &Footprint, siege: &Footprint) {
    let (quiet, siege) = (quiet.growth(), siege.growth());
    println!("\ngrowth in the second half of the siege, MiB a minute");
    println!("  {:<24} {:>9} {:>12} {:>12}", "", "all", "the buyers'", "the floods'");
    let memory = siege.memory_share(&quiet);
    print_share("memory", &memory, Some(MAX_MEMORY_GROWTH));
    let tables = siege.disk_shares(&quiet);
    let sum = |part: fn(&Share) -> f64| tables.values().map(part).sum();
    let disk = Share { all: sum(|share| share.all), of_floods: sum(|share| share.of_floods) };
    print_share("disk", &disk, Some(MAX_DISK_GROWTH));
    for (name, share) in &tables {
        if share.all.abs() >= MIN_PRINTED_GROWTH || share.of_floods >= MIN_PRINTED_GROWTH {
            print_share(&format!("  {name}"), share, None);
        }
    }
    let per_purchase = |growth: f64| match quiet.purchases > 0.0 {
        true => growth.max(0.0) * 1024.0 / quiet.purchases,
        false => 0.0,
    };
    println!(
        "  The buyers' part is what as many purchases took without floods ({:.0} a minute then, \
         {:.0} now):\n  {:.1} KiB of disk and {:.1} KiB of memory each. Flat: the floods' part is \
         at most {MAX_MEMORY_GROWTH} MiB of memory\n  and {MAX_DISK_GROWTH} MiB of disk.",
        quiet.purchases,
        siege.purchases,
        per_purchase(quiet.disk.values().sum()),
        per_purchase(quiet.memory),
    );
}

fn print_share(name: &str, share: &Share, limit: Option<f64>) {
    let verdict = match limit {
        Some(limit) if share.of_floods <= limit => "  flat",
        Some(_) => "  not flat",
        None => "",
    };
    let own = share.all - share.of_floods;
    println!("  {name:<24} {:>+9.2} {own:>+12.2} {:>+12.2}{verdict}", share.all, share.of_floods);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth(disk: &[(&str, f64)], purchases: f64) -> Growth {
        let disk = disk.iter().map(|(name, grown)| ((*name).to_owned(), *grown)).collect();
        Growth { memory: 0.0, disk, purchases }
    }

    #[test]
    fn what_purchases_take_is_the_buyers_own_table_by_table() {
        let quiet = growth(&[("orders", 2.0), ("outbox", 6.0), ("free pages", -1.0)], 100.0);
        let siege =
            growth(&[("orders", 5.0), ("outbox", 1.0), ("users", 0.5), ("free pages", 0.1)], 200.0);
        let shares = siege.disk_shares(&quiet);
        let of_floods = |name: &str| shares[name].of_floods;
        assert_eq!((of_floods("orders"), of_floods("users")), (1.0, 0.5));
        assert_eq!(of_floods("outbox"), 0.0, "what it grows less makes no room for others");
        assert_eq!(of_floods("free pages"), 0.1);
        let idle = growth(&[], 0.0);
        assert_eq!(siege.disk_shares(&idle)["orders"].of_floods, 5.0);
    }

    #[test]
    fn tables_and_files_are_measured_one_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let database = Connection::open(dir.path().join("souk.db")).unwrap();
        database
            .execute_batch("CREATE TABLE orders (id TEXT UNIQUE); CREATE TABLE old (id TEXT)")
            .unwrap();
        database.execute_batch("DROP TABLE old").unwrap();
        std::fs::create_dir(dir.path().join("keys")).unwrap();
        std::fs::write(dir.path().join("keys/secret"), "1234").unwrap();
        let sizes = sizes(dir.path()).unwrap();
        assert_eq!((sizes["orders"], sizes["secret"]), (2 * 4096, 4));
        assert_eq!((sizes["free pages"], sizes.len()), (4096, 4), "{sizes:?}");
    }
}
