//! Dry runs: what an import would do.

use std::collections::HashSet;

use super::{known_products::KnownProducts, reject_all, reserved_units_error};
use crate::{
    actors::{catalog::CatalogService, commit_error::map_commit_error},
    domain::{
        catalog::product::{Product, ProductPatch},
        clock::Timestamp,
        ids::ProductId,
        inventory::{StockChange, StockError, StockLevel},
        money::{Currency, Money},
        validation::ValidationErrors,
    },
    error::Error,
    messages::catalog::{ImportAction, ImportLine, ImportLineOutcome, ImportRow},
    store::CommitError,
};

impl CatalogService {
    /// Decides the lines without applying them.
    pub(super) async fn check_lines(
        &self,
        lines: Vec<ImportLine>,
        currency: Currency,
    ) -> Vec<ImportLineOutcome> {
        if let Some(follower) = &self.follower {
            // If this fails, the check is by slightly older products.
            let _ = follower.catch_up().await;
        }
        let known = match self.load_known_products(&lines).await {
            Ok(known) => known,
            Err(error) => return reject_all(&lines, &error.into()).collect(),
        };
        let mut created = HashSet::new();
        let mut outcomes = Vec::with_capacity(lines.len());
        for ImportLine { number, row, is_created_before, .. } in lines {
            let sku = row.as_ref().ok().and_then(ImportRow::sku).map(str::to_owned);
            let is_created =
                is_created_before || sku.as_ref().is_some_and(|sku| created.contains(sku));
            let result =
                row.and_then(|row| self.check_row(&row, &known, is_created.then_some(currency)));
            if result == Ok(ImportAction::Created) {
                created.extend(sku);
            }
            outcomes.push(ImportLineOutcome { number, result });
        }
        outcomes
    }

    fn check_row(
        &self,
        row: &ImportRow,
        known: &KnownProducts,
        created_before: Option<Currency>,
    ) -> Result<ImportAction, Error> {
        let known = self.find_known_product(row, known);
        let no_stock = || StockLevel::empty(ProductId::new());
        let (action, stock) = match (known, created_before) {
            (Some((product, stock)), _) => {
                product.apply_patch(row.patch.clone())?.validate()?;
                (ImportAction::Updated, stock)
            }
            (None, Some(currency)) => {
                check_patch_of_new_product(row.patch.clone(), currency)?;
                (ImportAction::Updated, no_stock())
            }
            (None, None) => {
                row.patch.clone().into_details()?.validate()?;
                (ImportAction::Created, no_stock())
            }
        };
        row.stock.map_or(Ok(()), |on_hand| check_on_hand(&stock, on_hand))?;
        Ok(action)
    }
}

/// Checks a change of a product that an earlier line creates, whatever its details will be.
fn check_patch_of_new_product(
    patch: ProductPatch,
    currency: Currency,
) -> Result<(), ValidationErrors> {
    let created = ProductPatch {
        name: Some(Some("-".to_owned())),
        price: Some(Some(Money::zero(currency))),
        ..ProductPatch::default()
    };
    let product = Product::new(ProductId::new(), created.into_details()?, Timestamp::default());
    product.apply_patch(patch)?.validate()
}

fn check_on_hand(stock: &StockLevel, on_hand: u64) -> Result<(), Error> {
    match stock.apply(StockChange::Set(on_hand)) {
        Ok(_) => Ok(()),
        Err(StockError::Insufficient { .. }) => Err(reserved_units_error(on_hand, stock.reserved)),
        Err(StockError::LimitExceeded) => Err(map_commit_error(CommitError::StockOverflow)),
    }
}
