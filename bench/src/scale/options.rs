//! The command line of `souk-bench scale`.

use std::{fmt, time::Duration};

use clap::{Parser, ValueEnum};

/// Products of [`LoadKind::ManyProducts`].
const PRODUCTS: usize = 1000;

/// Measures 1, 2, 4 and 8 nodes on the replica set in SOUK_TEST_MONGO_URI.
#[derive(Parser)]
#[command(name = "souk-bench scale")]
pub struct ScaleOptions {
    /// Node counts, in the order of each round. Others are compared with the first one.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 8])]
    pub nodes: Vec<usize>,
    /// Numbers of connections to all nodes together; multiples of each node count.
    #[arg(long, value_delimiter = ',', default_values_t = [8, 256])]
    pub connections: Vec<usize>,
    /// Loads to run.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = LoadKind::ALL)]
    pub loads: Vec<LoadKind>,
    /// How often each node count has its turn.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 4.0)]
    pub seconds: f64,
    /// Seconds of load before each measurement.
    #[arg(long, default_value_t = 1.0)]
    pub warm_up: f64,
    /// Milliseconds that a proxy between nodes and mongod adds each way; 0: no proxy.
    #[arg(long, default_value_t = 0)]
    pub delay_ms: u64,
    /// Nodes take turns at contended stock, rather than forward its changes to one of them.
    #[arg(long)]
    pub turns: bool,
}

/// A kind of request that all connections send.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LoadKind {
    /// Each connection adds to the cart of its own user.
    Adds,
    /// All connections change the stock of one product.
    Stock,
    /// Each checkout is by a new user, of one of 1,000 products.
    #[value(name = "checkouts-1000")]
    ManyProducts,
    /// Each checkout is by a new user, of the same product.
    #[value(name = "checkouts-1")]
    OneProduct,
}

impl LoadKind {
    const ALL: [Self; 4] = [Self::Adds, Self::Stock, Self::ManyProducts, Self::OneProduct];

    /// The number of products that the load needs.
    pub fn product_count(self) -> usize {
        if self == Self::ManyProducts { PRODUCTS } else { 1 }
    }
}

impl fmt::Display for LoadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Adds => "adds",
            Self::Stock => "stock",
            Self::ManyProducts => "checkouts-1000",
            Self::OneProduct => "checkouts-1",
        })
    }
}

impl ScaleOptions {
    /// Refuses options that cannot be measured evenly.
    pub fn check(&self) -> anyhow::Result<()> {
        for nodes in &self.nodes {
            for connections in &self.connections {
                anyhow::ensure!(
                    *nodes > 0 && *connections > 0 && connections.is_multiple_of(*nodes),
                    "{connections} connections cannot be spread evenly over {nodes} nodes"
                );
            }
        }
        let time = |seconds: f64| Duration::try_from_secs_f64(seconds).is_ok();
        anyhow::ensure!(
            time(self.seconds) && time(self.warm_up) && self.seconds > 0.0 && self.rounds > 0,
            "--rounds and --seconds must be above 0, and --warm-up not below"
        );
        Ok(())
    }

    pub fn window(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    pub fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up)
    }

    pub fn delay(&self) -> Option<Duration> {
        (self.delay_ms > 0).then(|| Duration::from_millis(self.delay_ms))
    }

    /// The number of products that the chosen loads need.
    pub fn product_count(&self) -> usize {
        self.loads.iter().map(|load| load.product_count()).max().unwrap_or(1)
    }
}
