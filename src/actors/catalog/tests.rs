//! Tests the catalog commands of a node that lags behind another node.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tempfile::TempDir;

use super::{CatalogService, ImportLookup};
use crate::{
    cache::{account_rights::AccountRights, catalog_cache::CatalogCache, follower::Follower},
    domain::{
        catalog::{
            product::{ProductDetails, ProductPatch},
            search::CatalogLanguage,
        },
        clock::{Clock, SystemClock, Timestamp},
        ids::{ProductId, UserId},
        money::{Currency, Money},
    },
    error::ErrorCode,
    messages::{
        catalog::{
            ChangeProduct, CreateProduct, DeleteProduct, ImportAction, ImportLine, ImportLines,
            ImportMode, ImportRow, ProductEdit,
        },
        command_context::{CommandContext, IdempotencyKey, Reply},
    },
    store::{
        CommittedChanges, Store,
        sqlite::{SqliteOptions, SqliteStore},
        writer::{CommitObserver, CommitWriter},
    },
};

const MINUTE: Duration = Duration::from_secs(60);

struct ForwardToCache(Arc<CatalogCache>);

impl CommitObserver for ForwardToCache {
    fn on_committed(&self, changes: &CommittedChanges) {
        self.0.apply(changes);
    }
}

/// Two nodes on one store.
struct TwoNodes {
    _dir: TempDir,
    /// A node that knows every change at once.
    here: CatalogService,
    /// A node that learns of changes only when it catches up.
    there: CatalogService,
}

fn usd() -> Currency {
    "USD".parse().unwrap()
}

fn price(text: &str) -> Money {
    Money::parse(text, usd()).unwrap()
}

impl TwoNodes {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = SqliteOptions { currency: usd(), ..SqliteOptions::sample(dir.path()) };
        let as_clock = || Arc::new(SystemClock) as Arc<dyn Clock>;
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(options, as_clock()).unwrap());
        let cache = || {
            Arc::new(CatalogCache::new(
                |product, _| Bytes::from(product.details.price.to_string()),
                &CatalogLanguage::default(),
            ))
        };
        let (known_here, known_there) = (cache(), cache());
        let observer = Arc::new(ForwardToCache(Arc::clone(&known_here)));
        let runtime = tokio::runtime::Handle::current();
        let (writer, _) = CommitWriter::start(&runtime, Arc::clone(&store), observer);
        let caches = Arc::new(ForwardToCache(Arc::clone(&known_there)));
        let rights = Arc::new(AccountRights::new());
        let rules = Arc::default();
        let clock = as_clock();
        let follower = Follower::new(&store, &caches, &known_there, &rights, &rules, &clock).await;
        let node = |catalog_cache, follower| CatalogService {
            import_lookup: ImportLookup::Cache,
            catalog_cache,
            store: Arc::clone(&store),
            writer: writer.clone(),
            follower,
            clock: as_clock(),
        };
        let here = node(known_here, None);
        let there = node(known_there, Some(follower.unwrap()));
        Self { _dir: dir, here, there }
    }

    /// Creates a product for 5.00 with sku `TEA` that both nodes know.
    async fn create_tea(&self) -> ProductId {
        let message = tea_message(CommandContext::internal(MINUTE));
        let Reply::Completed(view) = self.here.create_product(message).await.unwrap() else {
            panic!("nothing was repeated");
        };
        self.there.follower.as_ref().unwrap().catch_up().await.unwrap();
        view.product.id
    }
}

fn tea_message(context: CommandContext) -> CreateProduct {
    let details = ProductDetails {
        sku: Some("TEA".into()),
        price: price("5.00"),
        ..ProductDetails::sample("Tea")
    };
    CreateProduct { details, initial_stock: 3, context }
}

fn keyed_context() -> CommandContext {
    let key = IdempotencyKey {
        owner: UserId::new(),
        key: "k".into(),
        fingerprint: [1; 32],
        received_at: Timestamp::default(),
    };
    CommandContext { idempotency_key: Some(key), ..CommandContext::internal(MINUTE) }
}

fn change_price(product_id: ProductId, to: &str, context: CommandContext) -> ChangeProduct {
    let patch = ProductPatch { price: Some(Some(price(to))), ..ProductPatch::default() };
    ChangeProduct { product_id, edit: ProductEdit::Patch(patch), context }
}

fn import_line(patch: ProductPatch, stock: Option<u64>) -> ImportLine {
    let patch = ProductPatch { sku: Some(Some("TEA".into())), ..patch };
    let row = Ok(ImportRow { patch, stock });
    ImportLine {
        number: 1,
        row,
        is_created_before: false,
        context: CommandContext::internal(MINUTE),
    }
}

fn apply(line: ImportLine) -> ImportLines {
    ImportLines { lines: vec![line], mode: ImportMode::Apply }
}

#[actix_rt::test]
async fn import_does_not_restock_product_that_another_node_deleted() {
    let nodes = TwoNodes::start().await;
    let tea = nodes.create_tea().await;
    let context = CommandContext::internal(MINUTE);
    nodes.here.delete_product(DeleteProduct { product_id: tea, context }).await.unwrap();
    let line = import_line(ProductPatch::default(), Some(50));
    let outcomes = nodes.there.import_lines(apply(line)).await;
    let error = outcomes.into_iter().next().unwrap().result.unwrap_err();
    assert_eq!(error.code, ErrorCode::ValidationFailed, "a new product needs a name");
    let movements = nodes.here.store.list_movements(tea, None, 10).await.unwrap();
    assert_eq!(movements.len(), 1, "the opening stock");
}

#[actix_rt::test]
async fn import_changes_what_another_node_has_just_changed() {
    let nodes = TwoNodes::start().await;
    let tea = nodes.create_tea().await;
    let context = CommandContext::internal(MINUTE);
    nodes.here.change_product(change_price(tea, "6.00", context)).await.unwrap();
    let patch = ProductPatch { price: Some(Some(price("5.00"))), ..ProductPatch::default() };
    let outcomes = nodes.there.import_lines(apply(import_line(patch, None))).await;
    assert_eq!(outcomes.into_iter().next().unwrap().result, Ok(ImportAction::Updated));
    let (stored, _) = nodes.here.store.find_product(tea).await.unwrap().unwrap();
    assert_eq!(stored.details.price, price("5.00"));
}

#[actix_rt::test]
async fn repeat_on_another_node_shows_its_change_there() {
    let nodes = TwoNodes::start().await;
    let message = tea_message(keyed_context());
    nodes.here.create_product(message.clone()).await.unwrap();
    let repeat = nodes.there.create_product(message).await.unwrap();
    assert!(matches!(repeat, Reply::Replayed(_)));
    let tea = nodes.there.catalog_cache.by_sku("TEA").unwrap().product.id;

    let message = change_price(tea, "6.00", keyed_context());
    nodes.here.change_product(message.clone()).await.unwrap();
    let repeat = nodes.there.change_product(message).await.unwrap();
    assert!(matches!(repeat, Reply::Replayed(_)));
    let shown = nodes.there.catalog_cache.get(tea).unwrap();
    assert_eq!(shown.product.details.price, price("6.00"));
}
