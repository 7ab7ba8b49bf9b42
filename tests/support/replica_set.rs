//! Replica sets for tests: the one that the test script has started, and ones of a test's own.

use std::time::Duration;

use mongodb::{
    Client,
    bson::{Document, doc},
    options::ClientOptions,
};

/// Nothing takes as long, on any machine: what is not there by then will never be.
const NEVER: Duration = Duration::from_secs(60);

/// A client of one server, whatever it is.
pub(crate) async fn direct(host: &str) -> Client {
    let mut options =
        ClientOptions::parse(format!("mongodb://{host}/?directConnection=true")).await.unwrap();
    options.server_selection_timeout = Some(Duration::from_secs(2));
    Client::with_options(options).unwrap()
}

/// Makes a replica set of servers that were started as members of one, unless they are one already, and waits for its primary.
pub(crate) async fn initiate(name: &str, hosts: &[String]) {
    let first = direct(&hosts[0]).await.database("admin");
    let members: Vec<Document> =
        (0_i32..).zip(hosts).map(|(id, host)| doc! { "_id": id, "host": host }).collect();
    // A short election, so that tests do not wait for long ones.
    let config = doc! { "_id": name, "members": members, "settings": { "electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500 } };
    let made = async {
        loop {
            match first.run_command(doc! { "replSetInitiate": config.clone() }).await {
                Ok(_) => break,
                Err(error) if error.to_string().contains("already initialized") => break,
                // Not up yet.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        while primary(hosts).await.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(NEVER, made).await.expect("the replica set has no primary");
}

/// The place of the member that takes writes now.
pub(crate) async fn primary(hosts: &[String]) -> Option<usize> {
    for (place, host) in hosts.iter().enumerate() {
        let hello = direct(host).await.database("admin").run_command(doc! { "hello": 1 }).await;
        if hello.is_ok_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or(false)) {
            return Some(place);
        }
    }
    None
}
