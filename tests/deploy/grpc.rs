//! gRPC through the load balancer, called by grpcio: the scripts are in `tests/grpc`.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    balancer::{Balancer, NodePorts},
    ports::free_port,
    retries::balanced,
    routing::find_home,
    shop::Shop,
    support::{
        TestApp,
        grpc::{GRPC, GrpcClient},
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_grpc_stay_on_the_node_that_serves_them_over_http() {
    let Some(client) = GrpcClient::find("gRPC through the load balancer") else { return };
    let Some(mut shop) = Shop::start().await else { return };
    let admin = shop.nodes[0].admin().await;
    let tea = shop.nodes[0].new_product(&admin, &json!(4.5), 1_000_000).await;
    let mut users = shop.nodes[0].customers(4).await;
    for _ in 0..4 {
        users.push(shop.nodes[1].guest().await);
    }
    for node in &shop.nodes {
        // So that each has heard of the product.
        node.get(&format!("/api/products/{tea}")).header("cache-control", "no-cache").await.ok();
    }
    let mut homes = Vec::new();
    for user in &users {
        homes.push(find_home(&shop, user, &tea, 1..=2).await.to_string());
    }
    let tokens: Vec<_> = users.iter().map(|user| user.token.as_str()).collect();
    let (ops, tokens, homes) = (shop.ops.join(","), tokens.join(","), homes.join(","));
    let variables = [
        ("GRPC", shop.balancer.grpc.as_str()),
        ("GRPCS", shop.balancer.grpcs.as_str()),
        ("CERTIFICATE", shop.balancer.certificate.to_str().unwrap()),
        ("OPS", ops.as_str()),
        ("USERS", tokens.as_str()),
        ("HOMES", homes.as_str()),
        ("PRODUCT", tea.as_str()),
    ];
    client.run(&mut shop.nodes[0], "balanced.py", &variables).await;
    shop.shut_down().await;
}

/// The beginning of a frame of HTTP/2: its length and its type.
async fn read_frame(stream: &mut TcpStream) -> Option<u8> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    stream.read_exact(&mut vec![0; length as usize]).await.ok()?;
    Some(head[3])
}

/// Reads HTTP/2 until a call arrives.
async fn read_call(stream: &mut TcpStream) -> Option<()> {
    const PREFACE_BYTES: usize = 24;
    const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const HEADERS: u8 = 1;
    stream.read_exact(&mut [0; PREFACE_BYTES]).await.ok()?;
    stream.write_all(&EMPTY_SETTINGS).await.ok()?;
    while read_frame(stream).await? != HEADERS {}
    Some(())
}

/// A stand-in for a node that dies when a call arrives. Counts the calls.
async fn dying_node(port: u16) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let calls = Arc::clone(&counted);
            tokio::spawn(async move {
                if read_call(&mut stream).await.is_some() {
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    calls
}

/// Runs `unanswered.py` against the load balancer.
async fn fail_calls(client: &GrpcClient, app: &mut TestApp, balancer: &Balancer, reason: &str) {
    let variables = [
        ("GRPC", balancer.grpc.as_str()),
        ("GRPCS", balancer.grpcs.as_str()),
        ("CERTIFICATE", balancer.certificate.to_str().unwrap()),
        ("REASON", reason),
    ];
    client.run(app, "unanswered.py", &variables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_sent_again_when_a_node_dies() {
    let Some(client) = GrpcClient::find("gRPC through the load balancer") else { return };
    let grpc = free_port();
    let calls = dying_node(grpc).await;
    let ports = [(); 3].map(|()| NodePorts { grpc, ..NodePorts::choose() });
    let Some(balancer) = balanced(ports).await else { return };
    let mut app = TestApp::with_settings(&[GRPC]).await;
    fail_calls(&client, &mut app, &balancer, "outcome_unknown").await;
    assert_eq!(calls.load(Ordering::Relaxed), 4, "one for each call");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_find_no_node_are_certainly_not_applied() {
    let Some(client) = GrpcClient::find("gRPC through the load balancer") else { return };
    // Nothing listens on the ports for gRPC.
    let Some(balancer) = balanced([(); 3].map(|()| NodePorts::choose())).await else { return };
    let mut app = TestApp::with_settings(&[GRPC]).await;
    fail_calls(&client, &mut app, &balancer, "overloaded").await;
}

/// Starts a caller that goes on until the file `done` exists; it returns the number of its calls.
pub(crate) async fn call_until(
    client: &GrpcClient,
    shop: &Shop,
    product: &str,
    done: &Path,
) -> tokio::task::JoinHandle<String> {
    let admin = shop.nodes[0].admin().await;
    let mut command = client.command("restarts.py");
    command.env("GRPC", &shop.balancer.grpc).env("PRODUCT", product).env("DONE", done);
    command.env("SOUK", &shop.balancer.http).env("PID", "0");
    for name in ["ADMIN", "ADA", "GUEST"] {
        command.env(name, &admin.token);
    }
    tokio::spawn(crate::support::grpc::run(command))
}
