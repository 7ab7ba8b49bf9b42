//! The shipped alert rules and the dashboard, against a Prometheus that scrapes two nodes.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    support::{
        Account, TestApp,
        grpc::{GRPC, GrpcClient},
        temp_dir, unique_email,
    },
    traces::traced_cluster,
};

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

fn deployed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

/// Whether Debian's package is installed. It panics when `SOUK_TEST_ALL` requires every test to
/// run.
fn has_prometheus() -> bool {
    let found = Command::new("promtool").arg("--version").output().is_ok();
    if !found {
        assert!(
            std::env::var_os("SOUK_TEST_ALL").is_none(),
            "promtool is not installed; scripts/test installs it"
        );
        eprintln!("promtool is not installed: skipping a test that needs Prometheus");
    }
    found
}

fn promtool(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn alert_rules_are_valid_and_fire() {
    if !has_prometheus() {
        return;
    }
    for (command, file) in [("check", "alerts.yml"), ("test", "alerts_test.yml")] {
        let path = deployed("prometheus").join(file);
        let output = promtool(&[command, "rules", path.to_str().unwrap()], "");
        assert!(output.status.success(), "{command}: {output:?}");
    }
}

/// A Prometheus that is killed on drop.
struct Prometheus {
    url: String,
    process: Child,
    _dir: TempDir,
}

impl Prometheus {
    /// Scrapes the nodes every second, and evaluates the shipped rules.
    async fn start(nodes: &[TestApp]) -> Self {
        let dir = temp_dir();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let targets: Vec<_> = nodes.iter().map(TestApp::address).collect();
        // JSON is YAML.
        let config = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [deployed("prometheus/alerts.yml")],
            "scrape_configs": [{"job_name": "souk", "static_configs": [{"targets": targets}]}],
        });
        let file = dir.path().join("prometheus.yml");
        std::fs::write(&file, config.to_string()).unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap();
        Self { url: format!("http://127.0.0.1:{port}"), process, _dir: dir }
    }

    /// The answer of the API, once Prometheus answers.
    async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let url = format!("{}/api/v1/{path}", self.url);
        let url = url::Url::parse_with_params(&url, parameters).unwrap();
        let answer = async {
            loop {
                if let Ok(response) = reqwest::get(url.clone()).await
                    && response.status() != 503
                {
                    return response.json::<Value>().await.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(TIMEOUT, answer).await.expect("Prometheus does not answer")
    }

    /// Whether a query has a result that is a number.
    async fn has_data(&self, query: &str) -> bool {
        let answer = self.get("query", &[("query", query)]).await;
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        let is_number = |sample: &Value| sample["value"][1] != "NaN";
        answer["data"]["result"].as_array().unwrap().iter().any(is_number)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The queries of the dashboard, with its variables filled in.
fn dashboard_queries() -> Vec<String> {
    let text = std::fs::read_to_string(deployed("grafana/dashboards/souk.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let fill_in = |target: &Value| {
        let query = target["expr"].as_str().unwrap();
        query.replace("$__rate_interval", "1m").replace("$instance", ".*")
    };
    targets.map(fill_in).collect()
}

/// What the alerts compare, as Prometheus has read the rules.
async fn alert_queries(prometheus: &Prometheus) -> Vec<String> {
    let answer = prometheus.get("rules", &[]).await;
    let rules = answer["data"]["groups"][0]["rules"].as_array().unwrap();
    let compared = |rule: &Value| {
        let query = rule["query"].as_str().unwrap();
        let parts = query.rsplit_once(" > ").or_else(|| query.rsplit_once(" < "));
        let (compared, limit) = parts.unwrap_or_else(|| panic!("{query} has no threshold"));
        limit.parse::<f64>().unwrap_or_else(|_| panic!("{query} has no threshold"));
        compared.to_owned()
    };
    rules.iter().map(compared).collect()
}

/// Uses everything that is measured.
async fn use_everything(node: &TestApp, admin: &Account, tea: &str) {
    let email = unique_email();
    let account = json!({"email": email, "password": "a long password", "name": "Ada"});
    let ada =
        Account::from_session(&node.post("/api/auth/register", &account).await.is(201).json());
    node.login(&email, "a long password").await;
    node.get("/api/cart").token(&ada).await.ok();
    node.add_to_cart(&ada, tea, 1).await.ok();
    node.get("/api/cart").token(&ada).await.ok();
    node.check_out(&ada, &email).await.is(201);
    let change = json!({"delta": -1_000_000, "reason": "too much"});
    node.change_stock(admin, tea, &change).await.problem(409, "insufficient_stock");
    node.get("/api/orders").token(&ada).await.ok();
    node.get("/nowhere").await.problem(404, "not_found");
}

#[tokio::test]
async fn every_shipped_query_returns_data() {
    if !has_prometheus() {
        return;
    }
    let Some(grpc) = GrpcClient::find("the queries about gRPC") else { return };
    let Some((mut cluster, _collector, _)) = traced_cluster(&[GRPC]).await else { return };
    let admin = cluster.nodes[0].admin().await;
    let tea = cluster.nodes[0].new_product(&admin, &json!(4.5), 100_000).await;
    let prometheus = Prometheus::start(&cluster.nodes).await;
    let mut queries = dashboard_queries();
    queries.extend(alert_queries(&prometheus).await);
    assert!(queries.len() > 60, "{queries:#?}");
    assert!(queries.iter().filter(|query| query.contains("souk_grpc_")).count() >= 6);
    let all_have_data = async {
        while !queries.is_empty() {
            for node in &mut cluster.nodes {
                node.get(&format!("/api/products/{tea}")).header("cache-control", "no-cache").await;
                use_everything(node, &admin, &tea).await;
                grpc.run(node, "measured.py", &[]).await;
            }
            let mut empty = Vec::new();
            for query in std::mem::take(&mut queries) {
                if !prometheus.has_data(&query).await {
                    empty.push(query);
                }
            }
            queries = empty;
        }
    };
    let timed_out = tokio::time::timeout(TIMEOUT, all_have_data).await.is_err();
    assert!(!timed_out, "no data: {queries:#?}");
    let rules = prometheus.get("rules", &[]).await;
    for rule in rules["data"]["groups"][0]["rules"].as_array().unwrap() {
        assert_eq!((&rule["health"], &rule["lastError"]), (&json!("ok"), &Value::Null), "{rule}");
    }
    let targets = prometheus.get("targets", &[]).await;
    for target in targets["data"]["activeTargets"].as_array().unwrap() {
        assert_eq!((&target["health"], &target["lastError"]), (&json!("up"), &json!("")));
    }
    for node in &cluster.nodes {
        let metrics = node.get("/metrics").await.is(200).text();
        let output = promtool(&["check", "metrics"], &metrics);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}\n{metrics}");
    }
    cluster.shut_down().await;
}
