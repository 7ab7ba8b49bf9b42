//! The replica set that the test script has started, for all tests that do no harm to it.

use std::sync::OnceLock;

use mongodb::options::ClientOptions;
use tokio::sync::OnceCell;

use super::replica_set::initiate;

/// Its connection string. It is made a replica set if it is none yet. `None`, and a line that says so, when there is none to test
/// with; where every test has to run, that is a failure.
pub(crate) async fn uri() -> Option<String> {
    static SAID: OnceLock<()> = OnceLock::new();
    let Ok(uri) = std::env::var("SOUK_TEST_MONGO_URI") else {
        assert!(
            std::env::var_os("SOUK_TEST_ALL").is_none(),
            "SOUK_TEST_MONGO_URI is not set; scripts/test sets it"
        );
        SAID.get_or_init(|| {
            eprintln!("SOUK_TEST_MONGO_URI is not set: the MongoDB cases are left out")
        });
        return None;
    };
    static MADE: OnceCell<()> = OnceCell::const_new();
    let options = ClientOptions::parse(&uri).await.unwrap();
    let hosts: Vec<String> = options.hosts.iter().map(ToString::to_string).collect();
    let name = options.repl_set_name.expect("SOUK_TEST_MONGO_URI has no replicaSet");
    MADE.get_or_init(|| initiate(&name, &hosts)).await;
    Some(uri)
}
