//! What carts and orders come to besides the prices of their lines, as both engines store it.
//! Amounts are minor units.

use serde::{Deserialize, Serialize};

use crate::domain::{
    cart::CartShipping,
    money::{Currency, Money, MoneyError},
    pricing::{
        Charges, CodeOutcome, CodeRefusal, Destination, Discount, LineAmounts, Rate, Shipping, Tax,
    },
};

/// A stored record cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidCharges {
    /// An id is none.
    #[error("invalid id: {0}")]
    Id(#[from] uuid::Error),
    /// An amount is out of range.
    #[error("invalid amount: {0}")]
    Amount(#[from] MoneyError),
    /// Another value is not valid.
    #[error("invalid {0}")]
    Value(&'static str),
}

/// Where the goods of a cart go, and how.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredShipping {
    country: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    postal_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    method_id: Option<String>,
}

impl From<&CartShipping> for StoredShipping {
    fn from(shipping: &CartShipping) -> Self {
        let Destination { country, region, postal_code } = shipping.destination.clone();
        let method_id = shipping.method.map(|id| id.to_string());
        Self { country, region, postal_code, method_id }
    }
}

impl TryFrom<StoredShipping> for CartShipping {
    type Error = InvalidCharges;

    fn try_from(stored: StoredShipping) -> Result<Self, InvalidCharges> {
        let StoredShipping { country, region, postal_code, method_id } = stored;
        let destination = Destination { country, region, postal_code };
        Ok(Self { destination, method: method_id.map(|id| id.parse()).transpose()? })
    }
}

/// Discounts, shipping and taxes of an order.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredCharges {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lines: Vec<StoredLine>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    discounts: Vec<StoredDiscount>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    codes: Vec<StoredCode>,
    /// Without a method. When the buyer's account is erased, it loses its postal code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shipping_to: Option<StoredShipping>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shipping: Option<StoredMethod>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    taxes: Vec<StoredTax>,
}

#[derive(Serialize, Deserialize)]
struct StoredLine {
    discount: i64,
    tax: i64,
}

#[derive(Serialize, Deserialize)]
struct StoredDiscount {
    promotion_id: String,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    amount: i64,
}

#[derive(Serialize, Deserialize)]
struct StoredCode {
    code: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct StoredMethod {
    method_id: String,
    name: String,
    amount: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tax: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct StoredTax {
    name: String,
    /// In millionths.
    rate: u32,
    amount: i64,
    included: bool,
}

impl From<&Charges> for StoredCharges {
    fn from(charges: &Charges) -> Self {
        let line = |line: &LineAmounts| StoredLine {
            discount: line.discount.minor_units(),
            tax: line.tax.minor_units(),
        };
        let discount = |discount: &Discount| StoredDiscount {
            promotion_id: discount.promotion_id.to_string(),
            name: discount.name.clone(),
            code: discount.code.clone(),
            amount: discount.amount.minor_units(),
        };
        let code = |outcome: &CodeOutcome| StoredCode {
            code: outcome.code.clone(),
            refusal: outcome.refusal.map(|refusal| refusal.as_str().to_owned()),
        };
        let method = |shipping: &Shipping| StoredMethod {
            method_id: shipping.method_id.to_string(),
            name: shipping.name.clone(),
            amount: shipping.amount.minor_units(),
            tax: shipping.tax.map(Money::minor_units),
        };
        let tax = |tax: &Tax| StoredTax {
            name: tax.name.clone(),
            rate: tax.rate.millionths(),
            amount: tax.amount.minor_units(),
            included: tax.included,
        };
        let to = |destination: &Destination| CartShipping {
            destination: destination.clone(),
            method: None,
        };
        Self {
            lines: charges.lines.iter().map(line).collect(),
            discounts: charges.discounts.iter().map(discount).collect(),
            codes: charges.codes.iter().map(code).collect(),
            shipping_to: charges.destination.as_ref().map(|at| StoredShipping::from(&to(at))),
            shipping: charges.shipping.as_ref().map(method),
            taxes: charges.taxes.iter().map(tax).collect(),
        }
    }
}

impl StoredCharges {
    /// The charges of an order in `currency`.
    ///
    /// # Errors
    /// An id, an amount or a name is not valid.
    pub(super) fn into_charges(self, currency: Currency) -> Result<Box<Charges>, InvalidCharges> {
        let money = |minor| Money::from_minor_units(minor, currency);
        let line = |line: StoredLine| {
            Ok(LineAmounts { discount: money(line.discount)?, tax: money(line.tax)? })
        };
        let discount = |discount: StoredDiscount| {
            Ok(Discount {
                promotion_id: discount.promotion_id.parse()?,
                name: discount.name,
                code: discount.code,
                amount: money(discount.amount)?,
            })
        };
        let code = |code: StoredCode| {
            let refusal = code.refusal.map(|refusal| refusal.parse::<CodeRefusal>()).transpose();
            let refusal = refusal.map_err(|_| InvalidCharges::Value("reason"))?;
            Ok(CodeOutcome { code: code.code, refusal })
        };
        let method = |method: StoredMethod| {
            Ok::<_, InvalidCharges>(Shipping {
                method_id: method.method_id.parse()?,
                name: method.name,
                amount: money(method.amount)?,
                tax: method.tax.map(money).transpose()?,
            })
        };
        let tax = |tax: StoredTax| {
            Ok(Tax {
                name: tax.name,
                rate: Rate::from_millionths(tax.rate).ok_or(InvalidCharges::Value("rate"))?,
                amount: money(tax.amount)?,
                included: tax.included,
            })
        };
        let to = self.shipping_to.map(CartShipping::try_from).transpose()?;
        Ok(Box::new(Charges {
            lines: collect(self.lines, line)?,
            discounts: collect(self.discounts, discount)?,
            codes: collect(self.codes, code)?,
            destination: to.map(|to| to.destination),
            shipping: self.shipping.map(method).transpose()?,
            taxes: collect(self.taxes, tax)?,
        }))
    }
}

fn collect<S, T>(
    stored: Vec<S>,
    read: impl Fn(S) -> Result<T, InvalidCharges>,
) -> Result<Vec<T>, InvalidCharges> {
    stored.into_iter().map(read).collect()
}
