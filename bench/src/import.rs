//! The rate of `souk import` on the embedded store, and the most memory that it takes: of a fifth
//! of the lines, of all of them, and of all of them again, which changes nothing.

use std::{
    fmt::Write as _,
    fs,
    io::{BufWriter, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

pub fn run(lines: u64) -> anyhow::Result<()> {
    for count in [lines / 5, lines] {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("products.csv");
        write_products(&file, count)?;
        let size = fs::metadata(&file)?.len() / 1_000_000;
        measure(dir.path(), &file, count, &format!("{count} new products ({size} MB)"))?;
        if count == lines {
            measure(dir.path(), &file, count, "the same lines again")?;
        }
    }
    Ok(())
}

fn write_products(path: &Path, count: u64) -> anyhow::Result<()> {
    let mut file = BufWriter::new(fs::File::create(path)?);
    file.write_all(b"sku,name,description,price,stock,category,tags,attributes\n")?;
    let mut line = String::new();
    for number in 0..count {
        line.clear();
        let (units, cents, stock) = (number % 500, number % 100, number % 1000);
        writeln!(
            line,
            "SKU-{number},Product number {number},\"Made in batch {stock}, ready to ship\",\
             {units}.{cents:02},{stock},category-{},tag-{cents}|tag-{units},\
             \"{{\"\"color\"\":\"\"color-{cents}\"\"}}\"",
            number % 40
        )?;
        file.write_all(line.as_bytes())?;
    }
    Ok(file.flush()?)
}

fn measure(dir: &Path, file: &Path, lines: u64, what: &str) -> anyhow::Result<()> {
    let souk = std::env::current_exe()?.with_file_name("souk");
    let mut command = Command::new(souk);
    command.current_dir(dir).env("RUST_LOG", "error").arg("import").arg(file);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let mut import = command.spawn().context("failed to start the import")?;
    let peak = wait_and_watch_memory(&mut import)?;
    let seconds = began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate is approximate")]
    let rate = lines as f64 / seconds;
    println!("{what}: {seconds:.1} s, {rate:.0} lines/s, at most {peak:.0} MiB resident");
    Ok(())
}

/// Waits for the end of the process. Returns the most memory that it had resident, in MiB.
fn wait_and_watch_memory(process: &mut Child) -> anyhow::Result<f64> {
    let status_file = format!("/proc/{}/status", process.id());
    let mut peak = 0.0_f64;
    loop {
        // The kernel keeps the peak as long as the process runs. Nothing announces its growth.
        if let Ok(status) = fs::read_to_string(&status_file)
            && let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))
        {
            peak = peak.max(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0);
        }
        if let Some(status) = process.try_wait()? {
            ensure!(status.success(), "the import failed: {status}");
            return Ok(peak);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
