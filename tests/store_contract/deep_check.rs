//! The deep check on MongoDB, which has the server validate the collections.

use crate::harness::{Harness, Mongo};

#[tokio::test]
async fn every_collection_is_validated() {
    let Some(mongo) = Mongo::new().await else { return };
    let store = mongo.open().await;
    assert_eq!(store.find_damage().await, Ok(Vec::new()));
    let database = mongo.raw_database();
    let names = database.list_collection_names().await.unwrap();
    for name in &names {
        database.collection::<()>(name).drop().await.unwrap();
    }
    let problems = store.find_damage().await.unwrap();
    // The node may have written its own document again.
    let recreated = database.list_collection_names().await.unwrap();
    for name in names.iter().filter(|name| !recreated.contains(name)) {
        let unchecked = format!("collection {name} could not be checked: ");
        assert!(problems.iter().any(|line| line.starts_with(&unchecked)), "{name}: {problems:?}");
    }
    assert!(names.len() > 20 && recreated.len() < 5, "{names:?}, {recreated:?}");
    store.close().await;
    mongo.drop_database().await;
}
