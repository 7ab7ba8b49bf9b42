//! An account that is deleted on one node is gone on every other one, and from the database.

use std::future::IntoFuture;

use futures_util::{TryStreamExt, future::join_all};
use mongodb::bson::{Bson, Document, doc};
use serde_json::json;

use crate::{
    cluster::Cluster,
    shared_replica_set,
    support::{
        PASSWORD, assert_gap_free,
        person::{Person, assert_all_marked, assert_unmarked, read_every_route},
    },
};

async fn start_cluster() -> Option<Cluster> {
    let settings = [("http.request_timeout", "60s")];
    Some(Cluster::start_nodes(3, &shared_replica_set::uri().await?, &settings).await)
}

/// Every string and binary value in every document of every collection, a line each. Compressed
/// ones are decompressed.
async fn dump(cluster: &Cluster) -> Vec<u8> {
    let mut dump = Vec::new();
    for collection in cluster.database.list_collection_names().await.unwrap() {
        let collection = cluster.database.collection::<Document>(&collection);
        let documents = collection.find(doc! {});
        let documents: Vec<Document> = documents.await.unwrap().try_collect().await.unwrap();
        documents.into_iter().for_each(|document| add_to_dump(Bson::Document(document), &mut dump));
    }
    dump
}

fn add_to_dump(value: Bson, dump: &mut Vec<u8>) {
    match value {
        Bson::Document(document) => {
            document.into_iter().for_each(|(_, value)| add_to_dump(value, dump));
        }
        Bson::Array(values) => values.into_iter().for_each(|value| add_to_dump(value, dump)),
        Bson::String(text) => dump.extend(text.into_bytes()),
        Bson::Binary(binary) => match zstd::stream::decode_all(&*binary.bytes) {
            Ok(decompressed) => dump.extend(decompressed),
            Err(_) => dump.extend(binary.bytes),
        },
        _ => {}
    }
    dump.push(b'\n');
}

#[tokio::test]
async fn deleted_account_is_gone_on_every_node() {
    let Some(cluster) = start_cluster().await else { return };
    let [here, there, elsewhere] = &cluster.nodes[..] else { panic!("three nodes") };
    let admin = here.admin().await;
    let tea = here.new_product(&admin, &json!(4.5), 1000).await;
    let mut people = Vec::new();
    for _ in 0..3 {
        let person = Person::live(here, &admin, &tea).await;
        assert_all_marked("the database", &dump(&cluster).await);
        person.delete(there).await;
        // At once, and on all nodes.
        let calls = cluster
            .nodes
            .iter()
            .map(|node| node.get("/api/cart").token(&person.account).into_future());
        for response in join_all(calls).await {
            response.problem(401, "unauthenticated");
        }
        assert_unmarked("the database", &dump(&cluster).await);
        let login = json!({"email": person.account.email, "password": PASSWORD});
        elsewhere.post("/api/auth/login", &login).await.problem(401, "invalid_credentials");
        people.push(person);
    }
    for person in &people {
        for (path, body) in read_every_route(elsewhere, &[Some(&admin), None], &person.ids).await {
            assert_unmarked(&path, &body);
        }
        for body in person.repeat_staff_changes(elsewhere, &admin).await {
            assert_unmarked("a repeat of a change by staff", &body);
        }
    }
    let mut feed = elsewhere.open_whole_feed(Some(&admin)).await;
    let end = here.new_product(&admin, &json!(1), 0).await;
    let history = feed.read_until(|event| event.subject() == end).await;
    assert_gap_free(&history);
    for event in &history {
        assert_unmarked(&event.kind, event.body.to_string().as_bytes());
    }
    drop(feed);
    for node in &cluster.nodes {
        assert_unmarked("a log", node.log().as_bytes());
    }
    let audit = here.call("POST", "/api/admin/audit").token(&admin).await.ok();
    assert_eq!(audit["clean"], true, "{audit}");
    cluster.shut_down().await;
}

#[tokio::test]
async fn requests_that_run_beside_a_deletion_leave_nothing() {
    let Some(cluster) = start_cluster().await else { return };
    let [here, there, _] = &cluster.nodes[..] else { panic!("three nodes") };
    let admin = here.admin().await;
    let tea = here.new_product(&admin, &json!(4.5), 10_000).await;
    for round in 0..12 {
        let person = Person::live(here, &admin, &tea).await;
        let address = crate::support::person::address();
        let (account, checkout) = (&person.account, json!({"shipping_address": address}));
        // None of these knows of the deletion when it begins.
        let others = (0..24).map(async |number: u32| {
            let node = &cluster.nodes[number as usize % 3];
            let call = match number % 4 {
                0 => node.add_to_cart(account, &tea, 1),
                1 => node
                    .post("/api/checkout", &checkout)
                    .token(account)
                    .key(format!("{round}-{number}")),
                2 => node.post("/api/auth/me/addresses", &address).token(account),
                _ => {
                    let name = json!({"name": "Hesperia Quillfeather"});
                    node.patch("/api/auth/me", &name).token(account)
                }
            };
            call.await.status
        });
        let deletion = async {
            let body = json!({"current_password": PASSWORD});
            there.delete("/api/auth/me").json(&body).token(account).await.is(204)
        };
        let (statuses, _) = tokio::join!(join_all(others), deletion);
        assert!(statuses.iter().all(|status| *status < 500), "{statuses:?}");
        assert_unmarked("the database", &dump(&cluster).await);
        let all = here.get("/api/orders?all=true&limit=100").token(&admin).await.ok();
        let open =
            all["items"].as_array().unwrap().iter().filter(|order| {
                order["user_id"] == account.id && order["status"] == "pending_payment"
            });
        assert_eq!(open.count(), 0, "round {round}");
    }
    let audit = here.call("POST", "/api/admin/audit").token(&admin).await.ok();
    assert_eq!(audit["clean"], true, "{audit}");
    cluster.shut_down().await;
}
