//! Imports that are interrupted and repeated with their key.

use crate::imports::{in_chunks, post_import, product_total, report_counts, start_shop};

/// Lines without a SKU, so that a repeated line creates a second product.
fn ndjson_lines(count: usize) -> String {
    (0..count).map(|n| format!("{{\"name\":\"Product {n}\",\"price\":1,\"stock\":1}}\n")).collect()
}

#[tokio::test]
async fn interrupted_import_resumes_where_it_stopped() {
    let (app, admin) = start_shop().await;
    let text = ndjson_lines(1000);
    let head = format!(
        "POST /api/products/import HTTP/1.1\r\nhost: souk\r\nauthorization: Bearer {}\r\n\
         idempotency-key: spring\r\ncontent-type: application/x-ndjson\r\n\
         content-length: {}\r\n\r\n",
        admin.token,
        text.len()
    );
    let mut feed = app.open_feed(None, None).await;
    let mut connection = app.connect().await;
    connection.send(head + &text[..text.len() / 2]).await;
    feed.next().await;
    drop(connection);
    let report =
        post_import(&app, &admin, "application/x-ndjson", text.clone()).key("spring").await.is(200);
    assert_eq!(report_counts(&report.json()), [1000, 0, 0], "the report covers the whole import");
    assert_eq!(product_total(&app).await, 1000);
    let again = post_import(&app, &admin, "application/x-ndjson", in_chunks(&text, &[333]))
        .key("spring")
        .await;
    assert!(again.is_replayed());
    assert_eq!(again.text(), report.text());
    assert_eq!(product_total(&app).await, 1000);
}

#[tokio::test]
async fn import_can_be_repeated_with_its_key_after_a_crash() {
    let (mut app, admin) = start_shop().await;
    let text = ndjson_lines(3000);
    for round in 1..=3 {
        let mut feed = app.open_feed(None, None).await;
        let call = post_import(&app, &admin, "application/x-ndjson", text.clone())
            .key(format!("round {round}").replace(' ', "-"));
        let kill = async {
            feed.next().await;
            app.signal("KILL");
        };
        let (attempt, ()) = tokio::join!(call.attempt(), kill);
        drop(attempt);
        app.reap().await;
        app.restart().await;
        let report = post_import(&app, &admin, "application/x-ndjson", text.clone())
            .key(format!("round-{round}"))
            .await
            .ok();
        assert_eq!(report_counts(&report), [3000, 0, 0]);
        assert_eq!(product_total(&app).await, 3000 * round);
    }
}
