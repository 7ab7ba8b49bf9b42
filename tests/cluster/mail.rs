//! Mails of a cluster: each is sent by one node at a time, and outlives the node that recorded it.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use mongodb::bson::{Document, doc};
use serde_json::json;

use crate::{
    cluster::Cluster,
    shared_replica_set,
    support::{TestApp, mail::MailServer},
};

/// Mails in each test.
const MAILS: usize = 24;

/// Three nodes. An attempt to send a mail may take as long as `timeout`.
async fn start_cluster(server: &MailServer, timeout: &str) -> Option<Cluster> {
    let mail = server.settings();
    let mail: Vec<(&str, &str)> = mail.iter().map(|(key, value)| (*key, &**value)).collect();
    let others = [("http.request_timeout", "60s"), ("mail.timeout", timeout)];
    let uri = shared_replica_set::uri().await?;
    Some(Cluster::start_nodes(3, &uri, &[&mail, &others[..]].concat()).await)
}

/// Registers customers on all nodes in turn; returns their addresses.
async fn register(cluster: &Cluster) -> Vec<String> {
    let nodes = cluster.nodes.iter().cycle().take(MAILS);
    join_all(nodes.map(TestApp::customer)).await.into_iter().map(|ada| ada.email).collect()
}

async fn waiting_mails(cluster: &Cluster) -> u64 {
    cluster.database.collection::<Document>("mails").count_documents(doc! {}).await.unwrap()
}

#[tokio::test]
async fn each_mail_is_sent_once_whichever_node_recorded_it() {
    let Some(mut server) = MailServer::start("mails of a cluster").await else { return };
    // Too long for a busy machine to lose the answer of the server.
    let Some(cluster) = start_cluster(&server, "60s").await else { return };
    let customers = register(&cluster).await;
    for email in &customers {
        server.mail("verification", email).await.token("verify-email");
    }
    // A link works on every node, and so does what it leads to.
    let (here, there) = cluster.both_nodes();
    let body = json!({"email": customers[0]});
    here.post("/api/auth/password/forgot", &body).await.is(202);
    let token = server.mail("password_reset", &customers[0]).await.token("reset-password");
    let body = json!({"token": token, "new_password": "another password"});
    there.post("/api/auth/password/reset", &body).await.is(204);
    here.post("/api/auth/password/reset", &body).await.problem(401, "token_invalid");
    here.login(&customers[0], "another password").await;
    let twice: Vec<_> = server.other_mails();
    assert_eq!(twice.len(), 0, "{twice:?}");
    cluster.shut_down().await;
}

#[tokio::test]
async fn mails_outlive_the_node_that_was_about_to_send_them() {
    let Some(mut server) = MailServer::start("mails of a lost node").await else { return };
    let Some(mut cluster) = start_cluster(&server, "2s").await else { return };
    // Each node is in the middle of attempts when one of them dies.
    server.set_rule("stall", "*").await;
    let customers = register(&cluster).await;
    server.wait_for_stall(&customers[0]).await;
    assert_eq!(waiting_mails(&cluster).await, MAILS as u64);
    cluster.nodes[2].kill_9().await;
    cluster.nodes.pop();
    server.set_rule("accept", "*").await;
    let mut tokens = BTreeMap::new();
    for email in &customers {
        tokens.insert(email, server.mail("verification", email).await.token("verify-email"));
    }
    for token in tokens.values() {
        let node = cluster.any_node();
        node.post("/api/auth/email/verify", &json!({"token": token})).await.is(204);
    }
    cluster.shut_down().await;
}
