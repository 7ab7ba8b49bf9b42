//! Pricing rules that change no price.

use serde_json::json;

use super::{Account, TestApp};

/// The ids of a promotion, a shipping method and a tax rate.
pub(crate) struct InactiveRules {
    pub(crate) promotion: String,
    pub(crate) method: String,
    pub(crate) rate: String,
}

impl InactiveRules {
    /// Creates rules that are not active, and a tax rate of a place where nobody lives.
    pub(crate) async fn create(app: &TestApp, admin: &Account) -> Self {
        let create = async |path: &str, body| {
            let created = app.post(path, &body).token(admin).await.is(201).json();
            created["id"].as_str().unwrap().to_owned()
        };
        let promotion = json!({"name": "Ten", "effect": {"percent_off": 10}, "active": false});
        let method = json!({"name": "Parcel", "price": 5, "active": false});
        let rate = json!({"name": "VAT", "country": "AQ", "rate": "0"});
        Self {
            promotion: create("/api/promotions", promotion).await,
            method: create("/api/shipping-methods", method).await,
            rate: create("/api/tax-rates", rate).await,
        }
    }

    /// The id of the rule that a path names.
    pub(crate) fn id_for(&self, path: &str) -> Option<&String> {
        match path {
            path if path.starts_with("/api/promotions") => Some(&self.promotion),
            path if path.starts_with("/api/shipping-methods") => Some(&self.method),
            path if path.starts_with("/api/tax-rates") => Some(&self.rate),
            _ => None,
        }
    }
}
