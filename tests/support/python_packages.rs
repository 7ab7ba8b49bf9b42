//! The Python packages that `scripts/test` installs.

use std::{env, io::Write, path::PathBuf};

/// The folder of packages that `variable` names. `None` if it is not set, which fails with
/// `SOUK_TEST_ALL`.
pub(crate) fn python_packages(what: &str, variable: &str) -> Option<PathBuf> {
    let found = env::var_os(variable).map(PathBuf::from);
    if found.is_none() {
        let missing = format!("{variable} is not set; scripts/test installs the packages");
        assert!(env::var_os("SOUK_TEST_ALL").is_none(), "{what}: {missing}");
        // Not `eprintln!`, of which nothing is seen when the test passes.
        let line = format!("LEFT OUT: {what}: {missing}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    found
}
