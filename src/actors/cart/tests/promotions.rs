//! Tests carts whose promotions a buyer can have once, while the buyer orders on another node.

use super::{
    checkout::{check_out, check_out_for, check_out_under},
    *,
};
use crate::{
    domain::{
        ids::{OrderId, PromotionId, RuleId},
        order::Order,
        pricing::{Effect, Percentage, Promotion, Rule, RuleRecord, Selection},
    },
    messages::cart::{PricingChange, PricingCommand},
    store::{CommitReceipt, CommittedChanges},
};

/// A promotion of 40 %, which each buyer can have once, and all `nodes` know.
async fn promote(shop: &CartFixture, code: Option<&str>, nodes: &[&CartRegistry]) {
    let id = PromotionId::new();
    let promotion = Promotion {
        id,
        name: "Once".into(),
        code: code.map(Into::into),
        effect: Effect::PercentOff(Percentage::from_hundredths(4000).unwrap()),
        applies_to: Selection::default(),
        min_subtotal: None,
        starts_at: None,
        ends_at: None,
        usage_limit: None,
        per_customer_limit: Some(1),
        combinable: false,
        priority: 0,
        active: true,
        used: 0,
    };
    let id = RuleId::from(id.as_uuid());
    let rule = Rule::Promotion(Box::new(promotion));
    let rule = Arc::new(RuleRecord::new(id, rule, Timestamp::default()));
    let commit = Commit::new(Timestamp::default(), Instant::now() + MINUTE);
    let commit = Commit { writes: vec![Write::PricingRule(Arc::clone(&rule))], ..commit };
    shop.writer.commit(commit).await.unwrap();
    for node in nodes {
        node.deps.pricing_rules.apply(&[Arc::clone(&rule)]);
    }
}

async fn add_code(carts: &CartRegistry, owner: CartOwner, code: &str) {
    let command = PricingCommand::AddCode(code.into());
    let message = PricingChange { command, context: CommandContext::internal(MINUTE) };
    carts.change_pricing(owner, message).await.unwrap();
}

/// An order of `owner` like one that somebody else has placed.
async fn order_elsewhere(shop: &CartFixture, placed: &Order, owner: CartOwner) -> Commit {
    let order = Order { id: OrderId::new(), user_id: owner.id, ..placed.clone() };
    assert_eq!(order.promotion_buyer(), Some(owner.id));
    let order = Arc::new(order);
    let commit = Commit::new(Timestamp::default(), Instant::now() + MINUTE);
    let (writes, events) =
        (vec![Write::Order(Arc::clone(&order))], vec![DomainEvent::Order(order)]);
    let commit = Commit { writes, events, ..commit };
    shop.writer.commit(commit.clone()).await.unwrap();
    commit
}

/// An order with the promotion, of another buyer.
async fn placed(shop: &CartFixture, carts: &CartRegistry, code: Option<&str>) -> Arc<Order> {
    let buyer = user_owner();
    carts.change_cart(buyer, shop.add_tea_message()).await.unwrap();
    if let Some(code) = code {
        add_code(carts, buyer, code).await;
    }
    check_out(carts, buyer).await.unwrap()
}

#[actix_rt::test]
async fn order_on_another_node_outdates_the_price() {
    let shop = CartFixture::open();
    let (there, follower) = shop.start_following_registry().await;
    commit_tea(&shop).await;
    follower.catch_up().await.unwrap();
    promote(&shop, None, &[&there]).await;
    let placed = placed(&shop, &there, None).await;
    for is_forwarded in [false, true] {
        let owner = user_owner();
        there.change_cart(owner, shop.add_tea_message()).await.unwrap();
        assert_eq!(read_body(&there, owner).await, "1 1 1.50");
        let commit = order_elsewhere(&shop, &placed, owner).await;
        assert_eq!(read_body(&there, owner).await, "1 1 1.50", "it has not heard of it");
        if is_forwarded {
            let receipt = CommitReceipt { stock: Vec::new() };
            there.apply(&CommittedChanges::of_forwarded(&commit, &receipt));
        } else {
            follower.catch_up().await.unwrap();
        }
        assert_eq!(read_body(&there, owner).await, "1 1 2.50");
    }
}

#[actix_rt::test]
async fn checkout_that_finds_another_order_outdates_the_price() {
    let shop = CartFixture::open();
    let (there, owner) = (shop.start_registry(), user_owner());
    commit_tea(&shop).await;
    promote(&shop, None, &[&there]).await;
    let placed = placed(&shop, &there, None).await;
    there.change_cart(owner, shop.add_tea_message()).await.unwrap();
    let seen = Money::parse("1.50", usd()).unwrap();
    order_elsewhere(&shop, &placed, owner).await;
    let refused = check_out_for(&there, owner, Some(seen)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::PriceChanged);
    assert_eq!(read_body(&there, owner).await, "1 1 2.50", "what checkout refused to charge less");
}

#[actix_rt::test]
async fn checkout_goes_on_without_a_code_that_it_was_refused_with() {
    let shop = CartFixture::open();
    let there = shop.start_registry();
    commit_tea(&shop).await;
    promote(&shop, Some("ONCE"), &[&there]).await;
    let placed = placed(&shop, &there, Some("ONCE")).await;
    // Under another key, or when the cart was shown again.
    for next_key in ["second", "first"] {
        let owner = user_owner();
        there.change_cart(owner, shop.add_tea_message()).await.unwrap();
        add_code(&there, owner, "ONCE").await;
        assert_eq!(read_body(&there, owner).await, "2 1 1.50");
        order_elsewhere(&shop, &placed, owner).await;
        // The buyer may not have had the first answer.
        for _ in 0..2 {
            let refused = check_out_under(&there, owner, "first").await.unwrap_err();
            assert_eq!(refused.code, ErrorCode::CodeExhausted);
        }
        if next_key == "first" {
            assert_eq!(read_body(&there, owner).await, "2 1 2.50");
        }
        let order = check_out_under(&there, owner, next_key).await.unwrap();
        assert_eq!(order.total().to_string(), "2.50");
    }
}
