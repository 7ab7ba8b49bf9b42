//! Orders: lists and their filters.

use std::time::Duration;

use souk::domain::{
    ids::{OrderId, UserId},
    order::{Order, OrderFilter, OrderNumber, OrderStatus},
};

use crate::{
    fixtures::{apply, commit, now, order, put_order, shipped_order},
    harness::Harness,
};

pub(crate) async fn orders_are_paged_newest_first(harness: &dyn Harness) {
    let store = harness.open().await;
    let (ada, bob) = (UserId::new(), UserId::new());
    let all: Vec<Order> = (0..25).map(|n| order(if n % 3 == 0 { bob } else { ada })).collect();
    // Written in another order than placed.
    apply(&*store, all.iter().rev().map(|order| commit([put_order(order)]))).await;
    for of in [None, Some(ada), Some(bob), Some(UserId::new())] {
        let (mut read, mut before) = (Vec::new(), None);
        loop {
            let filter = OrderFilter { user_id: of, ..OrderFilter::default() };
            let page = store.list_orders(filter, before, 4).await.unwrap();
            assert!(page.len() <= 4);
            let Some(last) = page.last() else { break };
            before = Some(last.id);
            read.extend(page);
        }
        let mut expected: Vec<&Order> =
            all.iter().filter(|order| of.is_none_or(|user| order.user_id == user)).collect();
        expected.reverse();
        assert_eq!(read.iter().collect::<Vec<_>>(), expected);
    }
    assert_eq!(store.list_orders(OrderFilter::default(), None, 0).await, Ok(vec![]));
}

pub(crate) async fn orders_are_filtered(harness: &dyn Harness) {
    let store = harness.open().await;
    let start = now();
    let users = [UserId::new(), UserId::new()];
    let all: Vec<Order> = (0..40_u8)
        .map(|n| {
            let status = OrderStatus::ALL[usize::from(n) % OrderStatus::ALL.len()];
            let buyer = users[usize::from(n % 3 == 0)];
            let order = match status {
                OrderStatus::Fulfilled => shipped_order(buyer),
                _ => order(buyer),
            };
            let placed_at = start.saturating_add(Duration::from_secs(u64::from(n)));
            Order { status, placed_at, ..order }
        })
        .collect();
    apply(&*store, all.iter().map(|order| commit([put_order(order)]))).await;
    let at = |seconds| start.saturating_add(Duration::from_secs(seconds));
    let mut filters = vec![
        OrderFilter { placed_from: Some(at(30)), ..OrderFilter::default() },
        OrderFilter { placed_to: Some(at(5)), ..OrderFilter::default() },
        OrderFilter {
            placed_from: Some(at(10)),
            placed_to: Some(at(20)),
            status: Some(OrderStatus::Paid),
            ..OrderFilter::of_user(users[0])
        },
        OrderFilter { number: Some(OrderNumber::of(OrderId::new())), ..OrderFilter::default() },
    ];
    for &status in OrderStatus::ALL {
        filters.push(OrderFilter { status: Some(status), ..OrderFilter::default() });
        filters.push(OrderFilter { status: Some(status), ..OrderFilter::of_user(users[1]) });
    }
    for order in &all {
        filters.push(OrderFilter { number: Some(order.number()), ..OrderFilter::default() });
    }
    for filter in filters {
        let matching: Vec<Order> =
            all.iter().rev().filter(|order| filter.matches(order)).cloned().collect();
        assert_eq!(
            store.list_orders(filter.clone(), None, 100).await.as_ref(),
            Ok(&matching),
            "{filter:?}"
        );
        let first: Vec<Order> = matching.into_iter().take(2).collect();
        assert_eq!(store.list_orders(filter.clone(), None, 2).await, Ok(first), "{filter:?}");
    }
}
