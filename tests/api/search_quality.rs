//! What shoppers type, and what they must find first in the example catalog.

use serde_json::Value;

use crate::support::TestApp;

const CATALOG: &str = include_str!("../../examples/products.ndjson");
const QUERIES: &str = include_str!("search_queries.csv");

/// A row of `search_queries.csv`: without a first product, nothing must be found.
struct Query {
    kind: String,
    text: String,
    first: Vec<String>,
}

fn queries() -> Vec<Query> {
    let mut reader = csv::Reader::from_reader(QUERIES.as_bytes());
    let query = |row: csv::StringRecord| Query {
        kind: row[0].to_owned(),
        text: row[1].to_owned(),
        first: row[2].split('|').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
    };
    reader.records().map(|row| query(row.unwrap())).collect()
}

async fn start_with_examples() -> TestApp {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let report = app.import_products(&admin, CATALOG.to_owned()).await;
    assert_eq!(report["failed"], 0, "{report}");
    app
}

async fn search(app: &TestApp, text: &str) -> Value {
    let mut url = reqwest::Url::parse("http://localhost/api/products").unwrap();
    url.query_pairs_mut().append_pair("q", text);
    app.get(&format!("{}?{}", url.path(), url.query().unwrap())).await.ok()
}

async fn failures(app: &TestApp) -> Vec<String> {
    let mut failures = Vec::new();
    for Query { kind, text, first } in queries() {
        let page = search(app, &text).await;
        let names: Vec<&str> = page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["name"].as_str().unwrap())
            .collect();
        let is_right = match names.first() {
            Some(name) => first.iter().any(|wanted| wanted == name),
            None => first.is_empty(),
        };
        if !is_right {
            let shown = names.iter().take(4).collect::<Vec<_>>();
            failures.push(format!("{kind}: {text:?} found {shown:?} instead of {first:?}"));
        }
    }
    failures
}

#[tokio::test]
async fn shoppers_find_what_they_type() {
    let (found, nothing): (Vec<Query>, Vec<Query>) =
        queries().into_iter().partition(|query| !query.first.is_empty());
    assert!(found.len() >= 80 && nothing.len() >= 20, "{} {}", found.len(), nothing.len());
    let mut app = start_with_examples().await;
    let failures_now = failures(&app).await;
    assert!(failures_now.is_empty(), "{failures_now:#?}");
    app.stop().await;
    let saved = app.dir().join("data/search.index");
    let index = std::fs::read(&saved).unwrap();
    // The file is as it was saved, damaged, or missing, and written again each time.
    for file in [Some(index.clone()), Some(index[..index.len() / 2].to_vec()), None] {
        match file {
            Some(file) => std::fs::write(&saved, file).unwrap(),
            None => std::fs::remove_file(&saved).unwrap(),
        }
        app.restart().await;
        let failures_then = failures(&app).await;
        assert!(failures_then.is_empty(), "{failures_then:#?}");
        app.stop().await;
        assert!(saved.exists());
    }
}
