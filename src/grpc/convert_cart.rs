//! Carts as messages of `proto/`.

use super::{
    convert::{money, timestamp},
    pb,
};
use crate::{
    domain::{
        cart::{Cart, PricedCart, PricedLine},
        money::Money,
        pricing::{CodeOutcome, Discount, Shipping, Tax},
    },
    error::Error,
};

/// # Errors
/// `total_limit` if the message cannot hold a total.
pub(super) fn cart(cart: &Cart, priced: &PricedCart) -> Result<pb::Cart, Error> {
    let breakdown = &priced.breakdown;
    let destination = cart.shipping.as_ref().map(|shipping| &shipping.destination);
    Ok(pb::Cart {
        subtotal: Some(money(breakdown.subtotal)?),
        discounts: breakdown.discounts.iter().map(discount).collect::<Result<_, _>>()?,
        codes: breakdown.codes.iter().map(code).collect(),
        shipping_to: destination.map(|to| pb::Destination {
            country: to.country.clone(),
            region: to.region.clone(),
            postal_code: to.postal_code.clone(),
        }),
        shipping: breakdown.shipping.as_ref().map(shipping).transpose()?,
        taxes: breakdown.taxes.iter().map(tax).collect::<Result<_, _>>()?,
        id: cart.owner.id.to_string(),
        user_id: cart.owner.id.to_string(),
        version: cart.version,
        items: priced.lines.iter().map(cart_item).collect::<Result<_, _>>()?,
        item_count: priced.item_count,
        total_amount: Some(money(breakdown.total)?),
        updated_at: Some(timestamp(cart.updated_at)),
        expires_at: cart.expires_at().map(timestamp),
    })
}

fn discount(discount: &Discount) -> Result<pb::Discount, Error> {
    Ok(pb::Discount {
        promotion_id: discount.promotion_id.to_string(),
        name: discount.name.clone(),
        code: discount.code.clone(),
        amount: Some(money(discount.amount)?),
    })
}

fn code(outcome: &CodeOutcome) -> pb::Code {
    pb::Code {
        code: outcome.code.clone(),
        applied: outcome.refusal.is_none(),
        reason: outcome.refusal.map(|refusal| refusal.as_str().to_owned()),
    }
}

fn shipping(shipping: &Shipping) -> Result<pb::Shipping, Error> {
    Ok(pb::Shipping {
        method_id: shipping.method_id.to_string(),
        name: shipping.name.clone(),
        amount: Some(money(shipping.amount)?),
        tax: shipping.tax.map(money).transpose()?,
    })
}

fn tax(tax: &Tax) -> Result<pb::Tax, Error> {
    Ok(pb::Tax {
        name: tax.name.clone(),
        rate: tax.rate.to_string(),
        amount: Some(money(tax.amount)?),
        included: tax.included,
    })
}

fn cart_item(line: &PricedLine) -> Result<pb::CartItem, Error> {
    let zero = Money::zero(line.unit_price.currency());
    let details = line.product.as_ref().map(|product| &product.details);
    Ok(pb::CartItem {
        sku: details.and_then(|details| details.sku.clone()),
        image_url: details.and_then(|details| details.image_url.clone()),
        discount: Some(money(line.amounts.map_or(zero, |amounts| amounts.discount))?),
        tax: Some(money(line.amounts.map_or(zero, |amounts| amounts.tax))?),
        product_id: line.product_id.to_string(),
        name: line.name.clone(),
        quantity: line.quantity,
        unit_price: Some(money(line.unit_price)?),
        total: Some(money(line.total)?),
        available: line.available,
        previous_unit_price: line.previous_price.map(money).transpose()?,
    })
}
