//! Files that only their owner can read.

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
};

/// Options to write a file, which is created when missing with access for its owner only.
pub(crate) fn private_file_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Creates a file with access for its owner only, or empties the one that is there.
///
/// # Errors
/// The file cannot be opened.
pub(crate) fn create_private_file(path: &Path) -> io::Result<File> {
    private_file_options().truncate(true).open(path)
}
