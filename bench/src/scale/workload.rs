//! The requests of each load.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::json;
use souk::domain::account::Role;

use super::{cluster::Cluster, options::LoadKind};
use crate::{
    load_generator::{Connection, Request},
    shop_process::new_user_token,
};

/// The requests of one connection.
#[derive(Clone)]
pub enum Requests {
    /// Always the same one.
    Repeated(Request),
    /// Each one once, shared by the connections to one node.
    Queued(Arc<RequestQueue>),
}

pub struct RequestQueue {
    requests: Vec<Request>,
    next: AtomicUsize,
}

impl Requests {
    /// The next request; `None` when all have been sent.
    pub fn next(&self) -> Option<&Request> {
        match self {
            Self::Repeated(request) => Some(request),
            Self::Queued(queue) => queue.requests.get(queue.next.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

/// For each node, the requests of each of its connections, for a load that takes `time`. The users
/// are new ones. Carts for checkouts are filled for twice as long: since an add is faster than a
/// checkout, that is usually enough, also for a node that gets more than its share.
pub async fn prepare_requests(
    cluster: &Cluster,
    load: LoadKind,
    connections: usize,
    time: Duration,
) -> anyhow::Result<Vec<Vec<Requests>>> {
    let per_node = connections / cluster.nodes().len();
    let products = cluster.products().get(..load.product_count()).unwrap_or_default();
    let repeat = |request: fn(&str) -> anyhow::Result<Request>| {
        let product = products.first().map_or("", String::as_str);
        let one_node = || (0..per_node).map(|_| Ok(Requests::Repeated(request(product)?)));
        cluster.nodes().iter().map(|_| one_node().collect()).collect()
    };
    match load {
        LoadKind::Adds => repeat(|product| Ok(add(&new_user_token(Role::Customer)?, product))),
        LoadKind::Stock => {
            let body = json!({"delta": 1, "reason": "delivery"}).to_string();
            let path =
                format!("/api/products/{}/stock", products.first().map_or("", String::as_str));
            let first = cluster.nodes().first().context("the cluster has no nodes")?;
            let request = Request::post(&path, first.admin_token().await?, &body);
            let one_node = || vec![Requests::Repeated(request.clone()); per_node];
            Ok(cluster.nodes().iter().map(|_| one_node()).collect())
        }
        LoadKind::ManyProducts | LoadKind::OneProduct => {
            fill_carts(cluster, products, per_node, Instant::now() + 2 * time).await
        }
    }
}

fn add(token: &str, product: &str) -> Request {
    let body = json!({"product_id": product, "quantity": 1}).to_string();
    Request::post("/api/cart/add", token, &body)
}

/// Fills carts on all nodes until `deadline`, and gives a queue of their checkouts for each node.
async fn fill_carts(
    cluster: &Cluster,
    products: &[String],
    per_node: usize,
    deadline: Instant,
) -> anyhow::Result<Vec<Vec<Requests>>> {
    let (products, total) = (Arc::new(products.to_vec()), per_node * cluster.nodes().len());
    let mut tasks = Vec::new();
    for (node, shop) in cluster.nodes().iter().enumerate() {
        for place in 0..per_node {
            let (products, address) = (Arc::clone(&products), shop.address);
            let start = place * cluster.nodes().len() + node;
            tasks.push((
                node,
                tokio::spawn(async move {
                    let own = products.iter().cycle().skip(start).step_by(total);
                    fill_carts_on_one_connection(address, own, deadline).await
                }),
            ));
        }
    }
    let mut queues: Vec<Vec<Request>> = vec![Vec::new(); cluster.nodes().len()];
    for (node, task) in tasks {
        queues[node].extend(task.await??);
    }
    let queue = |requests| {
        let queue = RequestQueue { requests, next: AtomicUsize::new(0) };
        vec![Requests::Queued(Arc::new(queue)); per_node]
    };
    Ok(queues.into_iter().map(queue).collect())
}

async fn fill_carts_on_one_connection(
    address: SocketAddr,
    products: impl Iterator<Item = &String>,
    deadline: Instant,
) -> anyhow::Result<Vec<Request>> {
    let mut connection = Connection::open(address).await?;
    let mut checkouts = Vec::new();
    for product in products.take_while(|_| Instant::now() < deadline) {
        let token = new_user_token(Role::Customer)?;
        // A refused add costs time, but no measurement counts it.
        if connection.exchange(&add(&token, product)).await?.0 == 200 {
            checkouts.push(Request::checkout(&token));
        }
    }
    Ok(checkouts)
}
