//! The replica set that the test script starts, shared by all tests that do not harm it.

use std::sync::OnceLock;

use mongodb::options::ClientOptions;
use tokio::sync::OnceCell;

use super::replica_set::initiate;

/// The connection string, after initiating the replica set if necessary. Without one it prints a
/// notice and returns `None`; it panics when `SOUK_TEST_ALL` requires every test to run.
pub(crate) async fn uri() -> Option<String> {
    static WARNED: OnceLock<()> = OnceLock::new();
    let Ok(uri) = std::env::var("SOUK_TEST_MONGO_URI") else {
        assert!(
            std::env::var_os("SOUK_TEST_ALL").is_none(),
            "SOUK_TEST_MONGO_URI is not set; scripts/test sets it"
        );
        WARNED.get_or_init(|| {
            eprintln!("SOUK_TEST_MONGO_URI is not set: skipping the MongoDB cases")
        });
        return None;
    };
    static INITIATED: OnceCell<()> = OnceCell::const_new();
    let options = ClientOptions::parse(&uri).await.unwrap();
    let hosts: Vec<String> = options.hosts.iter().map(ToString::to_string).collect();
    let name = options.repl_set_name.expect("SOUK_TEST_MONGO_URI has no replicaSet");
    INITIATED.get_or_init(|| initiate(&name, &hosts)).await;
    Some(uri)
}
