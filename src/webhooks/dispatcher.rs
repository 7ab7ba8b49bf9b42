//! Decides which endpoints this node delivers to, and runs their tasks.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    endpoint::{Endpoint, EndpointDeps, EndpointSignals},
    endpoint_stats::EndpointStats,
};
use crate::{
    domain::{ids::WebhookId, webhook::Webhook},
    panics::{catch_panic, guarded_tick},
    store::{
        StoreUnavailable,
        webhook_store::{WEBHOOK_SHARDS, WebhookHeads, webhook_shard},
    },
};

/// How often the node looks for changes, and renews its leases.
const INTERVAL: Duration = Duration::from_millis(500);

/// How long a lease lasts. When a node dies, another one takes over after this time and a look.
const LEASE: Duration = Duration::from_millis(2500);

/// How much earlier the node itself stops to begin attempts, should it not be able to renew.
const LEASE_MARGIN: Duration = Duration::from_millis(500);

/// How long the tasks may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// From this many endpoints on, all of them are read at once.
const FEW: usize = 8;

/// The endpoints on a page.
const PAGE_SIZE: u32 = 100;

/// The endpoints that have a metric of their own: those that have waited for longest.
const MAX_MEASURED: usize = 10;

/// How often what is left of deleted endpoints is looked for.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// The pause between two deletions.
const CLEANUP_PAUSE: Duration = Duration::from_millis(100);

/// An endpoint that this node delivers to.
struct Running {
    version: u64,
    webhook: watch::Sender<Arc<Webhook>>,
    requested: Arc<Notify>,
    stats: Arc<EndpointStats>,
    task: JoinHandle<()>,
}

/// The endpoints of a node.
pub(super) struct Dispatcher {
    deps: Arc<EndpointDeps>,
    running: HashMap<WebhookId, Running>,
    /// Tasks that were told to stop.
    stopping: HashMap<WebhookId, JoinHandle<()>>,
    lease: watch::Sender<Instant>,
    /// Shards that are being handed to other nodes.
    releasing: Arc<Mutex<BTreeSet<u32>>>,
    has_leases: bool,
    cleaned_up_at: Option<Instant>,
    known: HashSet<WebhookId>,
}

impl Dispatcher {
    pub(super) fn new(deps: Arc<EndpointDeps>) -> Self {
        Self {
            deps,
            running: HashMap::new(),
            stopping: HashMap::new(),
            lease: watch::channel(Instant::now()).0,
            releasing: Arc::default(),
            has_leases: false,
            cleaned_up_at: None,
            known: HashSet::new(),
        }
    }

    /// Runs until `stopped` is closed.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<()>) {
        loop {
            // The store has logged a failure. Without leases that are renewed, attempts end soon.
            let _ = guarded_tick("webhooks", self.tick()).await;
            // Random, so that nodes do not look at the same time.
            let pause = INTERVAL.mul_f64(rand::random_range(0.8..=1.0));
            tokio::select! {
                _ = stopped.changed() => break,
                () = sleep(pause) => {}
            }
        }
        let running = self.running.drain().map(|(_, running)| running.task);
        let tasks = running.chain(self.stopping.drain().map(|(_, task)| task)).collect();
        wait_for_all(tasks).await;
        if self.has_leases {
            let shards = (0..WEBHOOK_SHARDS).collect();
            // If it fails, the leases end by themselves.
            let _ = self.deps.store.release_webhook_leases(self.deps.node, shards).await;
        }
    }

    async fn tick(&mut self) -> Result<(), StoreUnavailable> {
        let heads = self.deps.store.list_webhook_heads().await?;
        self.clean_up_if_due(&heads);
        if heads.webhooks.is_empty() && self.running.is_empty() {
            // A shop without endpoints has no leases.
            return Ok(());
        }
        let began = Instant::now();
        let leases = self.deps.store.renew_webhook_leases(self.deps.node, LEASE).await?;
        self.has_leases = true;
        self.lease.send_replace(began + LEASE - LEASE_MARGIN);
        let mut shards: BTreeSet<u32> = leases.shards.into_iter().collect();
        for releasing in self.lock_releasing().iter() {
            shards.remove(releasing);
        }
        let excess: Vec<u32> = shards.iter().copied().skip(leases.fair_share).collect();
        for shard in &excess {
            shards.remove(shard);
        }
        let mut released = Vec::new();
        let wanted: HashMap<WebhookId, u64> = heads
            .webhooks
            .into_iter()
            .filter(|(id, _)| shards.contains(&webhook_shard(*id)))
            .collect();
        self.running.retain(|id, running| {
            let is_wanted = wanted.contains_key(id) && !running.task.is_finished();
            if !is_wanted {
                let task = std::mem::replace(&mut running.task, tokio::spawn(async {}));
                match excess.contains(&webhook_shard(*id)) {
                    true => released.push(task),
                    false => drop(self.stopping.insert(*id, task)),
                }
            }
            is_wanted
        });
        self.stopping.retain(|_, task| !task.is_finished());
        self.release(excess, released);
        self.update(&wanted).await?;
        for id in heads.requested {
            if let Some(running) = self.running.get(&id) {
                running.requested.notify_one();
            }
        }
        self.report();
        Ok(())
    }

    fn lock_releasing(&self) -> std::sync::MutexGuard<'_, BTreeSet<u32>> {
        self.releasing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands shards to other nodes, once the tasks of their endpoints have ended.
    fn release(&self, shards: Vec<u32>, tasks: Vec<JoinHandle<()>>) {
        if shards.is_empty() {
            return;
        }
        self.lock_releasing().extend(&shards);
        let (deps, releasing) = (Arc::clone(&self.deps), Arc::clone(&self.releasing));
        tokio::spawn(async move {
            wait_for_all(tasks).await;
            // If it fails, they are released again.
            let _ = deps.store.release_webhook_leases(deps.node, shards.clone()).await;
            let mut releasing = releasing.lock().unwrap_or_else(PoisonError::into_inner);
            for shard in &shards {
                releasing.remove(shard);
            }
        });
    }

    /// Starts the tasks of new endpoints, and tells the others of changes.
    async fn update(&mut self, wanted: &HashMap<WebhookId, u64>) -> Result<(), StoreUnavailable> {
        let is_known = |id: &WebhookId, version: &u64| {
            self.running.get(id).is_some_and(|running| running.version >= *version)
        };
        let changed: Vec<WebhookId> = wanted
            .iter()
            .filter(|(id, version)| !is_known(id, version))
            .map(|(id, _)| *id)
            .collect();
        for webhook in self.read(changed).await? {
            let webhook = Arc::new(webhook);
            match self.running.get_mut(&webhook.id) {
                Some(running) => {
                    running.version = webhook.version;
                    running.webhook.send_replace(webhook);
                }
                // It may still write what it has done. The next tick starts another one.
                None if self.stopping.contains_key(&webhook.id) => {}
                None => {
                    let running = self.start(Arc::clone(&webhook));
                    self.running.insert(webhook.id, running);
                }
            }
        }
        Ok(())
    }

    async fn read(&self, ids: Vec<WebhookId>) -> Result<Vec<Webhook>, StoreUnavailable> {
        let mut found = Vec::with_capacity(ids.len());
        if ids.len() <= FEW {
            for id in ids {
                found.extend(self.deps.store.find_webhook(id).await?);
            }
            return Ok(found);
        }
        let ids: HashSet<WebhookId> = ids.into_iter().collect();
        let mut before = None;
        loop {
            let page = self.deps.store.list_webhooks(before, PAGE_SIZE).await?;
            let Some(last) = page.last() else { return Ok(found) };
            before = Some(last.id);
            found.extend(page.into_iter().filter(|webhook| ids.contains(&webhook.id)));
        }
    }

    fn start(&self, webhook: Arc<Webhook>) -> Running {
        let version = webhook.version;
        let (sender, receiver) = watch::channel(webhook);
        let (requested, stats) = (Arc::new(Notify::new()), Arc::new(EndpointStats::default()));
        let signals = EndpointSignals {
            webhook: receiver,
            requested: Arc::clone(&requested),
            lease: self.lease.subscribe(),
        };
        let (deps, its_stats) = (Arc::clone(&self.deps), Arc::clone(&stats));
        let task = tokio::spawn(async move {
            let deliver = async {
                if let Some(endpoint) = Endpoint::open(deps, signals, its_stats).await {
                    endpoint.run().await;
                }
            };
            // The next tick starts it anew.
            catch_panic(deliver, || tracing::error!("the task of a webhook panicked")).await;
        });
        Running { version, webhook: sender, requested, stats, task }
    }

    fn report(&self) {
        let now = self.deps.clock.now();
        let mut oldest: Vec<(String, Duration)> = self
            .running
            .iter()
            .filter_map(|(id, running)| {
                let since = running.stats.undelivered_since()?;
                let millis = now.as_millis().saturating_sub(since.as_millis());
                Some((id.to_string(), Duration::from_millis(u64::try_from(millis).unwrap_or(0))))
            })
            .collect();
        oldest.sort_unstable_by_key(|(_, age)| std::cmp::Reverse(*age));
        oldest.truncate(MAX_MEASURED);
        let waiting = self.running.values().map(|running| running.stats.waiting()).sum();
        self.deps.metrics.set(self.running.len(), waiting, &oldest);
    }

    /// Deletes what is left of deleted endpoints: after one was deleted, and once in a while.
    fn clean_up_if_due(&mut self, heads: &WebhookHeads) {
        let known: HashSet<WebhookId> = heads.webhooks.iter().map(|(id, _)| *id).collect();
        let is_deleted = self.known.iter().any(|id| !known.contains(id));
        self.known = known;
        let is_due = self.cleaned_up_at.is_none_or(|at| at.elapsed() >= CLEANUP_INTERVAL);
        if !is_deleted && !is_due {
            return;
        }
        self.cleaned_up_at = Some(Instant::now());
        let store = Arc::clone(&self.deps.store);
        tokio::spawn(async move {
            // The tasks of the endpoint may write until they have ended.
            sleep(STOP_TIMEOUT).await;
            while store.delete_webhook_remains().await.is_ok_and(|deleted| deleted > 0) {
                sleep(CLEANUP_PAUSE).await;
            }
        });
    }
}

async fn wait_for_all(tasks: Vec<JoinHandle<()>>) {
    let all = async {
        for task in tasks {
            drop(task.await);
        }
    };
    drop(timeout(STOP_TIMEOUT, all).await);
}
