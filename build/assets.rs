//! Compresses large files that are part of the program.

use std::{fs, io, io::Write as _, path::Path};

use flate2::{Compression, write::GzEncoder};

const FILES: [&str; 4] = [
    "assets/swagger-ui/swagger-ui.css",
    "assets/swagger-ui/swagger-ui-bundle.js",
    "assets/api/openapi.json",
    "assets/api/asyncapi.json",
];

/// Writes a file with `.gz` after its name to `out_dir` for each.
pub(crate) fn compress(out_dir: &Path) -> io::Result<()> {
    for path in FILES {
        println!("cargo::rerun-if-changed={path}");
        let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&fs::read(path)?)?;
        fs::write(out_dir.join(format!("{name}.gz")), encoder.finish()?)?;
    }
    Ok(())
}
