//! Pricing rules, and what is priced with them.

use std::sync::Arc;

use souk::{
    domain::{
        clock::Timestamp,
        ids::{ProductId, RuleId},
        pricing::{
            Effect, Percentage, Promotion, Rate, Rule, RuleKind, RuleRecord, Selection,
            ShippingMethod, TaxRate,
        },
    },
    events::{DomainEvent, parse::CacheChange},
    store::{Commit, CommitError, Condition, Store, Write},
};

use crate::{
    fixtures::{apply, apply_one, cart, commit, customer, now, price, put_cart},
    harness::{Harness, Mongo},
    nodes::{commit_concurrently, start_node},
};

const TIME: Timestamp = Timestamp::from_millis(1_767_225_600_123);

fn method(name: &str) -> RuleRecord {
    let id = RuleId::new();
    let method = ShippingMethod {
        id: id.as_uuid().into(),
        name: name.into(),
        countries: None,
        price: price("4.90"),
        free_from: None,
        per_kg: None,
        active: true,
    };
    RuleRecord::new(id, Rule::ShippingMethod(method), TIME)
}

fn rate(country: &str, class: Option<&str>) -> RuleRecord {
    let id = RuleId::new();
    let rate = TaxRate {
        id: id.as_uuid().into(),
        name: "VAT ☕".into(),
        country: country.into(),
        region: None,
        tax_class: class.map(str::to_owned),
        rate: Rate::from_millionths(88_750).unwrap(),
    };
    RuleRecord::new(id, Rule::TaxRate(rate), TIME)
}

fn promotion(code: Option<&str>) -> RuleRecord {
    let id = RuleId::new();
    let promotion = Promotion {
        id: id.as_uuid().into(),
        name: "Ten ☕".into(),
        code: code.map(str::to_owned),
        effect: Effect::PercentOff(Percentage::from_hundredths(1250).unwrap()),
        applies_to: Selection::default(),
        min_subtotal: None,
        starts_at: None,
        ends_at: None,
        usage_limit: None,
        per_customer_limit: None,
        combinable: false,
        priority: 0,
        active: true,
        used: 0,
    };
    RuleRecord::new(id, Rule::Promotion(Box::new(promotion)), TIME)
}

/// Promotions with every effect, and one with every member.
fn promotions() -> Vec<RuleRecord> {
    let with = |effect, name: &str| {
        let mut record = promotion(None);
        if let Rule::Promotion(promotion) = &mut record.rule {
            (promotion.effect, promotion.name) = (effect, name.into());
        }
        record
    };
    let percent_off = Percentage::from_hundredths(10_000).unwrap();
    let mut full = with(Effect::BuyGet { buy: 2, get: 1, percent_off }, "Full");
    if let Rule::Promotion(promotion) = &mut full.rule {
        promotion.code = Some("Full-1".into());
        promotion.applies_to = Selection {
            product_ids: [ProductId::new()].into(),
            categories: ["tea".to_owned()].into(),
            tags: ["green".to_owned()].into(),
        };
        promotion.min_subtotal = Some(price("20"));
        (promotion.starts_at, promotion.ends_at) = (Some(TIME), Some(now()));
        (promotion.usage_limit, promotion.per_customer_limit) = (Some(100), Some(1));
        (promotion.combinable, promotion.priority, promotion.active) = (true, -7, false);
    }
    vec![
        promotion(Some("TEN")),
        with(Effect::AmountOff(price("5")), "Amount"),
        with(Effect::FreeShipping, "Shipping"),
        full,
    ]
}

fn put(rule: &RuleRecord) -> Commit {
    let rule = Arc::new(rule.clone());
    Commit {
        events: vec![DomainEvent::PricingRule(Arc::clone(&rule))],
        ..commit([Write::PricingRule(rule)])
    }
}

async fn rules(store: &dyn Store) -> Vec<RuleRecord> {
    let mut found = store.list_pricing_rules().await.unwrap();
    found.sort_by_key(|rule| rule.id);
    found
}

pub(crate) async fn pricing_rules_round_trip(harness: &dyn Harness) {
    let store = harness.open().await;
    assert_eq!(rules(&*store).await, []);
    let mut full = method("Parcel \"x\"");
    if let Rule::ShippingMethod(method) = &mut full.rule {
        method.countries = Some(["AT", "DE"].map(str::to_owned).into());
        method.free_from = Some(price("50"));
        method.per_kg = Some(price("0.25"));
        method.active = false;
    }
    let bare = method("");
    let mut regional = rate("US", Some("food"));
    if let Rule::TaxRate(rate) = &mut regional.rule {
        rate.region = Some("NY".into());
    }
    let deleted = rate("DE", None);
    let promotions = promotions();
    for rule in [&full, &bare, &regional, &deleted].into_iter().chain(&promotions) {
        apply_one(&*store, put(rule)).await.unwrap();
    }
    let deleted = deleted.to_deleted(Timestamp::from_millis(1_767_225_600_124));
    apply_one(&*store, put(&deleted)).await.unwrap();
    store.close().await;
    let store = harness.open().await;
    let mut expected = [vec![full.clone(), bare, regional, deleted.clone()], promotions].concat();
    expected.sort_by_key(|rule| rule.id);
    assert_eq!(rules(&*store).await, expected);
    assert_eq!(store.find_pricing_rule(deleted.id).await, Ok(Some(deleted)));
    assert_eq!(store.find_pricing_rule(full.id).await, Ok(Some(full.clone())));
    assert_eq!(store.find_pricing_rule(RuleId::new()).await, Ok(None));
    assert_eq!(apply_one(&*store, put(&full)).await, Err(CommitError::Conflict));
}

pub(crate) async fn unique_keys_belong_to_one_rule(harness: &dyn Harness) {
    let store = harness.open().await;
    let taken = Err(CommitError::RuleExists(RuleKind::TaxRate));
    let (all, food) = (rate("DE", None), rate("DE", Some("food")));
    for rule in [&all, &food] {
        apply_one(&*store, put(rule)).await.unwrap();
    }
    assert_eq!(apply_one(&*store, put(&rate("DE", None))).await, taken);
    let other = rate("AT", None);
    let outcomes = apply(&*store, [put(&other), put(&rate("AT", None))]).await.outcomes;
    assert_eq!((outcomes[0].is_ok(), &outcomes[1]), (true, &taken), "within a batch");
    // A deleted rate frees its key, in the same batch, too.
    let again = rate("DE", None);
    let outcomes = apply(&*store, [put(&all.to_deleted(now())), put(&again)]).await.outcomes;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(apply_one(&*store, put(&rate("DE", None))).await, taken);
    let code = Err(CommitError::RuleExists(RuleKind::Promotion));
    apply_one(&*store, put(&promotion(Some("Ten")))).await.unwrap();
    assert_eq!(apply_one(&*store, put(&promotion(Some("tEN")))).await, code);
    for _ in 0..2 {
        apply_one(&*store, put(&promotion(None))).await.unwrap();
    }
    // A rate may keep its key.
    let changed = RuleRecord { version: 2, ..again };
    apply_one(&*store, put(&changed)).await.unwrap();
}

pub(crate) async fn commits_can_depend_on_the_rules(harness: &dyn Harness) {
    let store = harness.open().await;
    let depending = |version| Commit {
        conditions: vec![Condition::PricingRulesUnchanged(version)],
        ..commit([put_cart(&cart(customer(), 1))])
    };
    apply_one(&*store, depending(0)).await.unwrap();
    let parcel = method("Parcel");
    apply_one(&*store, put(&parcel)).await.unwrap();
    apply_one(&*store, put(&parcel.to_deleted(now()))).await.unwrap();
    apply_one(&*store, put(&rate("DE", None))).await.unwrap();
    for outdated in [0, 1, 2, 4] {
        let outcome = apply_one(&*store, depending(outdated)).await;
        assert_eq!(outcome, Err(CommitError::Conflict), "{outdated}");
    }
    apply_one(&*store, depending(3)).await.unwrap();
    // Of a batch, those before a change hold.
    let batch = [depending(3), put(&method("Post")), depending(3), depending(4)];
    let outcomes = apply(&*store, batch).await.outcomes;
    let held: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(held, [true, true, false, true], "{outcomes:?}");
}

pub(crate) async fn changes_of_rules_are_told_to_caches(harness: &dyn Harness) {
    let store = harness.open().await;
    let before = store.outbox_heads().await.unwrap();
    let parcel = method("Parcel");
    let applied = apply(&*store, [put(&parcel)]).await;
    assert_eq!(applied.changes.pricing_rules, [Arc::new(parcel.clone())]);
    apply_one(&*store, put(&parcel.to_deleted(now()))).await.unwrap();
    let page = store.list_events_after(&before, 10).await.unwrap();
    let kinds: Vec<_> = page.events.iter().map(|event| event.kind.as_str()).collect();
    let prefix = "pricing.shipping_method";
    assert_eq!(kinds, [format!("{prefix}.created"), format!("{prefix}.deleted")]);
    let told = store.list_changes_after(&before, 10).await.unwrap().changes;
    let change = |version| CacheChange::PricingRule { id: parcel.id, version };
    assert_eq!(told, [change(1), change(2)]);
}

#[tokio::test]
async fn two_nodes_give_a_unique_key_once() {
    let Some(mongo) = Mongo::new().await else { return };
    let ((here, first), (there, second)) = (start_node(&mongo).await, start_node(&mongo).await);
    for country in ["AT", "BE", "CH", "DE", "ES", "FR", "GB", "HU"] {
        let commits = vec![
            (first.clone(), put(&rate(country, None))),
            (second.clone(), put(&rate(country, None))),
        ];
        let outcomes = commit_concurrently(commits).await;
        let applied = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let taken = Err(CommitError::RuleExists(RuleKind::TaxRate));
        assert_eq!((applied, outcomes.contains(&taken)), (1, true), "{country}: {outcomes:?}");
    }
    assert_eq!(here.list_pricing_rules().await.unwrap().len(), 8);
    here.close().await;
    there.close().await;
    mongo.drop_database().await;
}
