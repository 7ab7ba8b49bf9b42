//! Sends a product file to a running shop, in parts.
//!
//! Each part is an import of its own, so that progress is what the shop has acknowledged, and a
//! part whose answer is lost is sent again. If it has lines without a sku, it has an idempotency
//! key; other lines are harmless to repeat, and the shop need not remember them.

use std::{collections::HashSet, time::Duration};

use anyhow::anyhow;
use backon::{ExponentialBuilder, Retryable};
use reqwest::{StatusCode, Url, header};
use uuid::Uuid;

use super::{
    super::{
        login::TokenSource,
        print_error,
        server::{ServerUrl, build_client, describe_failure, describe_refusal},
    },
    ImportTarget,
};
use crate::{
    error::ErrorCode,
    http::{ImportPosition, ImportReport, LineError, RecentSkus, is_store_failure},
    input::product_file::{
        ProductFileFormat, ProductFileLine, ProductFileOptions, ProductFileReader,
        count_line_breaks, without_line_break,
    },
    messages::catalog::ImportRow,
};

/// The most lines of a part: as many as a report lists errors.
const MAX_PART_LINES: usize = 1000;

/// A part is sent once it has this many bytes. A line of up to as many can be sent, whatever the
/// settings here say: the shop refuses what is too long for it.
pub(super) const PART_BYTES: usize = 1024 * 1024;

/// The time in which the shop must answer a part.
const PART_TIMEOUT: Duration = Duration::from_secs(120);

/// How often a part is sent again, over about a minute.
const MAX_RETRIES: usize = 8;

/// Sends lines to a shop.
pub(super) struct Uploader {
    client: reqwest::Client,
    server: ServerUrl,
    url: Url,
    token: TokenSource,
    content_type: &'static str,
    reader: ProductFileReader,
    import_id: Uuid,
    part: Part,
    has_started: bool,
    report: ImportReport,
    recent_skus: RecentSkus,
    position: ImportPosition,
}

/// Lines that are sent together.
#[derive(Default)]
struct Part {
    body: Vec<u8>,
    /// The number of each line in the body and in the file.
    lines: Vec<(u64, u64)>,
    /// The number of the next line in the body.
    next_line: u64,
    has_line_without_sku: bool,
    /// The SKUs of lines, with their numbers in the body.
    skus: Vec<(u64, String)>,
    /// Lines that are too long to be sent.
    failed: Vec<LineError>,
    end: ImportPosition,
}

/// Why a part was not imported.
enum UploadError {
    /// The shop cannot be reached.
    Unreachable(String),
    /// The same request may succeed later. This one may have been applied.
    Temporary(String),
    /// It will not.
    Permanent(String),
}

impl Uploader {
    /// Prepares to send the file that `options` describe to the shop at `server`.
    ///
    /// # Errors
    /// There is no token.
    pub(super) fn new(
        server: &ServerUrl,
        options: ProductFileOptions,
        dry_run: bool,
        import_id: Uuid,
    ) -> anyhow::Result<Self> {
        let token = TokenSource::find(server)?;
        let mut url = Url::parse(&server.join("/api/products/import"))?;
        for (name, value) in [("dry_run", dry_run), ("ignore_unknown", options.ignore_unknown)] {
            if value {
                url.query_pairs_mut().append_pair(name, "true");
            }
        }
        Ok(Self {
            client: build_client(server, PART_TIMEOUT)?,
            server: server.clone(),
            url,
            token,
            content_type: match options.format {
                ProductFileFormat::Ndjson => "application/x-ndjson",
                ProductFileFormat::Csv => "text/csv",
            },
            reader: ProductFileReader::new(options),
            import_id,
            part: Part::default(),
            has_started: false,
            report: ImportReport::default(),
            recent_skus: RecentSkus::default(),
            position: ImportPosition::default(),
        })
    }

    async fn push_lines(&mut self, lines: Vec<ProductFileLine>) -> anyhow::Result<()> {
        for line in lines {
            self.part.push(&line, self.reader.preamble());
            let lines = self.part.lines.len() + self.part.failed.len();
            if lines >= MAX_PART_LINES || self.part.body.len() >= PART_BYTES {
                self.send_part().await?;
            }
        }
        Ok(())
    }

    async fn send_part(&mut self) -> anyhow::Result<()> {
        let report = match (self.part.lines.is_empty(), self.part.failed.is_empty()) {
            (true, true) => return Ok(()),
            (true, false) => ImportReport::default(),
            (false, _) => self.send_with_retries().await?,
        };
        let mut part = std::mem::take(&mut self.part);
        let failed: HashSet<u64> = report.errors.iter().map(|error| error.line).collect();
        for (_, sku) in part.skus.drain(..).filter(|(line, _)| !failed.contains(line)) {
            self.recent_skus.push(sku);
        }
        let in_file = |error: LineError| LineError { line: part.line_in_file(error.line), ..error };
        let mut errors: Vec<LineError> = report.errors.into_iter().map(in_file).collect();
        self.report.created += report.created;
        self.report.updated += report.updated;
        self.report.failed += report.failed + part.failed.len() as u64;
        errors.extend(part.failed);
        errors.sort_by_key(|error| error.line);
        self.report.errors.extend(errors);
        self.position = part.end;
        Ok(())
    }

    async fn send_with_retries(&mut self) -> anyhow::Result<ImportReport> {
        // Before the first part, a wrong address is more likely than a lost connection.
        let is_first = !self.has_started;
        let retries = if is_first { 0 } else { MAX_RETRIES };
        self.has_started = true;
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(500))
            .with_max_delay(Duration::from_secs(15))
            .with_max_times(retries);
        let report = (|| self.try_send_part())
            .retry(backoff)
            .when(|error| !matches!(error, UploadError::Permanent(_)))
            .notify(|error, delay| {
                let seconds = delay.as_secs_f64();
                print_error(&format!("{}; retrying in {seconds:.1} s", error.text()));
            })
            .await;
        report.map_err(|error| {
            self.has_started = !is_first || matches!(error, UploadError::Temporary(_));
            anyhow!("{}", error.text())
        })
    }

    async fn try_send_part(&self) -> Result<ImportReport, UploadError> {
        let token = self.token.token().await;
        let token = token.map_err(|error| UploadError::Permanent(format!("{error:#}")))?;
        let mut request = self
            .client
            .post(self.url.clone())
            .bearer_auth(token)
            .header(header::CONTENT_TYPE, self.content_type)
            .body(self.part.body.clone());
        if self.part.has_line_without_sku {
            request = request.header("idempotency-key", self.part.key(self.import_id));
        }
        let lost = |error: reqwest::Error| {
            let reason = describe_failure(&self.server, &error);
            if error.is_connect() {
                UploadError::Unreachable(reason)
            } else {
                UploadError::Temporary(reason)
            }
        };
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        let text = response.text().await.map_err(lost)?;
        if !status.is_success() {
            return Err(self.refusal(status, &text));
        }
        let report: ImportReport = serde_json::from_str(&text).map_err(|_| {
            UploadError::Permanent(format!("{} did not return a Souk import report", self.server))
        })?;
        let is_unavailable = |error: &&LineError| {
            let mut codes = ErrorCode::ALL.iter().filter(|code| code.as_str() == error.code);
            codes.any(|code| is_store_failure(*code))
        };
        match report.errors.iter().find(is_unavailable) {
            Some(error) => {
                let line = self.part.line_in_file(error.line);
                Err(UploadError::Temporary(format!(
                    "line {line}: {}: {}",
                    error.code, error.message
                )))
            }
            None => Ok(report),
        }
    }

    fn refusal(&self, status: StatusCode, body: &str) -> UploadError {
        let reason = describe_refusal(&self.server, status, body);
        let is_temporary = matches!(status.as_u16(), 408 | 429 | 502 | 503 | 504);
        if is_temporary { UploadError::Temporary(reason) } else { UploadError::Permanent(reason) }
    }
}

impl UploadError {
    fn text(&self) -> &str {
        match self {
            Self::Unreachable(text) | Self::Temporary(text) | Self::Permanent(text) => text,
        }
    }
}

impl Part {
    /// Adds a line. The body of a CSV part begins with the file's header.
    fn push(&mut self, line: &ProductFileLine, preamble: &[u8]) {
        if self.body.is_empty() {
            self.next_line = 1;
            if !preamble.is_empty() {
                self.add(preamble, count_line_breaks(preamble));
            }
        }
        self.end = ImportPosition { line: line.number, bytes: line.end };
        // The bytes of a line that is too long are not kept.
        if let Err(error) = &line.row
            && error.code == ErrorCode::PayloadTooLarge
        {
            self.failed.push(LineError::new(line.number, error));
            return;
        }
        self.lines.push((self.next_line, line.number));
        let sku = line.row.as_ref().ok().and_then(ImportRow::sku);
        self.skus.extend(sku.map(|sku| (self.next_line, sku.to_owned())));
        self.has_line_without_sku |= sku.is_none();
        let text = without_line_break(&line.bytes);
        // CR alone ends a line of CSV only.
        let breaks = if preamble.is_empty() { 0 } else { count_line_breaks(text) };
        self.add(text, breaks);
    }

    /// Adds a text with some line breaks in it.
    fn add(&mut self, text: &[u8], breaks: u64) {
        self.body.extend_from_slice(text);
        self.body.push(b'\n');
        self.next_line += breaks + 1;
    }

    /// The number in the file of a line of the body.
    fn line_in_file(&self, line: u64) -> u64 {
        let at_or_before = self.lines.partition_point(|(in_body, _)| *in_body <= line);
        let found = at_or_before.checked_sub(1).and_then(|index| self.lines.get(index));
        found.map_or(line, |(_, in_file)| *in_file)
    }

    /// The idempotency key: the same for the same lines of one import.
    fn key(&self, import_id: Uuid) -> String {
        let first = self.lines.first().map_or(0, |(_, in_file)| *in_file);
        format!("import-{import_id}-{first}-{}", self.end.line)
    }
}

impl ImportTarget for Uploader {
    async fn push_chunk(&mut self, chunk: &[u8]) -> anyhow::Result<()> {
        let lines = self.reader.push_chunk(chunk)?;
        self.push_lines(lines).await
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        let lines = self.reader.finish()?;
        self.push_lines(lines).await?;
        self.send_part().await
    }

    async fn settle(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn report(&self) -> &ImportReport {
        &self.report
    }

    fn take_errors(&mut self) -> Vec<LineError> {
        std::mem::take(&mut self.report.errors)
    }

    fn recent_skus(&self) -> &RecentSkus {
        &self.recent_skus
    }

    fn position(&self) -> ImportPosition {
        self.position
    }

    fn has_started(&self) -> bool {
        self.has_started
    }
}
