//! The audit of a stopped shop, of damaged data, and of a running shop.

use rusqlite::{Connection, params};
use serde_json::{Value, json};

use crate::support::{Account, Cli, TestApp, unique_number};

/// Buys units of a product; returns the order's id.
async fn place_order(app: &TestApp, account: &Account, product: &str, units: u64) -> String {
    app.add_to_cart(account, product, units).await.ok();
    let order = app
        .post("/api/checkout", &json!({}))
        .token(account)
        .key(format!("buy-{}", unique_number()))
        .await
        .is(201)
        .json();
    order["id"].as_str().unwrap().to_owned()
}

async fn order_action(app: &TestApp, account: &Account, order: &str, action: &str) {
    app.post(&format!("/api/orders/{order}/{action}"), &json!({})).token(account).await.ok();
}

/// Runs `souk audit` with these arguments; returns its exit code and output lines.
fn run_audit(app: &TestApp, arguments: &[&str]) -> (i32, Vec<String>) {
    let run = Cli::run(app.command().arg("audit").args(arguments));
    (run.code, run.stdout.lines().map(ToOwned::to_owned).collect())
}

pub(crate) fn open_database(app: &TestApp) -> Connection {
    Connection::open(app.dir().join("data/souk.db")).unwrap()
}

/// Damages one row of one table in the store of a stopped shop.
fn damage(app: &TestApp, sql: &str, id: &str) {
    assert_eq!(open_database(app).execute(sql, [id]).unwrap(), 1, "{sql}");
}

#[tokio::test]
async fn audit_of_undamaged_data_is_clean() {
    let mut app = TestApp::start().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    let tea = app.new_product(&admin, &json!(4.5), 10).await;
    for (order, steps) in [
        ("pending", &[][..]),
        ("paid", &["pay"]),
        ("shipped", &["pay", "fulfil"]),
        ("cancelled", &["cancel"]),
    ] {
        let id = place_order(&app, &ada, &tea, 2).await;
        for step in steps {
            order_action(&app, &admin, &id, step).await;
        }
        assert!(!id.is_empty(), "{order}");
    }
    app.delete(&format!("/api/products/{tea}")).token(&admin).await.is(204);
    let open = Cli::run(app.command().arg("audit"));
    assert_eq!((open.code, &*open.stdout), (1, ""), "{open:?}");
    assert!(
        open.stderr.contains("another souk is using")
            && open.stderr.contains("audit and admin have --server"),
        "{open:?}"
    );
    app.stop().await;
    for arguments in [&[][..], &["--repair"]] {
        let line = "1 product, 4 orders, 7 movements: 0 findings, 0 corrected".to_owned();
        assert_eq!(run_audit(&app, arguments), (0, vec![line]));
    }
}

#[test]
fn audit_without_data_creates_none() {
    let app = TestApp::unstarted(&[]);
    let run = Cli::run(app.command().arg("audit"));
    assert_eq!((run.code, &*run.stdout), (1, ""), "{run:?}");
    assert!(run.stderr.contains("there is no shop in"), "{run:?}");
    assert!(!app.dir().join("data").exists());
    assert!(Cli::run(app.command().args(["audit", "--help"])).ok().contains("Exit code"));
}

/// A stopped shop with one order of two units for each of these products, which have ten units on
/// hand each.
async fn stopped_shop<const N: usize>() -> (TestApp, [String; N], [String; N]) {
    let mut app = TestApp::start().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    let (mut products, mut orders) =
        ([(); N].map(|()| String::new()), [(); N].map(|()| String::new()));
    for (product, order) in products.iter_mut().zip(&mut orders) {
        *product = app.new_product(&admin, &json!(4.5), 10).await;
        *order = place_order(&app, &ada, product, 2).await;
    }
    app.stop().await;
    (app, products, orders)
}

/// Asserts a product's stock, its newest movement, and that the movements add up to the stock.
async fn assert_corrected(
    app: &TestApp,
    admin: &Account,
    product: &str,
    levels: (u64, u64),
    deltas: (i64, i64),
) {
    let stock = app.stock(admin, product).await;
    assert_eq!(
        (&stock["on_hand"], &stock["reserved"]),
        (&json!(levels.0), &json!(levels.1)),
        "{stock}"
    );
    let movements =
        app.all_pages(admin, &format!("/api/products/{product}/stock/movements"), 100).await;
    let newest = &movements[0];
    assert_eq!(newest["reason"], "audit");
    assert_eq!(
        (&newest["kind"], &newest["on_hand_delta"], &newest["reserved_delta"]),
        (&json!("adjusted"), &json!(deltas.0), &json!(deltas.1))
    );
    let sum =
        |name: &str| movements.iter().map(|movement| movement[name].as_i64().unwrap()).sum::<i64>();
    assert_eq!(
        (json!(sum("on_hand_delta")), json!(sum("reserved_delta"))),
        (stock["on_hand"].clone(), stock["reserved"].clone())
    );
}

#[tokio::test]
async fn damage_is_reported_and_repaired() {
    let (mut app, [tea, cup, pot, jar], [.., of_pot, of_jar]) = stopped_shop().await;
    damage(&app, "UPDATE stock SET on_hand = 12 WHERE product_id = ?1", &tea);
    damage(&app, "UPDATE stock SET reserved = 5 WHERE product_id = ?1", &cup);
    // One order without a reservation, and one cancelled order that still holds its units.
    damage(&app, "UPDATE stock SET reserved = 0, last_movement = 1 WHERE product_id = ?1", &pot);
    damage(&app, "DELETE FROM movements WHERE product_id = ?1 AND sequence = 2", &pot);
    damage(&app, "UPDATE orders SET status = 'cancelled' WHERE id = ?1", &of_jar);
    let wanted = [
        format!("order {of_pot}, product {pot}: the order is pending_payment with 2 units, "),
        format!("order {of_jar}, product {jar}: the order is cancelled with 2 units, "),
        format!("product {tea}: on_hand is 12, but its movements add up to 10"),
        format!("product {cup}: reserved is 5, but its movements add up to 2"),
        format!("product {cup}: reserved is 5, but open orders need 2"),
        format!("product {pot}: reserved is 0, but open orders need 2"),
        format!("product {jar}: reserved is 2, but open orders need 0"),
        "4 products, 4 orders, 7 movements: 7 findings, 0 corrected".to_owned(),
    ];
    let (code, lines) = run_audit(&app, &[]);
    assert_eq!((code, lines.len()), (1, wanted.len()), "{lines:#?}");
    assert!(lines.iter().zip(&wanted).all(|(line, wanted)| line.starts_with(wanted)), "{lines:#?}");
    let (code, lines) = run_audit(&app, &["--repair"]);
    assert_eq!(code, 1, "findings cause exit code 1");
    let (summary, lines) = lines.split_last().unwrap();
    assert!(summary.ends_with(&format!(": {0} findings, {0} corrected", lines.len())), "{summary}");
    assert!(
        lines.len() >= 6 && lines.iter().all(|line| line.ends_with("; corrected")),
        "{lines:#?}"
    );
    let (code, lines) = run_audit(&app, &[]);
    assert_eq!((code, lines.len()), (0, 1), "{lines:#?}");
    app.restart().await;
    let admin = app.admin().await;
    for (product, on_hand, reserved, deltas) in
        [(&tea, 12, 2, (2, 0)), (&cup, 10, 2, (0, 0)), (&pot, 10, 2, (0, 0)), (&jar, 10, 0, (0, 0))]
    {
        assert_corrected(&app, &admin, product, (on_hand, reserved), deltas).await;
    }
    // Repaired orders continue as usual.
    order_action(&app, &admin, &of_pot, "pay").await;
    order_action(&app, &admin, &of_pot, "fulfil").await;
    assert_eq!(app.post("/api/admin/audit", &json!({})).token(&admin).await.ok()["clean"], true);
}

#[tokio::test]
async fn missing_rows_are_reported_until_restored() {
    let (app, [tea, cup], [of_tea, of_cup]) = stopped_shop().await;
    let movement = "product_id = ?1 AND sequence = 2";
    open_database(&app).execute_batch("CREATE TABLE backup AS SELECT * FROM movements").unwrap();
    damage(&app, &format!("DELETE FROM movements WHERE {movement}"), &tea);
    damage(&app, "DELETE FROM orders WHERE id = ?1", &of_cup);
    let gap = format!(
        "product {tea}: it has 1 movement, numbered 1, and its stock names \
         2 as the last; "
    );
    let (code, lines) = run_audit(&app, &[]);
    assert_eq!((code, lines.len()), (1, 6), "{lines:#?}");
    assert!(
        lines.iter().any(|line| line.starts_with(&gap) && line.contains("from a backup")),
        "{lines:#?}"
    );
    assert!(
        lines.iter().any(|line| line.starts_with(&format!("order {of_tea}, product {tea}: "))),
        "{lines:#?}"
    );
    let orphan = format!(
        "order {of_cup}: there is no such order, but movements of these products name it: {cup}; "
    );
    assert!(lines.iter().any(|line| line.starts_with(&orphan)), "{lines:#?}");
    assert_eq!(run_audit(&app, &["--repair"]).0, 1);
    let (code, lines) = run_audit(&app, &["--repair"]);
    assert_eq!(
        (code, lines.len()),
        (1, 3),
        "only findings that no movement can correct remain: {lines:#?}"
    );
    assert!(
        lines[..2].iter().all(|line| line.contains("; a repair does not correct this: restore")),
        "{lines:#?}"
    );
    let restored = format!("INSERT INTO movements SELECT * FROM backup WHERE {movement}");
    damage(&app, &restored, &tea);
    open_database(&app)
        .execute("UPDATE movements SET order_id = NULL WHERE order_id = ?1", params![of_cup])
        .unwrap();
    assert_eq!(run_audit(&app, &["--repair"]).0, 1, "the movement exists twice now");
    let (code, lines) = run_audit(&app, &[]);
    assert_eq!((code, lines.len()), (0, 1), "{lines:#?}");
}

#[tokio::test]
async fn failed_repair_does_not_block_other_repairs() {
    let (app, [tea, cup], [_, of_cup]) = stopped_shop().await;
    damage(&app, "UPDATE stock SET on_hand = 12 WHERE product_id = ?1", &tea);
    damage(&app, "UPDATE orders SET status = 'cancelled' WHERE id = ?1", &of_cup);
    // The number of the next movement is taken.
    damage(&app, "UPDATE stock SET last_movement = 1 WHERE product_id = ?1", &cup);
    let (code, lines) = run_audit(&app, &["--repair"]);
    let [order, of_tea, open_orders, numbers, summary] = &lines[..] else { panic!("{lines:#?}") };
    assert!(
        order.starts_with(&format!("order {of_cup}, "))
            && order.contains("; a repair does not correct this: "),
        "{order}"
    );
    assert!(
        of_tea.starts_with(&format!("product {tea}: ")) && of_tea.ends_with("; corrected"),
        "{of_tea}"
    );
    for line in [open_orders, numbers] {
        assert!(
            line.contains("set last_movement of its stock in the store to 2, then repair"),
            "{line}"
        );
    }
    assert_eq!(
        (code, &**summary),
        (1, "2 products, 2 orders, 4 movements: 4 findings, 1 corrected")
    );
    damage(&app, "UPDATE stock SET last_movement = 2 WHERE product_id = ?1", &cup);
    assert_eq!(run_audit(&app, &["--repair"]).0, 1);
    assert_eq!(run_audit(&app, &[]).0, 0);
}

#[tokio::test]
async fn missing_events_are_reported() {
    let (app, [_tea], _) = stopped_shop().await;
    damage(&app, "DELETE FROM outbox WHERE position = ?1", "2");
    let (code, lines) = run_audit(&app, &["--repair"]);
    assert_eq!((code, lines.len()), (1, 2), "{lines:#?}");
    assert!(
        lines[0].starts_with("events: position 1 is followed by 3 instead of 2; "),
        "{lines:#?}"
    );
}

#[tokio::test]
async fn deep_audit_finds_a_damaged_page_that_the_start_refuses() {
    use std::os::unix::fs::FileExt;
    let mut app = TestApp::start().await;
    app.admin().await;
    app.stop().await;
    assert_eq!(run_audit(&app, &["--deep"]).0, 0);
    let page: u64 = open_database(&app)
        .query_row(
            "SELECT (rootpage - 1) * 4096 FROM sqlite_schema WHERE name = 'carts'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(app.dir().join("data/souk.db"));
    file.unwrap().write_all_at(&[0x5a; 512], page).unwrap();
    let start = Cli::run(&mut app.command());
    let last = start.stderr.lines().last().unwrap_or_default();
    assert!(start.code == 1 && last.contains("souk.db is damaged"), "{start:?}");
    for arguments in [&["--deep"][..], &["--deep", "--repair"]] {
        let (code, lines) = run_audit(&app, arguments);
        assert_eq!(code, 1);
        assert!(lines.iter().any(|line| line.starts_with("database: ")), "{lines:#?}");
    }
}

#[tokio::test]
async fn running_shop_is_audited_over_http() {
    let (mut app, [tea, cup], _) = stopped_shop().await;
    damage(&app, "UPDATE stock SET on_hand = 9 WHERE product_id = ?1", &tea);
    damage(
        &app,
        "UPDATE movements SET reserved_delta = 3 WHERE product_id = ?1 AND sequence = 2",
        &cup,
    );
    app.restart().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    app.post("/api/admin/audit", &json!({})).await.problem(401, "unauthenticated");
    app.post("/api/admin/audit", &json!({})).token(&ada).await.problem(403, "forbidden");
    app.post("/api/admin/audit", &json!({"repairs": true}))
        .token(&admin)
        .await
        .problem(422, "validation_failed");
    app.post("/api/admin/audit", &json!({"repair": "yes"}))
        .token(&admin)
        .await
        .problem(422, "validation_failed");
    let run = |body: Value| app.post("/api/admin/audit", &body).token(&admin);
    for found in [
        app.call("POST", "/api/admin/audit").token(&admin).await.ok(),
        run(json!({"repair": false})).await.ok(),
    ] {
        let counts = ["clean", "products", "orders", "movements", "found", "repaired"]
            .map(|name| &found[name]);
        assert_eq!(
            counts,
            [&json!(false), &json!(2), &json!(2), &json!(4), &json!(3), &json!(0)],
            "{found}"
        );
        let of_tea = json!({
            "kind": "on_hand_mismatch", "product_id": tea, "repaired": false,
            "message": format!("product {tea}: on_hand is 9, but its movements add up to 10"),
        });
        assert!(found["findings"].as_array().unwrap().contains(&of_tea), "{found}");
    }
    let repaired = run(json!({"repair": true})).await.ok();
    assert_eq!(
        (&repaired["clean"], &repaired["found"]),
        (&json!(false), &repaired["repaired"]),
        "{repaired}"
    );
    let clean = run(json!({})).await.ok();
    assert_eq!((&clean["clean"], &clean["findings"]), (&json!(true), &json!([])), "{clean}");
    let stock = app.stock(&admin, &tea).await;
    assert_eq!(
        (&stock["on_hand"], &stock["available"]),
        (&json!(9), &json!(7)),
        "the counted stock stays"
    );
    place_order(&app, &ada, &cup, 8).await;
    assert_eq!(run(json!({})).await.ok()["clean"], true);
}
