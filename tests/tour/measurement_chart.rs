//! The picture of the measurements shows the figures of the file that it is made of.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{all_installed, documents::root, temp_dir};

/// What `souk-bench` prints, and the picture of it in the documentation.
const RESULTS: &str = "docs/measurements.txt";
const PICTURE: &str = "docs/measurements.svg";

/// As `souk-bench` prints it.
const SAMPLE: &str = "\
durable POST /api/cart/add: 256 concurrent users, 7 rounds of 2s, store in /tmp/souk
  souk, HTTP                   adds/s  33651 (32900 to 34200)
  one transaction per add      adds/s  4305 (4200 to 4500)
  ratio                                7.82 (7.20 to 8.10)
checkouts on MongoDB, 1 products: souk with 256 connections, the others with 64 tasks; 5 rounds
  souk <now>                done/s   5492 (5300 to 5600)
                            p99 ms   89.00 (80.00 to 95.00)
  transaction               done/s   26.00 (25.00 to 27.00)
                            p99 ms   2800 (2700 to 2900)
                            ratio    219 (200 to 227)
";

/// The picture that the script makes of a file.
fn draw(results: &str) -> Result<String> {
    chart(&[results])
}

/// What the script prints.
fn chart(arguments: &[&str]) -> Result<String> {
    let output =
        Command::new("scripts/measurement-chart").args(arguments).current_dir(root()).output()?;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{complaint}");
    Ok(String::from_utf8(output.stdout)?)
}

/// The texts in a picture.
fn texts(picture: &str) -> Vec<&str> {
    let texts = picture.split("<text ").skip(1);
    texts.filter_map(|text| text.split(['>', '<']).nth(1)).collect()
}

/// The lengths of its bars.
fn bars(picture: &str) -> Result<Vec<f64>> {
    let bars = picture.split("<rect x=").skip(1);
    bars.map(|bar| {
        let (_, rest) = bar.split_once("width='").context("no width")?;
        Ok(rest.split('\'').next().unwrap_or_default().parse()?)
    })
    .collect()
}

#[test]
fn chart_shows_the_medians_of_a_result() -> Result<()> {
    if !all_installed("the chart", &["python3"])? {
        return Ok(());
    }
    let dir = temp_dir()?;
    let file = dir.path().join("results.txt");
    let path = file.to_string_lossy().into_owned();
    fs::write(&file, SAMPLE)?;
    let picture = draw(&path)?;
    let expected = [
        "Durable POST /api/cart/add",
        "souk, HTTP",
        "33,651 adds/s",
        "one transaction per add",
        "4,305 adds/s",
        "Checkouts on MongoDB, one product",
        "souk &lt;now&gt;",
        "5,492 done/s",
        "transaction",
        "26 done/s",
    ];
    let all = texts(&picture);
    let (legend, texts) = all.split_last().context("no texts")?;
    ensure!(texts == expected && legend.contains("Longer is better"), "{picture}");
    ensure!(draw(&path)? == picture, "the same file has made two pictures");
    let rows = "| Durable POST /api/cart/add, against one transaction per add | 33,651/s | 4,305/s \
                | 7.8 (7.2 to 8.1) |\n\
                | Checkouts on MongoDB, one product, against transaction | 5,492/s | 26/s \
                | 219 (200 to 227) |\n";
    ensure!(chart(&["--rows", &path])? == rows, "{}", chart(&["--rows", &path])?);
    let [souk, plain, now, transaction] = bars(&picture)?[..] else {
        anyhow::bail!("not four bars: {picture}")
    };
    for (longer, shorter, ratio) in
        [(souk, plain, 33651.0 / 4305.0), (now, transaction, 5492.0 / 26.0)]
    {
        // Lengths have one decimal.
        let error = 0.1 * longer / (shorter * shorter);
        ensure!((longer / shorter - ratio).abs() < error, "{longer} and {shorter}");
    }
    fs::write(&file, "nothing was measured\n")?;
    ensure!(draw(&path).is_err(), "a file without rates has a picture");
    Ok(())
}

#[test]
fn picture_in_the_documentation_is_that_of_its_results() -> Result<()> {
    if !all_installed("the chart", &["python3"])? {
        return Ok(());
    }
    let picture = fs::read_to_string(root().join(PICTURE)).context(PICTURE)?;
    ensure!(picture == draw(RESULTS)?, "run scripts/measurement-chart {RESULTS} > {PICTURE}");
    Ok(())
}

/// Both rates and the ratio of a row.
fn figures(row: &str) -> Option<[&str; 3]> {
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    let [_, _, souk, other, ratio, _] = cells[..] else { return None };
    (souk.ends_with("/s") && other.ends_with("/s")).then_some([souk, other, ratio])
}

#[test]
fn tables_have_the_figures_of_the_results() -> Result<()> {
    if !all_installed("the chart", &["python3"])? {
        return Ok(());
    }
    let rows = chart(&["--rows", RESULTS])?;
    let measured: Vec<[&str; 3]> = rows.lines().filter_map(figures).collect();
    // The README has the median of a ratio, and the page its range, too.
    let median = |ratio: &str| ratio.split(' ').next().unwrap_or_default().to_owned();
    for (page, has_range) in [("README.md", false), ("docs/measurements.md", true)] {
        let text = fs::read_to_string(root().join(page))?;
        let shown: Vec<[&str; 3]> = text.lines().filter_map(figures).collect();
        ensure!(shown.len() > 3, "{page} has a table of {} rows", shown.len());
        for row in shown {
            let is_row = |[souk, other, ratio]: &[&str; 3]| {
                let ratio = if has_range { (*ratio).to_owned() } else { median(ratio) };
                [*souk, *other, ratio.as_str()] == row
            };
            ensure!(measured.iter().any(is_row), "{page} has {row:?}; measured was\n{rows}");
        }
    }
    Ok(())
}
