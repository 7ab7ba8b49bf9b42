//! A cluster of `souk` processes on a new database.

use std::time::Duration;

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use mongodb::{Client, Database, bson::doc};
use souk::domain::{account::Role, ids::EventId};
use tokio::time::{sleep, timeout};

use super::options::ScaleOptions;
use crate::{
    load_generator::{Connection, Request},
    shop_process::{ShopProcess, new_user_token},
};

/// Products that are created at the same time.
const PARALLEL_CREATIONS: usize = 32;
/// The longest wait until every node knows every product.
const TIMEOUT: Duration = Duration::from_secs(30);

pub struct Cluster {
    nodes: Vec<ShopProcess>,
    database: Database,
    products: Vec<String>,
}

/// Totals since the start of mongod and of the nodes.
#[derive(Clone, Copy)]
pub struct Usage {
    pub aborted_transactions: f64,
    pub committed_transactions: f64,
    /// Microseconds of processor time.
    pub mongod_time: f64,
    /// Microseconds of processor time of all nodes together.
    pub nodes_time: f64,
}

impl Cluster {
    pub async fn start(
        client: &Client,
        uri: &str,
        count: usize,
        options: &ScaleOptions,
    ) -> anyhow::Result<Self> {
        let name = format!("souk_bench_{}", EventId::new().as_uuid().simple());
        let settings = [
            ("STORE__KIND", "mongodb"),
            ("STORE__URI", uri),
            ("STORE__DATABASE", name.as_str()),
            // So that no cart line reaches its limit.
            ("CART__MAX_QUANTITY", "9999"),
            ("CLUSTER__BIND", if options.turns { "" } else { "127.0.0.1:0" }),
        ];
        let nodes = (0..count)
            .map(|_| ShopProcess::start_with(&settings))
            .collect::<Result<Vec<_>, _>>()?;
        let first = nodes.first().context("a cluster needs a node")?;
        let products = stream::iter(0..options.product_count())
            .map(|number| first.create_numbered_product(number))
            .buffer_unordered(PARALLEL_CREATIONS)
            .try_collect()
            .await?;
        let cluster = Self { nodes, database: client.database(&name), products };
        timeout(TIMEOUT, cluster.wait_for_products()).await.context("products are missing")??;
        Ok(cluster)
    }

    /// Waits until every node knows every product.
    async fn wait_for_products(&self) -> anyhow::Result<()> {
        let token = new_user_token(Role::Customer)?;
        for node in &self.nodes {
            let mut connection = Connection::open(node.address).await?;
            for product in &self.products {
                let request = Request::get(&format!("/api/products/{product}"), &token);
                while connection.exchange(&request).await?.0 != 200 {
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
        Ok(())
    }

    pub fn nodes(&self) -> &[ShopProcess] {
        &self.nodes
    }

    pub fn products(&self) -> &[String] {
        &self.products
    }

    pub async fn usage(&self) -> anyhow::Result<Usage> {
        let status = self.database.run_command(doc! { "serverStatus": 1 }).await?;
        let number = |section: &str, name: &str| -> anyhow::Result<f64> {
            let value = status.get_document(section)?.get(name);
            let whole = |value: &mongodb::bson::Bson| {
                value.as_i64().or_else(|| value.as_i32().map(i64::from))
            };
            let value = value.and_then(whole);
            Ok(value.with_context(|| format!("serverStatus lacks {section}.{name}"))? as f64)
        };
        let mut nodes_time = Duration::ZERO;
        for node in &self.nodes {
            nodes_time += node.processor_time()?;
        }
        Ok(Usage {
            aborted_transactions: number("transactions", "totalAborted")?,
            committed_transactions: number("transactions", "totalCommitted")?,
            mongod_time: number("extra_info", "user_time_us")?
                + number("extra_info", "system_time_us")?,
            nodes_time: nodes_time.as_secs_f64() * 1e6,
        })
    }

    /// Ends the nodes and drops their database.
    pub async fn stop(self) -> anyhow::Result<()> {
        drop(self.nodes);
        Ok(self.database.drop().await?)
    }
}
