//! Asks the payment provider what the payments of orders make necessary.
//!
//! A task is a part of its order and is stored with the change that makes it necessary. Every node
//! polls for tasks. A node claims one by moving the time at which it is due, and keeps moving it
//! while it asks, so that no other node asks at the same time. If the node dies, the task is due
//! again within seconds.

use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use rand::seq::SliceRandom;

use super::OrderService;
use crate::{
    domain::{
        clock::Timestamp,
        ids::OrderId,
        order::Order,
        payment::{ProviderTask, ProviderUpdate, look_up_pause},
    },
    error::{Error, ErrorCode},
    messages::command_context::Ticket,
    panics::{catch_panic, guarded_tick},
    payments::{PaymentProvider, PaymentRequest, ProviderError},
    store::StoreUnavailable,
};

/// The longest pause between two polls.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// How long a claim lasts. When a node is gone, others wait so long.
const CLAIM: Duration = Duration::from_secs(3);

/// How often a node that still asks renews its claim.
const RENEW_INTERVAL: Duration = Duration::from_secs(1);

/// The pause before a task is tried again that the provider did not answer.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// The pause before a task is tried again that the provider refuses.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// The tasks that a poll reads at most.
const PAGE_SIZE: u32 = 128;

/// The most requests to the provider at a time.
const MAX_CONCURRENT: usize = 32;

/// The pause between two looks for a payment that another node begins.
const BEGIN_PAUSE: Duration = Duration::from_millis(100);

/// The time that is left to answer a buyer when the provider has not answered.
const ANSWER_MARGIN: Duration = Duration::from_millis(500);

/// A task that this node may carry out until then.
struct Claim {
    order: Order,
    until: Timestamp,
}

/// What became of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TaskOutcome {
    /// The provider answered.
    Answered,
    /// The provider refuses it.
    Refused,
    /// The provider did not answer.
    Unavailable,
    /// Another node has it, or the store failed.
    Skipped,
}

/// The tasks of this node.
struct Work<'a> {
    running: FuturesUnordered<LocalBoxFuture<'a, (OrderId, TaskOutcome)>>,
    orders: HashSet<OrderId>,
    waiting: VecDeque<Order>,
    /// Whether the provider did not answer last. Then one task at a time finds out when it is back.
    is_away: bool,
}

impl OrderService {
    /// Carries out the tasks of the payment provider. Never returns, unless there is no provider.
    pub async fn run_payment_loop(self) {
        let Some(provider) = self.provider.clone() else { return };
        let mut work = Work {
            running: FuturesUnordered::new(),
            orders: HashSet::new(),
            waiting: VecDeque::new(),
            is_away: false,
        };
        loop {
            // Random, so that nodes do not poll at the same time.
            let pause = POLL_INTERVAL.mul_f64(rand::random_range(0.5..=1.0));
            let mut pause = std::pin::pin!(tokio::time::sleep(pause));
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    Some(done) = work.running.next() => {
                        self.finish_task(&*provider, &mut work, done);
                    }
                }
            }
            let polled = guarded_tick("payments", self.poll_tasks(&mut work)).await;
            if polled == Some(Ok(())) {
                self.start_tasks(&*provider, &mut work);
            }
        }
    }

    fn finish_task<'a>(
        &'a self,
        provider: &'a dyn PaymentProvider,
        work: &mut Work<'a>,
        (order, outcome): (OrderId, TaskOutcome),
    ) {
        work.orders.remove(&order);
        match outcome {
            TaskOutcome::Unavailable => {
                work.is_away = true;
                // Others are not tried at once, only to fail.
                work.waiting.clear();
            }
            TaskOutcome::Answered | TaskOutcome::Refused => work.is_away = false,
            TaskOutcome::Skipped => {}
        }
        self.start_tasks(provider, work);
    }

    /// Reads which tasks are due.
    async fn poll_tasks(&self, work: &mut Work<'_>) -> Result<(), StoreUnavailable> {
        let now = self.clock.now();
        let due = self.store.list_due_payments(now, PAGE_SIZE).await?;
        let waiting = match due.is_empty() {
            true => 0,
            false => self.store.count_due_payments(now).await?,
        };
        self.payment_metrics.set_waiting(waiting);
        let mut due: Vec<Order> =
            due.into_iter().filter(|order| !work.orders.contains(&order.id)).collect();
        // So that nodes do not compete for the same ones.
        due.shuffle(&mut rand::rng());
        work.waiting = due.into();
        Ok(())
    }

    fn start_tasks<'a>(&'a self, provider: &'a dyn PaymentProvider, work: &mut Work<'a>) {
        let most = if work.is_away { 1 } else { MAX_CONCURRENT };
        while work.running.len() < most {
            let Some(order) = work.waiting.pop_front() else { return };
            let id = order.id;
            work.orders.insert(id);
            let task = async move {
                let on_panic = || {
                    tracing::error!(order = %id, "the payment task of an order panicked");
                    TaskOutcome::Skipped
                };
                (id, catch_panic(self.try_task(provider, order), on_panic).await)
            };
            work.running.push(task.boxed_local());
        }
    }

    async fn try_task(&self, provider: &dyn PaymentProvider, order: Order) -> TaskOutcome {
        match self.claim(order).await {
            Some(claim) => self.carry_out(provider, claim).await,
            None => TaskOutcome::Skipped,
        }
    }

    /// Claims the task of an order. `None` if it is not due, or another node is faster.
    async fn claim(&self, order: Order) -> Option<Claim> {
        let now = self.clock.now();
        let due = order.payment.provider.as_ref()?.due_at.filter(|due| *due <= now)?;
        let until = now.saturating_add(CLAIM);
        let claimed = self.store.move_payment_due(order.id, due, until).await;
        claimed.unwrap_or(false).then_some(Claim { order, until })
    }

    /// Carries out a claimed task, and says when the next one is due.
    async fn carry_out(&self, provider: &dyn PaymentProvider, mut claim: Claim) -> TaskOutcome {
        let order = claim.order.clone();
        let answer = self.ask_and_renew(provider, &order, &mut claim).await;
        let now = self.clock.now();
        let (pause, outcome) = match answer {
            Ok(Some(update)) => match self.apply_provider_update(order.id, &update).await {
                Ok(true) => return TaskOutcome::Answered,
                Ok(false) => (look_up_pause(order.age(now)), TaskOutcome::Answered),
                Err(error) => {
                    tracing::warn!(order = %order.id, %error, "failed to store a payment");
                    return TaskOutcome::Skipped;
                }
            },
            Ok(None) => (look_up_pause(order.age(now)), TaskOutcome::Answered),
            Err(error) => {
                self.payment_metrics.record_failure();
                tracing::warn!(order = %order.id, %error, "failed to ask the provider; retrying");
                match error {
                    ProviderError::Unavailable(_) => (RETRY_PAUSE, TaskOutcome::Unavailable),
                    ProviderError::Refused(_) => (REFUSED_PAUSE, TaskOutcome::Refused),
                }
            }
        };
        // If it fails, the claim ends, and the provider is asked again.
        let next = now.saturating_add(pause);
        let _ = self.store.move_payment_due(order.id, claim.until, next).await;
        outcome
    }

    async fn ask_and_renew(
        &self,
        provider: &dyn PaymentProvider,
        order: &Order,
        claim: &mut Claim,
    ) -> Result<Option<ProviderUpdate>, ProviderError> {
        let mut answer = std::pin::pin!(ask_provider(provider, order, self.clock.now()));
        loop {
            tokio::select! {
                answer = &mut answer => return answer,
                () = tokio::time::sleep(RENEW_INTERVAL) => {
                    let until = self.clock.now().saturating_add(CLAIM);
                    let renewed = self.store.move_payment_due(order.id, claim.until, until).await;
                    if renewed == Ok(true) {
                        claim.until = until;
                    }
                }
            }
        }
    }

    /// Begins the payment of an order, if it is not begun. Returns the order.
    ///
    /// # Errors
    /// `provider_unavailable`
    pub(super) async fn begin_payment(
        &self,
        order_id: OrderId,
        ticket: &Ticket,
    ) -> Result<Order, Error> {
        let deadline = ticket.deadline().checked_sub(ANSWER_MARGIN).unwrap_or_else(Instant::now);
        loop {
            let found = self.store.find_order(order_id).await?;
            let order = found.ok_or_else(Error::order_not_found)?;
            if !order.payment.is_to_begin() {
                return Ok(order);
            }
            let Some(provider) = self.provider.clone() else {
                return Err(provider_unavailable());
            };
            match self.claim(order).await {
                Some(claim) => {
                    // A task of its own, which goes on when the buyer is answered.
                    let service = self.clone();
                    let work = async move { service.carry_out(&*provider, claim).await };
                    let work = tokio::task::spawn_local(work);
                    match tokio::time::timeout_at(deadline.into(), work).await {
                        Ok(Ok(TaskOutcome::Answered)) => {}
                        _ => return Err(provider_unavailable()),
                    }
                }
                None if Instant::now() + BEGIN_PAUSE >= deadline => {
                    return Err(provider_unavailable());
                }
                None => tokio::time::sleep(BEGIN_PAUSE).await,
            }
        }
    }
}

/// Asks the provider what the order's payment waits for. `None` if nothing has changed.
async fn ask_provider(
    provider: &dyn PaymentProvider,
    order: &Order,
    now: Timestamp,
) -> Result<Option<ProviderUpdate>, ProviderError> {
    match order.payment.provider_task() {
        None => Ok(None),
        Some(ProviderTask::Begin { attempt }) => {
            let request = PaymentRequest {
                order_id: order.id,
                number: order.number(),
                amount: order.payment.amount,
                attempt,
            };
            match provider.begin(request).await {
                // There is nothing to call off.
                Err(ProviderError::Refused(_)) if !order.payment.is_to_begin() => {
                    Ok(Some(ProviderUpdate::BeginRefused { attempt }))
                }
                answer => answer.map(Some),
            }
        }
        Some(ProviderTask::CallOff { intent }) => provider.call_off(&intent).await,
        Some(ProviderTask::GiveBack { intent }) => provider.give_back(&intent).await.map(Some),
        Some(ProviderTask::LookUp { intent }) => provider.look_up(&intent).await,
        Some(ProviderTask::Refund(task)) => provider.refund(&task, now).await.map(Some),
        Some(ProviderTask::LookUpRefund { id }) => provider.look_up_refund(&id).await.map(Some),
    }
}

fn provider_unavailable() -> Error {
    let detail = "The payment provider does not answer. Ask again shortly.";
    Error::new(ErrorCode::ProviderUnavailable, detail).with_retry_after(RETRY_PAUSE.as_secs())
}
