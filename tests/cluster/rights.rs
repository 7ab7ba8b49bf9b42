//! Rights that change on one node hold on every other one as soon as the change is answered.

use std::future::IntoFuture;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    shared_replica_set,
    support::{ADMIN_EMAIL, ADMIN_PASSWORD, Account, PASSWORD, TestApp},
};

async fn start_cluster(nodes: usize) -> Option<Cluster> {
    let settings = [("http.request_timeout", "60s")];
    Some(Cluster::start_nodes(nodes, &shared_replica_set::uri().await?, &settings).await)
}

fn patch(node: &TestApp, admin: &Account, user: &Account, change: &Value) -> crate::support::Call {
    node.patch(&format!("/api/users/{}", user.id), change).token(admin)
}

/// The statuses with which all nodes answer a request of `user`, at once.
async fn statuses(cluster: &Cluster, path: &str, user: &Account) -> Vec<u16> {
    let calls = cluster.nodes.iter().map(|node| node.get(path).token(user).into_future());
    join_all(calls).await.into_iter().map(|response| response.status).collect()
}

#[tokio::test]
async fn next_request_on_any_node_has_the_new_rights() {
    let Some(cluster) = start_cluster(3).await else { return };
    let admin = cluster.nodes[0].admin().await;
    let tea = cluster.nodes[0].new_product(&admin, &json!(4.5), 3).await;
    let stock = format!("/api/products/{tea}/stock");
    for round in 0..9 {
        let node = &cluster.nodes[round % 3];
        let ada = node.customer().await;
        let staff = json!({"role": "staff", "scopes": ["stock:read"]});
        patch(node, &admin, &ada, &staff).await.ok();
        assert_eq!(statuses(&cluster, &stock, &ada).await, [200; 3], "round {round}");
        let node = &cluster.nodes[(round + 1) % 3];
        patch(node, &admin, &ada, &json!({"scopes": []})).await.ok();
        assert_eq!(statuses(&cluster, &stock, &ada).await, [403; 3], "round {round}");
        let node = &cluster.nodes[(round + 2) % 3];
        patch(node, &admin, &ada, &json!({"blocked": true})).await.ok();
        assert_eq!(statuses(&cluster, "/api/cart", &ada).await, [401; 3], "round {round}");
        for node in &cluster.nodes {
            node.get("/api/cart").token(&ada).await.problem(401, "account_blocked");
            let refresh = json!({"refresh_token": ada.refresh_token});
            node.post("/api/auth/refresh", &refresh).await.problem(401, "account_blocked");
            let login = json!({"email": ada.email, "password": PASSWORD});
            node.post("/api/auth/login", &login).await.problem(403, "account_blocked");
        }
        patch(node, &admin, &ada, &json!({"blocked": false})).await.ok();
        assert_eq!(statuses(&cluster, "/api/cart", &ada).await, [401; 3], "round {round}");
        let ada = cluster.any_node().login(&ada.email, PASSWORD).await;
        assert_eq!(statuses(&cluster, "/api/cart", &ada).await, [200; 3], "round {round}");
    }
    cluster.shut_down().await;
}

#[tokio::test]
async fn next_request_on_any_node_knows_a_new_key_and_refuses_a_deleted_one() {
    let Some(cluster) = start_cluster(3).await else { return };
    let admin = cluster.nodes[0].admin().await;
    let tea = cluster.nodes[0].new_product(&admin, &json!(4.5), 3).await;
    let stock = format!("/api/products/{tea}/stock");
    for round in 0..9 {
        let node = &cluster.nodes[round % 3];
        let body = json!({"name": "robot", "scopes": ["stock"]});
        let created = node.post("/api/api-keys", &body).token(&admin).await.is(201).json();
        let text = |name: &str| created[name].as_str().unwrap().to_owned();
        let robot = Account {
            id: text("id"),
            email: String::new(),
            token: text("key"),
            refresh_token: String::new(),
        };
        assert_eq!(statuses(&cluster, &stock, &robot).await, [200; 3], "round {round}");
        assert_eq!(statuses(&cluster, "/api/users", &robot).await, [403; 3], "round {round}");
        // What a key does on one node is an action on every other.
        let change = json!({"delta": 1, "reason": "delivery"});
        let node = &cluster.nodes[(round + 1) % 3];
        node.post(&stock, &change).token(&robot).await.ok();
        let node = &cluster.nodes[(round + 2) % 3];
        let path = format!("/api/admin/actions?actor={}", robot.id);
        let actions = node.get(&path).token(&admin).await.ok()["items"].clone();
        assert_eq!(actions.as_array().unwrap().len(), 1, "{actions}");
        assert_eq!(actions[0]["action"], "change_stock");
        let key = format!("/api/api-keys/{}", robot.id);
        node.delete(&key).token(&admin).await.is(204);
        assert_eq!(statuses(&cluster, &stock, &robot).await, [401; 3], "round {round}");
    }
    cluster.shut_down().await;
}

#[tokio::test]
async fn node_that_starts_later_knows_all_rights() {
    let Some(mut cluster) = start_cluster(2).await else { return };
    let admin = cluster.nodes[0].admin().await;
    let (ada, bob) = (cluster.nodes[0].customer().await, cluster.nodes[0].customer().await);
    cluster.nodes[1].stop().await;
    let staff = json!({"role": "staff", "scopes": ["customers:read"]});
    patch(&cluster.nodes[0], &admin, &ada, &staff).await.ok();
    patch(&cluster.nodes[0], &admin, &bob, &json!({"blocked": true})).await.ok();
    let body = json!({"name": "robot", "scopes": ["customers:read"]});
    let node = &cluster.nodes[0];
    let created = node.post("/api/api-keys", &body).token(&admin).await.is(201).json();
    cluster.nodes[1].restart().await;
    let key = Account { token: created["key"].as_str().unwrap().to_owned(), ..bob.clone() };
    assert_eq!(statuses(&cluster, "/api/users", &key).await, [200; 2]);
    assert_eq!(statuses(&cluster, "/api/users", &ada).await, [200; 2]);
    assert_eq!(statuses(&cluster, "/api/cart", &bob).await, [401; 2]);
    cluster.shut_down().await;
}

#[tokio::test]
async fn last_admin_remains_when_two_are_changed_on_two_nodes() {
    let Some(cluster) = start_cluster(2).await else { return };
    let (here, there) = cluster.both_nodes();
    let first = here.admin().await;
    let second = here.customer().await;
    for round in 0..20 {
        let first = here.login(ADMIN_EMAIL, ADMIN_PASSWORD).await;
        patch(here, &first, &second, &json!({"role": "admin"})).await.ok();
        let second = there.login(&second.email, PASSWORD).await;
        // Each removes the other one.
        let customer = json!({"role": "customer"});
        let changes = [
            patch(here, &first, &second, &customer).into_future(),
            patch(there, &second, &first, &customer).into_future(),
        ];
        let statuses: Vec<u16> =
            join_all(changes).await.into_iter().map(|response| response.status).collect();
        let winner = usize::from(statuses[0] != 200);
        assert_eq!(statuses[winner], 200, "round {round}: {statuses:?}");
        // The loser may have lost its own rights before its request was decided.
        assert!([403, 409].contains(&statuses[1 - winner]), "round {round}: {statuses:?}");
        let admins = [&first, &second];
        let (left, gone) = (admins[winner], admins[1 - winner]);
        let found = there.get("/api/users?role=admin").token(left).await.ok();
        assert_eq!(found["items"].as_array().unwrap().len(), 1);
        assert_eq!(found["items"][0]["id"], left.id);
        patch(here, left, gone, &json!({"role": "admin"})).await.ok();
        if gone.id == first.id {
            patch(here, &first, &second, &json!({"role": "customer"})).await.ok();
        }
    }
    here.get("/api/users").token(&first).await.ok();
    cluster.shut_down().await;
}
