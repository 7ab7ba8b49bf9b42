//! Unusable MongoDB servers and logins: one clear error line without secrets.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    process::Stdio,
};

use mongodb::bson::{DateTime, Document, Uuid, doc};

use crate::{
    cluster::SECRET,
    members::Members,
    replica_set,
    support::{ADMIN_EMAIL, ADMIN_PASSWORD, Cli, TestApp, temp_dir},
};

/// A shop on this database that is not started yet.
fn unstarted_shop(uri: &str) -> TestApp {
    TestApp::unstarted(&[
        ("store.kind", "mongodb"),
        ("store.uri", uri),
        ("store.database", "souk"),
        ("auth.jwt_secret", SECRET),
    ])
}

/// Starts a shop that must fail; returns its error line.
#[track_caller]
fn start_error(uri: &str) -> String {
    let run = Cli::run(&mut unstarted_shop(uri).command());
    let lines: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with("souk: ")).collect();
    assert_eq!((run.code, lines.len(), &*run.stdout), (1, 1, ""), "{run:?}");
    assert!(!run.stderr.contains("hunter2"), "{run:?}");
    lines[0].to_owned()
}

/// A one-member replica set with authentication, and an operator with the password `hunter2`.
async fn start_with_auth(key: &str) -> Option<Members> {
    let mut members = Members::start_servers(1, &["--replSet", "souk", "--keyFile", key])?;
    let hosts = members.hosts().to_vec();
    members.initiate(&hosts).await;
    // Without users, MongoDB lets a local client create the first one.
    let admin = replica_set::direct(&hosts[0]).await.database("admin");
    admin
        .run_command(doc! { "createUser": "operator", "pwd": "hunter2", "roles": ["root"] })
        .await
        .unwrap();
    Some(members)
}

async fn create_user(members: &Members, name: &str, roles: Vec<Document>) -> String {
    let host = &members.hosts()[0];
    let operator = format!("mongodb://operator:hunter2@{host}/?replicaSet=souk");
    let admin = mongodb::Client::with_uri_str(operator).await.unwrap().database("admin");
    admin.run_command(doc! { "createUser": name, "pwd": "hunter2", "roles": roles }).await.unwrap();
    format!("mongodb://{name}:hunter2@{host}/?replicaSet=souk&authSource=admin")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standalone_server_is_rejected() {
    let Some(members) = Members::start_servers(1, &[]) else { return };
    let host = &members.hosts()[0];
    for uri in [format!("mongodb://{host}/"), format!("mongodb://{host}/?replicaSet=souk")] {
        let line = start_error(&uri);
        assert!(
            line.contains("standalone") && line.contains("--replSet") && line.contains(host),
            "{line}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_replica_set_name_is_rejected() {
    let Some(members) = Members::start(1).await else { return };
    let host = &members.hosts()[0];
    let line = start_error(&format!("mongodb://{host}/?replicaSet=bazaar"));
    assert!(line.contains("set it to souk") && line.contains(host), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn login_requires_exactly_the_documented_roles() {
    let keys = temp_dir();
    let key = keys.path().join("key");
    std::fs::write(&key, "a key that members of a replica set share").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let Some(members) = start_with_auth(key.to_str().unwrap()).await else { return };
    let host = &members.hosts()[0];
    for (uri, word) in [
        (format!("mongodb://{host}/?replicaSet=souk"), "readWrite and dbAdmin"),
        (format!("mongodb://nobody:hunter2@{host}/?replicaSet=souk"), "Authentication failed"),
        (
            create_user(&members, "reader", vec![doc! { "role": "read", "db": "souk" }]).await,
            "readWrite and dbAdmin",
        ),
        (
            create_user(&members, "writer", vec![doc! { "role": "readWrite", "db": "other" }])
                .await,
            "readWrite and dbAdmin",
        ),
    ] {
        let line = start_error(&uri);
        assert!(line.contains(word) && line.contains(host), "{uri}: {line}");
    }
    let roles = ["readWrite", "dbAdmin"].map(|role| doc! { "role": role, "db": "souk" });
    let mut shop = unstarted_shop(&create_user(&members, "souk", roles.to_vec()).await);
    for key in ["auth.admin_email", "auth.admin_password"] {
        shop.set(key, "");
    }
    shop.restart().await;
    let printed = shop.stop().await.join("\n");
    assert!(
        printed.contains("There is no admin yet") && printed.contains(" admin admin@localhost"),
        "{printed}"
    );
    Cli::run_with_input(
        shop.command().args(["admin", ADMIN_EMAIL, "--password-stdin"]),
        ADMIN_PASSWORD,
    )
    .ok();
    shop.restart().await;
    let admin_account = shop.admin().await;
    let tea = shop.new_product(&admin_account, &serde_json::json!(4.5), 3).await;
    assert_eq!(shop.get(&format!("/api/products/{tea}")).await.ok()["stock"], 3);
    assert!(!shop.log().contains("hunter2"), "{}", shop.log());
    let printed = shop.stop().await.join("\n");
    assert!(!printed.contains("There is no admin yet"), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_waits_for_the_replica_set() {
    let Some(mut members) = Members::start_uninitiated(1) else { return };
    let hosts = members.hosts().to_vec();
    let mut app = unstarted_shop(&Members::uri(&hosts));
    // The log says that the process waits.
    let mut waiting = app.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(waiting.stderr.take().unwrap()).lines();
    let words = ["waiting for MongoDB", "if the replica set is new, run rs.initiate() once"];
    let says = |line: &str| words.iter().all(|word| line.contains(word));
    let logged = log.any(|line| says(&line.unwrap()));
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    assert!(logged, "the process exits without waiting and without a hint");

    let bind =
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    app.set("http.bind", &bind);
    let client = reqwest::Client::new();
    let get = async |path: &str| client.get(format!("http://{bind}{path}")).send().await;
    let waits = async {
        let ready = loop {
            if let Ok(response) = get("/readyz").await {
                break response;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        };
        assert_eq!(ready.status(), 503);
        assert!(ready.text().await.unwrap().contains(r#""status":"not_ready""#));
        assert_eq!(get("/livez").await.unwrap().status(), 200);
        assert_eq!(get("/api/products").await.unwrap().status(), 503);
        members.initiate(&hosts).await;
    };
    tokio::join!(app.restart(), waits);
    app.get("/readyz").await.ok();
    app.get("/api/products").await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_waits_for_nodes_of_an_older_version() {
    let Some(members) = Members::start(1).await else { return };
    let mut app = unstarted_shop(&Members::uri(members.hosts()));
    let database = replica_set::direct(&members.hosts()[0]).await.database("souk");
    let shop = doc! { "_id": "shop", "currency": "USD", "schema": 3_i64 };
    database.collection::<Document>("meta").insert_one(shop).await.unwrap();
    let nodes = database.collection::<Document>("nodes");
    let later = DateTime::from_millis(DateTime::now().timestamp_millis() + 600_000);
    nodes.insert_one(doc! { "_id": Uuid::new(), "at": later }).await.unwrap();
    let mut waiting = app.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(waiting.stderr.take().unwrap()).lines();
    let logged = log.any(|line| {
        line.unwrap().contains("another node still runs an older souk; stop all of them to upgrade")
    });
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    assert!(logged, "the process exits without waiting");
    nodes.delete_many(doc! {}).await.unwrap();
    app.restart().await;
    let admin = app.admin().await;
    app.new_product(&admin, &serde_json::json!(4.5), 3).await;
    app.stop().await;
}
