//! Sends the mails that commits have recorded.
//!
//! Every node looks for mails that are due, and claims each before it sends it, by a commit that
//! only one node can win. So a mail is sent by one node at a time, and when that node is gone, by
//! another one after its claim has ended. Nothing waits for the SMTP server but the mails
//! themselves.

mod delivery;
mod message;
mod order_variables;
mod smtp;
mod templates;

use std::{collections::HashSet, path::PathBuf, sync::Arc, time::Duration};

use lettre::message::Mailbox;
use rand::seq::SliceRandom;
use tokio::{
    runtime::Handle,
    sync::watch,
    task::{JoinError, JoinHandle, JoinSet},
};

pub use self::templates::TemplateError;
use self::{delivery::Delivery, smtp::SmtpClient, templates::Templates};
use crate::{
    config::MailServer,
    domain::{clock::Clock, ids::MailId, mail::Mail},
    metrics::mail::MailMetrics,
    panics::{catch_panic, guarded_tick},
    store::{Store, writer::CommitWriter},
};

/// The longest pause between two looks for mails. A look does not follow the commit of a mail at
/// once: then requests that come right after it would tell whether an address has an account, by
/// the work that sending the mail is.
const INTERVAL: Duration = Duration::from_millis(500);

/// The mails that a node sends at the same time.
const MAX_PARALLEL: usize = 8;

/// The mails that a look reads. More than a node sends, so that nodes choose different ones.
const PAGE: u32 = 64;

/// How long mails that are being sent may take when the node stops. What takes longer is sent again
/// by another node.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How mails are sent.
pub struct MailOptions {
    /// The SMTP server.
    pub server: MailServer,
    /// The sender, as an address or as `Name <address>`.
    pub from: String,
    /// The shop's name, if the sender has none.
    pub shop_name: Option<String>,
    /// The URL that links begin with.
    pub link_base: String,
    /// The authorities that may sign the server's certificate, as PEM.
    pub ca_certificates: Option<Vec<u8>>,
    /// The waits between attempts to send a mail.
    pub retry_schedule: Vec<Duration>,
    /// The longest time of an attempt.
    pub timeout: Duration,
    /// The folder of templates that replace the built-in ones.
    pub templates: Option<PathBuf>,
    /// Mails per hour to one account that somebody asked for; 0 allows any number.
    pub request_limit: u32,
}

/// What mails are sent with.
pub struct MailDeps {
    /// The store that mails are read from.
    pub store: Arc<dyn Store>,
    /// Writes commits to the store.
    pub writer: CommitWriter,
    /// Says which mails are due.
    pub clock: Arc<dyn Clock>,
    /// Counts what is sent.
    pub metrics: MailMetrics,
}

/// Options that mails cannot be sent with.
#[derive(Debug, thiserror::Error)]
pub enum MailSetupError {
    /// The sender is not valid.
    #[error("mail.from: {0:?} is not a valid sender")]
    InvalidSender(String),
    /// A template is not valid.
    #[error("mail.templates: {0}")]
    Template(#[from] TemplateError),
    /// The certificates are not valid.
    #[error("mail.ca_file: {0}")]
    Certificates(String),
}

/// Sends mails until it is stopped.
pub struct MailSender {
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl MailSender {
    /// Starts to send mails, on `runtime`.
    ///
    /// # Errors
    /// The options are not valid.
    pub fn start(
        options: MailOptions,
        deps: MailDeps,
        runtime: &Handle,
    ) -> Result<Self, MailSetupError> {
        let delivery = Arc::new(build_delivery(options, deps)?);
        let (stop, stopped) = watch::channel(());
        let task = runtime.spawn(run(delivery, stopped));
        Ok(Self { stop, task })
    }

    /// Stops. Waits for mails that are being sent, though not for long.
    pub async fn stop(self) {
        drop(self.stop);
        if self.task.await.is_err() {
            tracing::error!("the mail sender failed; this is a bug in souk");
        }
    }
}

fn build_delivery(options: MailOptions, deps: MailDeps) -> Result<Delivery, MailSetupError> {
    let from: Mailbox =
        options.from.parse().map_err(|_| MailSetupError::InvalidSender(options.from.clone()))?;
    let certificates = options.ca_certificates.as_deref();
    let smtp = SmtpClient::new(options.server, certificates, from.email.domain(), options.timeout)
        .map_err(|error| MailSetupError::Certificates(error.to_string()))?;
    let MailDeps { store, writer, clock, metrics } = deps;
    Ok(Delivery {
        store,
        writer,
        clock,
        metrics,
        smtp,
        templates: Templates::load(options.templates.as_deref())?,
        shop: (from.name.clone().or(options.shop_name))
            .unwrap_or_else(|| from.email.domain().to_owned()),
        from,
        link_base: options.link_base.trim_end_matches('/').to_owned(),
        retry_schedule: options.retry_schedule,
        timeout: options.timeout,
        request_limit: options.request_limit,
    })
}

/// Sends mails until `stopped` is closed.
async fn run(delivery: Arc<Delivery>, mut stopped: watch::Receiver<()>) {
    let mut in_flight = InFlight::default();
    loop {
        // Random, so that nodes do not look at the same time.
        let pause = INTERVAL.mul_f64(rand::random_range(0.5..=1.0));
        tokio::select! {
            _ = stopped.changed() => break,
            () = tokio::time::sleep(pause) => {}
        }
        // While there are more mails, the next one follows as soon as one is sent.
        while guarded_tick("mail", in_flight.send_due(&delivery)).await == Some(true) {
            tokio::select! {
                _ = stopped.changed() => break,
                has_progress = in_flight.wait_for_one() => if !has_progress { break },
            }
        }
    }
    // What is left is dropped with the tasks.
    drop(tokio::time::timeout(STOP_TIMEOUT, in_flight.wait_for_all()).await);
}

/// The mails that this node sends at the moment.
#[derive(Default)]
struct InFlight {
    mails: HashSet<MailId>,
    /// Each returns whether its mail is due no longer.
    tasks: JoinSet<(MailId, bool)>,
}

impl InFlight {
    /// Begins to send as many mails as there is room for. Returns whether there are more.
    async fn send_due(&mut self, delivery: &Arc<Delivery>) -> bool {
        while let Some(done) = self.tasks.try_join_next() {
            self.forget(done);
        }
        let room = MAX_PARALLEL.saturating_sub(self.tasks.len());
        if room == 0 {
            return true;
        }
        // The store has logged a failure.
        let due = delivery.store.list_due_mails(delivery.clock.now(), PAGE).await;
        let mut due: Vec<Mail> = due.unwrap_or_default();
        due.retain(|mail| !self.mails.contains(&mail.id));
        let has_more = due.len() > room;
        due.shuffle(&mut rand::rng());
        for mail in due.into_iter().take(room) {
            self.mails.insert(mail.id);
            let delivery = Arc::clone(delivery);
            self.tasks.spawn(async move {
                let id = mail.id;
                let on_panic = || {
                    tracing::error!(%id, "the delivery of a mail panicked");
                    false
                };
                (id, catch_panic(delivery.deliver(&mail), on_panic).await)
            });
        }
        has_more
    }

    fn forget(&mut self, done: Result<(MailId, bool), JoinError>) -> bool {
        let Ok((id, has_progress)) = done else { return false };
        self.mails.remove(&id);
        has_progress
    }

    /// Waits until one of the mails is sent or has failed. Returns whether it is due no longer.
    async fn wait_for_one(&mut self) -> bool {
        match self.tasks.join_next().await {
            Some(done) => self.forget(done),
            None => false,
        }
    }

    async fn wait_for_all(&mut self) {
        while let Some(done) = self.tasks.join_next().await {
            self.forget(done);
        }
    }
}
