//! `souk import` creates and updates products from a file.

use std::{io::IsTerminal, path::Path};

use anyhow::{Context, bail};
use futures_util::{Stream, StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::io::AsyncReadExt;

use super::{ImportArguments, count, print_line, run_in_system};
use crate::{
    app::Node,
    config::Settings,
    http::{ImportReport, Importer},
    input::product_file::{ProductFileFormat, ProductFileReader},
};

/// Bytes to read at a time.
const CHUNK_SIZE: usize = 64 * 1024;

pub(super) fn run(settings: &Settings, arguments: &ImportArguments) -> anyhow::Result<()> {
    let format = detect_format(&arguments.file)?;
    let (file, bar) = open_with_progress(&arguments.file)?;
    run_in_system(async |drivers| {
        let report = match &arguments.server {
            Some(server) => upload_to_server(server, format, file, &bar).await?,
            None => {
                let node = Node::start(settings, &drivers).await?;
                let report = import_into_store(&node, settings, format, file, &bar).await;
                node.stop().await;
                report?
            }
        };
        bar.finish_and_clear();
        print_report(&report)
    })
}

fn detect_format(file: &Path) -> anyhow::Result<ProductFileFormat> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("ndjson" | "jsonl") => Ok(ProductFileFormat::Ndjson),
        Some("csv") => Ok(ProductFileFormat::Csv),
        _ => bail!("unsupported file type: {}; use .ndjson, .jsonl or .csv", file.display()),
    }
}

/// Opens the file, with a progress bar if standard error is a terminal.
fn open_with_progress(path: &Path) -> anyhow::Result<(std::fs::File, ProgressBar)> {
    let file =
        std::fs::File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
    let length = file.metadata()?.len();
    let bar = if std::io::stderr().is_terminal() {
        ProgressBar::new(length)
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {eta}")?;
    bar.set_style(style);
    Ok((file, bar))
}

/// Streams the file in chunks and advances the progress bar.
fn read_chunks(
    file: std::fs::File,
    bar: &ProgressBar,
) -> impl Stream<Item = std::io::Result<Vec<u8>>> + Send + 'static {
    let state = (tokio::fs::File::from_std(file), bar.clone());
    stream::try_unfold(state, async |(mut file, bar)| {
        let mut chunk = vec![0; CHUNK_SIZE];
        let count = file.read(&mut chunk).await?;
        chunk.truncate(count);
        bar.inc(count as u64);
        Ok((count > 0).then_some((chunk, (file, bar))))
    })
}

async fn import_into_store(
    node: &Node,
    settings: &Settings,
    format: ProductFileFormat,
    file: std::fs::File,
    bar: &ProgressBar,
) -> anyhow::Result<ImportReport> {
    let lines = ProductFileReader::new(format, settings.shop.currency, settings.http.max_body);
    let mut importer = Importer::new(node.catalog.clone(), lines, settings.http.request_timeout);
    let mut chunks = std::pin::pin!(read_chunks(file, bar));
    while let Some(chunk) = chunks.next().await {
        importer.push_chunk(&chunk?).await?;
    }
    Ok(importer.finish().await?)
}

async fn upload_to_server(
    server: &str,
    format: ProductFileFormat,
    file: std::fs::File,
    bar: &ProgressBar,
) -> anyhow::Result<ImportReport> {
    let token = std::env::var("SOUK_TOKEN").context("set SOUK_TOKEN to an admin's access token")?;
    let content_type = match format {
        ProductFileFormat::Ndjson => "application/x-ndjson",
        ProductFileFormat::Csv => "text/csv",
    };
    let url = format!("{}/api/products/import", server.trim_end_matches('/'));
    let request =
        reqwest::Client::new().post(&url).bearer_auth(token).header("content-type", content_type);
    let body = reqwest::Body::wrap_stream(read_chunks(file, bar));
    let response =
        request.body(body).send().await.with_context(|| format!("failed to connect to {url}"))?;
    let status = response.status();
    let text = response.text().await?;
    if !status.is_success() {
        let problem: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let detail = problem
            .get("detail")
            .and_then(serde_json::Value::as_str)
            .unwrap_or("the response has no details");
        bail!("{server} responded with {status}: {detail}");
    }
    serde_json::from_str(&text)
        .with_context(|| format!("{server} did not return a Souk import report"))
}

fn print_report(report: &ImportReport) -> anyhow::Result<()> {
    for error in &report.errors {
        print_line(&format!("line {}: {}: {}", error.line, error.code, error.message))?;
    }
    print_line(&format!(
        "{} created, {} updated, {} failed",
        report.created, report.updated, report.failed
    ))?;
    if report.failed > 0 {
        let verb = if report.failed == 1 { "was" } else { "were" };
        bail!("{} {verb} refused; all other lines were imported", count(report.failed, "line"));
    }
    Ok(())
}
