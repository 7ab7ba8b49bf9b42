//! Computes the version of the search index. A program uses a saved index only if it would build
//! the same one.

use std::{
    error::Error,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::{Path, PathBuf},
};

/// The sources that define the terms of a product and the format of the index.
const SOURCES: [&str; 3] = ["src/domain/catalog/search", "src/cache/text_index", "Cargo.lock"];

/// Sets `SOUK_SEARCH_VERSION` to a hash of [`SOURCES`].
pub(crate) fn set_search_version() -> Result<(), Box<dyn Error>> {
    let mut hasher = DefaultHasher::new();
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
        for file in files_in(Path::new(source))? {
            fs::read(file)?.hash(&mut hasher);
        }
    }
    println!("cargo::rustc-env=SOUK_SEARCH_VERSION={:016x}", hasher.finish());
    Ok(())
}

/// The files in a folder and its folders, sorted; of a file, the file itself.
fn files_in(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        // A package of the source may leave out the versions of libraries.
        return Ok(if path.exists() { vec![path.to_owned()] } else { Vec::new() });
    }
    let entries = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path()));
    let mut entries: Vec<PathBuf> = entries.collect::<Result<_, _>>()?;
    entries.sort_unstable();
    let files = entries.iter().map(|entry| files_in(entry)).collect::<io::Result<Vec<_>>>()?;
    Ok(files.concat())
}
