//! Product files as other systems write them.

use serde_json::{Value, json};

use crate::{
    imports::{in_chunks, post_import, product_total, report_counts, start_shop},
    support::{Account, Call, Cli, TestApp},
};

fn post_import_with(
    app: &TestApp,
    admin: &Account,
    parameters: &str,
    content_type: &str,
    text: &str,
) -> Call {
    app.call("POST", &format!("/api/products/import?{parameters}"))
        .token(admin)
        .header("content-type", content_type)
        .body(text.to_owned())
}

async fn import_csv(app: &TestApp, admin: &Account, text: &str) -> Value {
    post_import(app, admin, "text/csv", text.to_owned()).await.ok()
}

/// All products, sorted by name.
async fn products(app: &TestApp) -> Vec<Value> {
    let page = app.get("/api/products?sort=name&limit=100").await.ok();
    page["items"].as_array().unwrap().clone()
}

async fn only_product(app: &TestApp) -> Value {
    let mut all = products(app).await;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[tokio::test]
async fn skus_of_other_systems_are_accepted() {
    let (app, admin) = start_shop().await;
    let long = "品".repeat(100);
    let skus = ["12 Oaktree", "Ä-12", "品番12", "a\"b,c;d|e", &long];
    let rows: Vec<String> = skus
        .iter()
        .enumerate()
        .map(|(index, sku)| format!("\"{}\",P{index},1\n", sku.replace('"', "\"\"")))
        .collect();
    let text = format!("sku,name,price\n{}", rows.concat());
    assert_eq!(report_counts(&import_csv(&app, &admin, &text).await), [5, 0, 0]);
    assert_eq!(report_counts(&import_csv(&app, &admin, &text).await), [0, 5, 0]);
    let found: Vec<_> = products(&app).await.iter().map(|p| p["sku"].clone()).collect();
    assert_eq!(found, skus.map(Value::from));
    let taken = json!({"name": "x", "description": "", "price": 1, "stock": 0, "sku": " Ä-12 "});
    app.post("/api/products", &taken).token(&admin).await.problem(409, "sku_taken");
    let too_long = format!("sku,name,price\n{long}x,P,1\n\"a\tb\",P,1\n");
    assert_eq!(report_counts(&import_csv(&app, &admin, &too_long).await), [0, 0, 2]);
}

#[tokio::test]
async fn rows_of_nothing_but_separators_are_skipped() {
    let (app, admin) = start_shop().await;
    let text = ",,,\r\nsku,name,price,stock\r\n,,,\r\n ,\t, ,\r\n\r\nA,Cup,2,3\r\n,,,\r\n,,\r\n\
                \"\",,,\r\n;;;\r\n";
    let report = import_csv(&app, &admin, text).await;
    assert_eq!(report_counts(&report), [1, 0, 1], "{report}");
    assert_eq!(report["errors"][0]["line"], 10, "semicolons are text here");
}

#[tokio::test]
async fn outer_spaces_make_no_second_category() {
    let (app, admin) = start_shop().await;
    let text = "sku,name,price,category,tags\nA,Beans,1,Coffee,dark\n\
                B,\"\nGround\r\nbeans \",1,Coffee , dark |dark\n";
    assert_eq!(report_counts(&import_csv(&app, &admin, text).await), [2, 0, 0]);
    let new = json!({
        "name": " Whole beans\n", "description": "", "price": 1, "stock": 0, "sku": "\tC ",
        "category": " Coffee", "tags": ["dark", "dark "],
    });
    let created = app.create_product(&admin, &new).await;
    let path = format!("/api/products/{}", created["id"].as_str().unwrap());
    assert_eq!((&created["name"], &created["sku"]), (&json!("Whole beans"), &json!("C")));
    let patch = json!({"category": "Coffee\n", "name": "Whole\tbeans "});
    let patched = app.patch(&path, &patch).token(&admin).await.ok();
    assert_eq!(patched["version"], 1, "trimmed, the patch changes nothing: {patched}");
    let replaced = json!({"name": "Whole beans", "description": "", "price": 1, "sku": "C ",
        "category": "Coffee ", "tags": [" dark"]});
    assert_eq!(app.put(&path, &replaced).token(&admin).await.ok()["version"], 1);
    let line = "{\"sku\":\" C\",\"category\":\" Coffee \",\"tags\":[\"dark \"],\"stock\":1}\n";
    assert_eq!(report_counts(&app.import_products(&admin, line.into()).await), [0, 1, 0]);
    let all = products(&app).await;
    let names: Vec<_> = all.iter().map(|product| product["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Beans", "Ground beans", "Whole beans"]);
    for product in &all {
        assert_eq!((&product["category"], &product["tags"]), (&json!("Coffee"), &json!(["dark"])));
    }
    let facets = app.get("/api/products").await.ok()["facets"]["category"].clone();
    assert_eq!(facets, json!([{"value": "Coffee", "count": 3}]));
}

#[tokio::test]
async fn empty_csv_cell_keeps_and_null_clears() {
    let (app, admin) = start_shop().await;
    let full = json!({
        "sku": "A", "name": "Pot", "description": "Blue", "price": 5, "stock": 3,
        "category": "pots", "tags": ["x"], "image_url": "https://souk.example/a.png",
        "attributes": {"color": "blue", "size": 3}, "purchase_limit": 2, "weight_grams": 250,
        "tax_class": "reduced",
    });
    let before = app.create_product(&admin, &full).await;
    let header = "sku,name,description,price,stock,category,tags,image_url,attributes,\
                  purchase_limit,weight_grams,tax_class";
    let report = import_csv(&app, &admin, &format!("{header}\nA,,, ,,,\t,,,,,\n")).await;
    assert_eq!(report_counts(&report), [0, 1, 0]);
    assert_eq!(only_product(&app).await, before);
    // One attribute is removed by name; everything optional by null in NDJSON.
    let text = "sku,attributes\nA,\"{\"\"color\"\":null}\"\n";
    assert_eq!(report_counts(&import_csv(&app, &admin, text).await), [0, 1, 0]);
    assert_eq!(only_product(&app).await["attributes"], json!({"size": 3}));
    let nulls = json!({
        "sku": "A", "category": null, "tags": null, "image_url": null, "attributes": null,
        "purchase_limit": null, "weight_grams": null, "tax_class": null,
    });
    assert_eq!(report_counts(&app.import_products(&admin, nulls.to_string()).await), [0, 1, 0]);
    let after = only_product(&app).await;
    for (member, value) in [
        ("category", Value::Null),
        ("tags", json!([])),
        ("image_url", Value::Null),
        ("attributes", json!({})),
        ("purchase_limit", Value::Null),
        ("weight_grams", Value::Null),
        ("tax_class", Value::Null),
        ("description", json!("Blue")),
    ] {
        assert_eq!(after[member], value, "{member}");
    }
}

#[tokio::test]
async fn unknown_columns_are_named_or_ignored() {
    let (app, admin) = start_shop().await;
    let csv = "sku,name,price,Colour,prize\nA,Pot,1,red,2\n";
    let problem =
        post_import(&app, &admin, "text/csv", csv).await.problem(422, "validation_failed");
    assert_eq!(problem["errors"][0]["field"], "header");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("unknown columns: Colour, prize;"), "{detail}");
    let ndjson = "{\"sku\":\"B\",\"name\":\"Cup\",\"price\":1,\"colour\":\"red\"}\n";
    assert_eq!(report_counts(&app.import_products(&admin, ndjson.into()).await), [0, 0, 1]);
    for (content_type, text) in [("text/csv", csv), ("application/x-ndjson", ndjson)] {
        let import = |parameters| post_import_with(&app, &admin, parameters, content_type, text);
        assert_eq!(report_counts(&import("ignore_unknown=true").await.ok()), [1, 0, 0]);
        for parameters in
            ["ignore_unknown=yes", "dry_run=", "ignore=true", "dry_run=true&dry_run=true"]
        {
            import(parameters).await.problem(422, "validation_failed");
        }
    }
    // With a key, the parameter is part of the request.
    let import = |parameters| post_import_with(&app, &admin, parameters, "text/csv", csv).key("k");
    import("ignore_unknown=true").await.is(200);
    assert!(import("ignore_unknown=true").await.is_replayed());
    assert_eq!(product_total(&app).await, 2);
    let file = app.write("goods.csv", csv);
    let import = |more: &[&str]| {
        let mut command = app.command();
        command.arg("import").arg(&file).args(["--server", app.url()]).args(more);
        Cli::run(command.env("SOUK_TOKEN", &admin.token))
    };
    let refused = import(&[]);
    assert_eq!((refused.code, &*refused.stdout), (1, ""));
    assert!(refused.stderr.contains("unknown columns: Colour, prize;"), "{refused:?}");
    assert!(refused.stderr.contains("--ignore-unknown"), "{refused:?}");
    assert_eq!(import(&["--ignore-unknown"]).ok(), "0 created, 1 updated, 0 failed\n");
}

#[tokio::test]
async fn semicolons_tabs_and_any_order_of_columns_are_understood() {
    let (app, admin) = start_shop().await;
    for (index, text) in [
        "\u{feff}Price;Stock;SKU;Name;Tags\r\n4,50;7;A;\"Tea; \"\"green\"\"\r\n(loose)\";a|b\r\n",
        "tags\tname\tsku\tstock\tprice\na | b\t\"Tea; \"\"green\"\"\n(loose)\"\tA\t7\t4.50\n",
        "sep=;\r\nsku;name;price;stock;tags;\r\nA;\"Tea; \"\"green\"\" (loose)\";4.5;7;a|b;\r\n\
         ;;;;;\r\n",
        "sku,name,price,stock,tags\rA,\"Tea; \"\"green\"\" (loose)\",4.5,7,a|b\r",
    ]
    .into_iter()
    .enumerate()
    {
        for sizes in [&[1][..], &[3, 50], &[1000]] {
            let report = post_import(&app, &admin, "text/csv", in_chunks(text, sizes)).await.ok();
            assert_eq!(report["failed"], 0, "{text:?}: {report}");
        }
        let tea = only_product(&app).await;
        assert_eq!(tea["name"], "Tea; \"green\" (loose)", "{text:?}");
        assert_eq!((&tea["price"], &tea["stock"]), (&json!(4.5), &json!(7)));
        assert_eq!((&tea["tags"], &tea["version"]), (&json!(["a", "b"]), &json!(1)), "{index}");
    }
}

#[tokio::test]
async fn dry_run_reports_and_changes_nothing() {
    let (app, admin) = start_shop().await;
    let tea = json!({"sku": "TEA", "name": "Tea", "description": "", "price": 4, "stock": 5});
    let tea = app.create_product(&admin, &tea).await;
    app.buy(&app.customer().await, tea["id"].as_str().unwrap(), 2).await;
    let before = products(&app).await;
    let mut text = String::from("sku,name,price,stock\nTEA,,5,\nNEW,New,1,\nNEW,,,9\nBAD,,1,\n");
    // The first line for a sku creates its product, however far apart the lines are.
    (0..600).for_each(|number| text.push_str(&format!("N{number},Name,1,1\n")));
    text.push_str("N7,,,4\nNEW,,x,\nTEA,,,1\n,No sku,1,1\nUNKNOWN,,,1\n");
    let import = |parameters| post_import_with(&app, &admin, parameters, "text/csv", &text);
    let checked = import("dry_run=true").key("dry").await.ok();
    assert_eq!(report_counts(&checked), [602, 3, 4], "{checked}");
    let lines: Vec<_> =
        checked["errors"].as_array().unwrap().iter().map(|error| &error["line"]).collect();
    assert_eq!(lines, [5, 607, 608, 610]);
    assert_eq!(products(&app).await, before);
    // The real import does the same, and its key is not used up.
    let done = import("dry_run=false").key("dry").await.ok();
    assert_eq!(done, checked);
    assert_eq!(product_total(&app).await, 603);
    // The refusal says by itself what is wrong.
    let message = done["errors"][2]["message"].as_str().unwrap();
    assert_eq!(message, "stock cannot be 1, since 2 units are reserved");
}

#[tokio::test]
async fn files_are_imported_whatever_the_case_of_their_extension() {
    let mut app = TestApp::unstarted(&[]);
    let import = |file: &std::path::Path, more: &[&str]| {
        Cli::run(app.command().arg("import").arg(file).args(more))
    };
    let goods = app.write("goods.CSV", "name;sku;price\n Tea ;T;1,5\n;;\n");
    let dry = import(&goods, &["--dry-run"]);
    assert_eq!(dry.ok(), "1 created, 0 updated, 0 failed (dry run: nothing was changed)\n");
    assert!(!app.dir().join("data").exists(), "a dry run creates no store");
    let run = import(&goods, &[]);
    assert!(run.stderr.contains("1 line in "), "{run:?}");
    assert_eq!(run.ok(), "1 created, 0 updated, 0 failed\n");
    for (name, text) in [
        ("more.TSV", "sku\tprice\nT\t2\n"),
        ("more.Ndjson", "{\"sku\":\"T\",\"price\":3}"),
        ("more.JSONL", "\u{feff}{\"sku\":\"T\",\"price\":3}\r\n\r\n"),
    ] {
        assert_eq!(import(&app.write(name, text), &[]).ok(), "0 created, 1 updated, 0 failed\n");
    }
    let many = app.write("many.csv", "sku,price\n".to_owned() + &"T,x\n".repeat(2500));
    let errors = import(&many, &[]).stdout;
    assert_eq!(errors.lines().filter(|line| line.contains(": validation_failed: ")).count(), 2500);
    std::fs::create_dir(app.dir().join("folder.csv")).unwrap();
    let run = import(&app.dir().join("folder.csv"), &[]);
    assert!(run.stderr.contains("folder.csv is a folder, not a product file"), "{run:?}");
    let bad = app.write("bad.csv", "sku,price\nT,x\n");
    let run = import(&bad, &["--dry-run"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stdout.starts_with("line 2: validation_failed: price"), "{run:?}");
    assert!(
        run.stdout.ends_with("0 created, 0 updated, 1 failed (dry run: nothing was changed)\n")
    );
    let left: Vec<_> = std::fs::read_dir(app.dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("souk-import"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    app.restart().await;
    assert_eq!(only_product(&app).await["price"], 3);
}
