//! Rules as records, with a version and times.

use serde::{Deserialize, Serialize};

use super::{Promotion, ShippingMethod, TaxRate};
use crate::domain::{clock::Timestamp, ids::RuleId};

/// A rule of the shop. A deleted one stays in the store, so that its versions go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRecord {
    /// The rule's identifier, which is also that of the shipping method or tax rate.
    pub id: RuleId,
    /// The number of creates, changes and deletes, from 1.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Whether it was deleted.
    pub deleted: bool,
    /// The rule.
    pub rule: Rule,
}

/// A rule of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// A promotion. Its `used` is 0, since [`PromotionUses`](super::PromotionUses) count apart.
    Promotion(Box<Promotion>),
    /// A shipping method.
    ShippingMethod(ShippingMethod),
    /// A tax rate.
    TaxRate(TaxRate),
}

/// The kind of a rule.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum RuleKind {
    /// A promotion.
    Promotion,
    /// A shipping method.
    ShippingMethod,
    /// A tax rate.
    TaxRate,
}

impl RuleKind {
    /// The name in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl Rule {
    /// The kind of the rule.
    #[must_use]
    pub const fn kind(&self) -> RuleKind {
        match self {
            Self::Promotion(_) => RuleKind::Promotion,
            Self::ShippingMethod(_) => RuleKind::ShippingMethod,
            Self::TaxRate(_) => RuleKind::TaxRate,
        }
    }
}

impl RuleRecord {
    /// A new rule, version 1.
    #[must_use]
    pub const fn new(id: RuleId, rule: Rule, now: Timestamp) -> Self {
        Self { id, version: 1, created_at: now, updated_at: now, deleted: false, rule }
    }

    /// The rule with new contents. `None` if they are the same.
    #[must_use]
    pub fn with_rule(&self, rule: Rule, now: Timestamp) -> Option<Self> {
        (rule != self.rule).then(|| Self {
            rule,
            version: self.version + 1,
            updated_at: now,
            ..self.clone()
        })
    }

    /// The rule, deleted.
    #[must_use]
    pub fn to_deleted(&self, now: Timestamp) -> Self {
        Self { version: self.version + 1, updated_at: now, deleted: true, ..self.clone() }
    }

    /// What no two rules that exist have in common: of a promotion its code, and of a tax rate its
    /// country, region and class. A deleted rule has given it up.
    #[must_use]
    pub fn unique_key(&self) -> Option<String> {
        match &self.rule {
            _ if self.deleted => None,
            Rule::Promotion(promotion) => {
                let code = promotion.code.as_ref()?;
                Some(format!("promotion:{}", code.to_ascii_lowercase()))
            }
            Rule::TaxRate(rate) => {
                let part = |part: &Option<String>| part.clone().unwrap_or_default();
                // A class can contain any character, so it is last.
                let (region, class) = (part(&rate.region), part(&rate.tax_class));
                let named = if rate.tax_class.is_some() { "class" } else { "all" };
                Some(format!("tax_rate:{}:{region}:{named}:{class}", rate.country))
            }
            Rule::ShippingMethod(_) => None,
        }
    }
}
