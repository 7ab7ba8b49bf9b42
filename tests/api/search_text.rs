//! The text of a search: its words, their forms, and the order of the matches.

use serde_json::{Value, json};

use crate::support::{Account, TestApp};

async fn create(app: &TestApp, admin: &Account, product: Value) -> String {
    let mut body = json!({"price": 1, "stock": 1, "description": ""});
    body.as_object_mut().unwrap().extend(product.as_object().unwrap().clone());
    app.create_product(admin, &body).await["id"].as_str().unwrap().to_owned()
}

async fn shop(names: &[&str]) -> (TestApp, Account) {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    for name in names {
        create(&app, &admin, json!({"name": name})).await;
    }
    (app, admin)
}

fn names(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

async fn found(app: &TestApp, text: &str) -> Vec<String> {
    let mut url = reqwest::Url::parse("http://localhost/api/products").unwrap();
    url.query_pairs_mut().append_pair("q", text);
    let page = app.get(&format!("{}?{}", url.path(), url.query().unwrap())).await.ok();
    names(&page).into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn accents_case_width_and_apostrophes_do_not_matter() {
    let decomposed = "Cafe\u{301} table";
    let (app, _) = shop(&[
        "Hígado",
        "İstanbul",
        "Tim's",
        "Tom’s",
        "ＬＥＤ ring",
        "LED stripe",
        decomposed,
        "Thé vert",
    ])
    .await;
    for (name, texts) in [
        ("Hígado", &["higado", "HÍGADO", "hi\u{301}gado"][..]),
        ("İstanbul", &["istanbul", "ISTANBUL", "İSTANBUL"]),
        ("Tim's", &["Tim’s", "tim's", "tims", "tim`s"]),
        ("Tom’s", &["Tom's", "tom’s", "toms"]),
        ("ＬＥＤ ring", &["LED ring", "led ring", "ｌｅｄ ring"]),
        ("LED stripe", &["ＬＥＤ stripe"]),
        (decomposed, &["café table", "cafe table", "cafe\u{301} table"]),
        ("Thé vert", &["The\u{301} vert", "thé vert"]),
    ] {
        for text in texts {
            assert_eq!(found(&app, text).await, [name], "{text}");
        }
    }
}

#[tokio::test]
async fn hyphens_may_be_left_out_or_written_as_spaces() {
    let names = ["T-shirt", "Tshirt", "T shirt"];
    let (app, _) = shop(&names).await;
    for text in ["t-shirt", "tshirt", "t shirt", "T-Shirts", "t‑shirt"] {
        let mut found = found(&app, text).await;
        found.sort_unstable();
        assert_eq!(found, ["T shirt", "T-shirt", "Tshirt"], "{text}");
    }
    let (app, _) = shop(&["Men's belt", "Mens shoe"]).await;
    for text in ["men's", "mens", "men’s", "men"] {
        let mut found = found(&app, text).await;
        found.sort_unstable();
        assert_eq!(found, ["Men's belt", "Mens shoe"], "{text}");
    }
}

#[tokio::test]
async fn sku_comes_first_and_may_be_part_of_a_text() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    create(&app, &admin, json!({"name": "Bolt", "sku": "100x"})).await;
    create(&app, &admin, json!({"name": "100x", "sku": "A"})).await;
    create(&app, &admin, json!({"name": "Nut 100x 100x", "sku": "B-7/2"})).await;
    assert_eq!(found(&app, "100x").await, ["Bolt", "100x", "Nut 100x 100x"]);
    assert_eq!(found(&app, "100X").await[0], "Bolt");
    for text in ["Bolt, 100x", "100x bolt", "bolt (100x)"] {
        assert_eq!(found(&app, text).await, ["Bolt"], "{text}");
    }
    for text in ["B-7/2", "b-7/2", "b 7 2"] {
        assert_eq!(found(&app, text).await, ["Nut 100x 100x"], "{text}");
    }
}

#[tokio::test]
async fn typos_rank_below_and_short_words_have_none() {
    let (app, _) = shop(&["Library", "Libary", "Lamp", "Chandelier"]).await;
    assert_eq!(found(&app, "library").await, ["Library", "Libary"]);
    assert_eq!(found(&app, "libary").await, ["Libary", "Library"]);
    for text in ["librray", "ibrary", "libraryy", "lybrary"] {
        assert_eq!(found(&app, text).await[0], "Library", "{text}");
    }
    assert_eq!(found(&app, "lump").await, [""; 0]);
    assert_eq!(found(&app, "chnadeleir").await, ["Chandelier"], "two swapped pairs");
    assert_eq!(found(&app, "lbirray").await, [""; 0], "two typos in seven letters");
}

#[tokio::test]
async fn every_kind_of_text_is_searched_and_the_name_counts_most() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let products = [
        json!({"name": "In the description", "description": "It smells of jasmine."}),
        json!({"name": "In an attribute", "attributes": {"scent": "jasmine"}}),
        json!({"name": "In a tag", "tags": ["jasmine"]}),
        json!({"name": "In the category", "category": "jasmine"}),
        json!({"name": "In the long name: jasmine"}),
        json!({"name": "Jasmine"}),
        json!({"name": "In the sku", "sku": "jasmine"}),
    ];
    for product in products {
        create(&app, &admin, product).await;
    }
    let found = found(&app, "jasmine").await;
    assert_eq!(found[..3], ["In the sku", "Jasmine", "In the long name: jasmine"]);
    let mut labels = found[3..5].to_vec();
    labels.sort_unstable();
    assert_eq!(labels, ["In a tag", "In the category"]);
    assert_eq!(found[5..], ["In an attribute", "In the description"]);
}

#[tokio::test]
async fn language_decides_on_plurals_and_the_order_of_names() {
    let fruits = ["zoo", "Zebra", "Äpfel", "apple", "Öl", "orange", "éclair", "eclipse"];
    for (language, wanted) in [
        ("en", ["Äpfel", "apple", "éclair", "eclipse", "Öl", "orange", "Zebra", "zoo"]),
        ("sv", ["apple", "éclair", "eclipse", "orange", "Zebra", "zoo", "Äpfel", "Öl"]),
    ] {
        let app = TestApp::with_settings(&[("catalog.language", language)]).await;
        let admin = app.admin().await;
        for name in fruits {
            create(&app, &admin, json!({"name": name})).await;
        }
        for path in ["/api/products?sort=name", "/api/products"] {
            assert_eq!(names(&app.get(path).await.ok()), wanted, "{language}");
            let paged = json!({"items": app.all_pages(&admin, path, 3).await});
            assert_eq!(names(&paged), wanted, "{language}, in pages");
        }
    }
    for (language, text, wanted) in [
        ("de", "Tassen", &["Tasse"][..]),
        ("en", "mugs", &["Mug"]),
        ("en", "mug", &["Mug"]),
        ("ja", "mugs", &[]),
        ("ja", "mug", &["Mug"]),
    ] {
        let app = TestApp::with_settings(&[("catalog.language", language)]).await;
        let admin = app.admin().await;
        create(&app, &admin, json!({"name": "Tasse"})).await;
        create(&app, &admin, json!({"name": "Mug"})).await;
        assert_eq!(found(&app, text).await, wanted, "{language}: {text}");
    }
}

#[tokio::test]
async fn change_is_found_at_once_and_the_old_text_no_longer() {
    let (app, admin) = shop(&["Something else"]).await;
    let id = create(&app, &admin, json!({"name": "Alpha", "price": 1})).await;
    let path = format!("/api/products/{id}");
    let (mut old, mut new) = ("alpha", "omega");
    for price in 2..40 {
        let patch = json!({"name": new, "price": price});
        app.patch(&path, &patch).token(&admin).await.ok();
        assert_eq!(found(&app, old).await, [""; 0]);
        let page = app.get(&format!("/api/products?q={new}&min_price={price}")).await.ok();
        assert_eq!(names(&page), [new]);
        assert_eq!(page["items"][0]["price"], price);
        (old, new) = (new, old);
    }
    app.delete(&path).token(&admin).await.is(204);
    assert_eq!(found(&app, old).await, [""; 0]);
}
