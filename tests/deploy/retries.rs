//! Which requests the load balancer sends again.

use std::{
    process::Command,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    balancer::{Balancer, NodePorts},
    ports::free_port,
    support::tokens::unsigned,
};

/// How a stand-in for a node treats requests.
#[derive(Clone, Copy)]
enum Behavior {
    /// Answers 200.
    Answers,
    /// Closes the connection once it has read a request, as a node that is killed does.
    Dies,
}

/// The methods of the requests that arrived.
type Arrived = Arc<Mutex<Vec<String>>>;

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// Listens on `port`.
async fn stand_in(port: u16, behavior: Behavior) -> Arrived {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let arrived = Arrived::default();
    let methods = Arc::clone(&arrived);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let methods = Arc::clone(&methods);
            tokio::spawn(async move {
                while let Some(head) = read_head(&mut stream).await {
                    methods.lock().unwrap().push(head.split(' ').next().unwrap().to_owned());
                    if let Behavior::Dies = behavior {
                        return;
                    }
                    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    arrived
}

/// A load balancer whose servers are one stand-in, or a closed port.
pub(crate) async fn balanced(ports: [NodePorts; 3]) -> Option<Balancer> {
    for ops in ports.map(|ports| ports.ops) {
        stand_in(ops, Behavior::Answers).await;
    }
    let balancer = Balancer::start(&ports).await?;
    balancer.wait_until(|servers| servers == [true; 3]).await;
    Some(balancer)
}

/// Sends a request without a body, of a user whose home is any of the nodes; returns its status and
/// the code of its problem.
async fn send(balancer: &Balancer, method: &str, user: Option<u32>) -> (u16, Value) {
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.request(method, &balancer.http);
    if let Some(user) = user {
        let claims = json!({"sub": user.to_string()});
        request = request.bearer_auth(unsigned("HS256", &claims) + "c2lnbmF0dXJl");
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
    (status, problem["code"].clone())
}

#[tokio::test]
async fn only_reads_are_sent_again_when_a_node_dies() {
    let http = free_port();
    let arrived = stand_in(http, Behavior::Dies).await;
    let ports = [(); 3].map(|()| NodePorts { http, ..NodePorts::choose() });
    let Some(balancer) = balanced(ports).await else { return };
    for (method, attempts) in [("GET", 4), ("POST", 1), ("PUT", 1), ("PATCH", 1), ("DELETE", 1)] {
        arrived.lock().unwrap().clear();
        assert_eq!(
            send(&balancer, method, Some(7)).await,
            (503, "outcome_unknown".into()),
            "{method}"
        );
        assert_eq!(*arrived.lock().unwrap(), vec![method; attempts]);
    }
}

/// Sends two requests of a method with curl, which repeats what a server seems not to have begun.
fn send_twice(balancer: &Balancer, protocol: &str, method: &str) -> String {
    let url = format!("{}/", balancer.https);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--insecure", protocol, "--request", method]);
    curl.args(["--write-out", "%{http_code} %{http_version}\n", "--noproxy", "*"]);
    curl.args(["--output", "/dev/null", &url, "--output", "/dev/null", &url]);
    let output = curl.output().expect("curl is not installed; scripts/test installs it");
    String::from_utf8(output.stdout).unwrap()
}

/// A load balancer that closes the connection, or refuses the stream, tells the client that nothing
/// has happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_not_told_to_send_a_change_again() {
    let http = free_port();
    let arrived = stand_in(http, Behavior::Dies).await;
    let ports = [(); 3].map(|()| NodePorts { http, ..NodePorts::choose() });
    let Some(balancer) = balanced(ports).await else { return };
    for (protocol, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        for (method, attempts) in [("POST", 2), ("PATCH", 2), ("DELETE", 2), ("GET", 8)] {
            arrived.lock().unwrap().clear();
            let written = tokio::task::block_in_place(|| send_twice(&balancer, protocol, method));
            assert_eq!(written, format!("503 {version}\n").repeat(2), "{method}");
            assert_eq!(*arrived.lock().unwrap(), vec![method; attempts]);
        }
    }
}

#[tokio::test]
async fn every_request_finds_a_node_when_one_refuses_connections() {
    let ports = [(); 3].map(|()| NodePorts::choose());
    let arrived = [
        stand_in(ports[0].http, Behavior::Answers).await,
        stand_in(ports[2].http, Behavior::Answers).await,
    ];
    // The node in between is gone, and the load balancer has not noticed.
    let Some(balancer) = balanced(ports).await else { return };
    for user in 0..10 {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            assert_eq!(send(&balancer, method, Some(user)).await.0, 200, "{method} of {user}");
            assert_eq!(send(&balancer, method, None).await.0, 200, "{method}");
        }
    }
    let counts = arrived.map(|methods| methods.lock().unwrap().len());
    assert_eq!(counts.iter().sum::<usize>(), 100, "none was sent twice: {counts:?}");
}
