//! Whether an interrupted import can go on where it stopped.

use std::{
    fs::File,
    io::{Read, Seek},
};

use serde_json::json;

use super::{CHUNK_SIZE, ImportTarget};
use crate::input::product_file::{ProductFileOptions, ProductFileReader};

/// The lines before the checkpoint whose products are looked up. Some of them may have failed, and
/// some products may be deleted by now.
const LINES: u64 = 1000;

/// The SKUs of the last lines through `line`. Leaves the file at its start.
pub(super) fn read_last_skus(
    file: &mut File,
    options: ProductFileOptions,
    line: u64,
) -> anyhow::Result<Vec<String>> {
    let skip_through_line = line.saturating_sub(LINES);
    let mut reader = ProductFileReader::new(ProductFileOptions { skip_through_line, ..options });
    let (mut chunk, mut skus) = (vec![0; CHUNK_SIZE], Vec::new());
    loop {
        let count = file.read(&mut chunk)?;
        let read = chunk.get(..count).unwrap_or_default();
        let lines = if read.is_empty() { reader.finish()? } else { reader.push_chunk(read)? };
        let is_beyond = lines.last().is_some_and(|last| last.number > line);
        for read in lines.into_iter().take_while(|read| read.number <= line) {
            skus.extend(read.row.ok().and_then(|row| row.sku().map(str::to_owned)));
        }
        if read.is_empty() || is_beyond {
            break;
        }
    }
    file.rewind()?;
    Ok(skus)
}

/// Whether there is a product with one of the SKUs. `probe` takes NDJSON, for a dry run.
pub(super) async fn has_any_product(
    mut probe: impl ImportTarget,
    skus: &[String],
) -> anyhow::Result<bool> {
    for sku in skus {
        // With no more than its SKU, a line updates its product or fails.
        let line = format!("{}\n", json!({"sku": sku}));
        probe.push_chunk(line.as_bytes()).await?;
    }
    probe.finish().await?;
    Ok(probe.report().updated > 0)
}
