//! MongoDB replica sets.

use std::time::Duration;

use mongodb::{
    Client,
    bson::{Document, doc},
    options::ClientOptions,
};

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A client of a single server, whatever its role.
pub(crate) async fn direct(host: &str) -> Client {
    let mut options =
        ClientOptions::parse(format!("mongodb://{host}/?directConnection=true")).await.unwrap();
    options.server_selection_timeout = Some(Duration::from_secs(2));
    Client::with_options(options).unwrap()
}

/// Initiates a replica set unless it is already initiated, and waits for its primary.
pub(crate) async fn initiate(name: &str, hosts: &[String]) {
    let first = direct(&hosts[0]).await.database("admin");
    let members: Vec<Document> =
        (0_i32..).zip(hosts).map(|(id, host)| doc! { "_id": id, "host": host }).collect();
    // A short election timeout keeps the tests fast.
    let config = doc! {
        "_id": name, "members": members,
        "settings": { "electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500 },
    };
    let made = async {
        loop {
            match first.run_command(doc! { "replSetInitiate": config.clone() }).await {
                Ok(_) => break,
                Err(error) if error.to_string().contains("already initialized") => break,
                // The server is not up yet.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        while primary(hosts).await.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, made).await.expect("the replica set has no primary");
}

/// The index of the member that accepts writes.
pub(crate) async fn primary(hosts: &[String]) -> Option<usize> {
    for (index, host) in hosts.iter().enumerate() {
        let hello = direct(host).await.database("admin").run_command(doc! { "hello": 1 }).await;
        if hello.is_ok_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or(false)) {
            return Some(index);
        }
    }
    None
}
