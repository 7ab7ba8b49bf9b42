//! The conditions of a commit.

use serde::{Deserialize, Serialize};

use crate::domain::{
    account::Email,
    catalog::product::Product,
    ids::{ProductId, PromotionId, UserId},
    order::{Buyer, LimitedLine, Order},
};

/// A condition on what the commit does not write. A shared store detects no conflict on that, so
/// the commit must write the record that whoever changes it writes, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// The product still has the version that the commit was decided on; else it is a conflict. The
    /// commit must change the product's stock.
    ProductUnchanged(ProductId, u64),
    /// The user has fewer pending orders than this: orders that are placed and not paid. The commit
    /// must write the user's cart.
    PendingOrdersBelow(UserId, u32),
    /// The user's pending orders have at most `limit` units together with the `units` of the order
    /// that the commit places. The commit must write the user's cart.
    PendingUnitsWithin {
        /// The buyer.
        user_id: UserId,
        /// The units of the new order.
        units: u64,
        /// The most units in all pending orders of the buyer.
        limit: u32,
    },
    /// The user's orders that are neither cancelled nor expired have at most the product's purchase
    /// limit together with this line of the order that the commit places, or that it pays after the
    /// order has expired. The commit must reserve the line's units, and have
    /// [`ProductUnchanged`](Self::ProductUnchanged) for the product, whose version the limit
    /// belongs to.
    PurchaseWithin(UserId, LimitedLine),
    /// The pricing rules have this version; else it is a conflict. A commit that changes rules
    /// meanwhile comes after this one.
    PricingRulesUnchanged(u64),
    /// The buyer has fewer orders with the promotion that are neither cancelled nor expired: those
    /// of the user, and those with one of the e-mail addresses. The commit must take a use of the
    /// promotion.
    BuyerUsesBelow {
        /// The buyer.
        buyer: Buyer,
        /// The promotion.
        promotion_id: PromotionId,
        /// The most orders.
        limit: u32,
    },
    /// An admin other than this one remains that is not blocked. Commits with this condition write
    /// a record that they share, so that no two nodes remove the last two admins at once.
    OtherAdminRemains(UserId),
    /// The admin has made fewer API keys than this that are not deleted. Commits with this
    /// condition write the same record as those with
    /// [`OtherAdminRemains`](Self::OtherAdminRemains).
    ApiKeysBelow(UserId, u32),
    /// The user has no order that is paid and not shipped. If the commit erases the account, it
    /// must write all unpaid orders of the user and of guests with the e-mail address; else it is
    /// a conflict. It must erase the account or write it.
    NoOpenOrders {
        /// The user.
        user_id: UserId,
        /// The e-mail address, if it was verified.
        guest_email: Option<Email>,
    },
}

impl Condition {
    /// The conditions for an expired order to take its units again: its buyer stays within the
    /// purchase limits of the `products`, also within those that are set meanwhile.
    pub fn of_revived_order<'a>(
        order: &Order,
        products: impl IntoIterator<Item = &'a Product>,
    ) -> Vec<Self> {
        let mut conditions = Vec::new();
        for product in products {
            // Also without a limit: it may be given one before the commit.
            conditions.push(Self::ProductUnchanged(product.id, product.version));
            let Some(limit) = product.details.purchase_limit else { continue };
            let lines = order.lines.iter().filter(|line| line.product_id == product.id);
            conditions.extend(lines.map(|line| {
                let line = LimitedLine { product_id: product.id, quantity: line.quantity, limit };
                Self::PurchaseWithin(order.user_id, line)
            }));
        }
        conditions
    }
}
