//! The products that the lines of an import update.

use std::{collections::HashMap, sync::Arc};

use crate::{
    actors::catalog::{CatalogService, service::ImportLookup},
    domain::{catalog::product::Product, inventory::StockLevel},
    messages::catalog::{ImportLine, ImportRow},
    store::StoreUnavailable,
};

/// Products by sku, with their stock. Empty if they are in the catalog cache.
pub(super) type KnownProducts = HashMap<String, (Arc<Product>, StockLevel)>;

impl CatalogService {
    /// Loads the products that these lines name, unless they are in the catalog cache.
    pub(super) async fn load_known_products(
        &self,
        lines: &[ImportLine],
    ) -> Result<KnownProducts, StoreUnavailable> {
        self.load_products_of(lines.iter().filter_map(|line| line.row.as_ref().ok())).await
    }

    /// Loads the products that these rows name, unless they are in the catalog cache.
    pub(super) async fn load_products_of(
        &self,
        rows: impl Iterator<Item = &ImportRow>,
    ) -> Result<KnownProducts, StoreUnavailable> {
        if self.import_lookup == ImportLookup::Cache {
            return Ok(KnownProducts::new());
        }
        let skus: Vec<String> = rows.filter_map(ImportRow::sku).map(str::to_owned).collect();
        if skus.is_empty() {
            return Ok(KnownProducts::new());
        }
        let products = self.store.find_products_by_sku(skus).await?;
        let by_sku = |(product, stock): (Product, StockLevel)| {
            Some((product.details.sku.clone()?, (Arc::new(product), stock)))
        };
        Ok(products.into_iter().filter_map(by_sku).collect())
    }

    /// The product that this row updates.
    pub(super) fn find_known_product(
        &self,
        row: &ImportRow,
        known: &KnownProducts,
    ) -> Option<(Arc<Product>, StockLevel)> {
        let sku = row.sku()?;
        match self.import_lookup {
            ImportLookup::Cache => {
                let view = self.catalog_cache.by_sku(sku)?;
                Some((Arc::clone(&view.product), view.stock))
            }
            ImportLookup::Store => known.get(sku).cloned(),
        }
    }
}
