//! One trace over two nodes and the broker.

use futures_util::future::join_all;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::json;

use crate::{
    amqp_client::{AmqpClient, COMMANDS},
    audit_queue::AuditQueue,
    broker::shared_uri,
    cluster::Cluster,
    collector::{Collector, Protocol, ReceivedSpan, hex},
    shared_replica_set,
    takeover::find_relay,
};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER_ID: &str = "00f067aa0ba902b7";

/// Two nodes with a broker that send their traces to a collector.
pub(crate) async fn traced_cluster(
    settings: &[(&str, &str)],
) -> Option<(Cluster, Collector, String)> {
    let (set, uri) = (shared_replica_set::uri().await?, shared_uri()?);
    let collector = Collector::start(Protocol::Grpc).await;
    let endpoint = collector.endpoint();
    let usual = [
        ("broker.kind", "rabbitmq"),
        ("broker.uri", &*uri),
        ("telemetry.otlp_endpoint", &*endpoint),
    ];
    let cluster = Cluster::start(&set, &[&usual, settings].concat()).await;
    for node in &cluster.nodes {
        node.wait_for_readiness("ready").await;
    }
    find_relay(&cluster).await;
    Some((cluster, collector, uri))
}

#[tokio::test]
async fn one_trace_spans_request_batch_broker_and_the_other_node() {
    // Only callers decide, so that no other request is in the way.
    let settings = [("telemetry.sample_ratio", "0")];
    let Some((cluster, collector, uri)) = traced_cluster(&settings).await else { return };
    let audit = AuditQueue::declare(&uri).await;
    let (here, _) = cluster.both_nodes();
    let (admin, ada) = (here.admin().await, here.customer().await);
    let tea = here.new_product(&admin, &json!(4.5), 100).await;
    let caller = format!("00-{TRACE_ID}-{CALLER_ID}-01");
    here.add_to_cart(&ada, &tea, 2).header("traceparent", &caller).await.ok();

    let request = collector
        .wait_for("the request", |spans| {
            spans.iter().find(|received| hex(&received.span.parent_span_id) == CALLER_ID).cloned()
        })
        .await;
    assert_eq!(request.span.name, "POST /api/cart/add");
    assert_eq!(request.attribute("http.route").as_deref(), Some("/api/cart/add"));
    assert_eq!(request.attribute("http.response.status_code").as_deref(), Some("200"));
    assert_eq!(request.attribute("user.id").as_deref(), Some(&*ada.id));
    let message = collector.child(request.id(), "ChangeCart").await;
    assert_eq!(message.attribute("actor").as_deref(), Some("CartActor"));
    collector.child(message.id(), "find_cart").await;
    let commit = collector.child(message.id(), "commit").await;
    assert_eq!(commit.attribute("commit.outcome").as_deref(), Some("applied"));
    let batch = collector.child(commit.id(), "batch").await;
    assert!(batch.links_to(&commit), "{batch:?}");
    let transaction = collector.child(batch.id(), "transaction").await;
    assert_eq!(transaction.attribute("db.system.name").as_deref(), Some("mongodb"));
    for step in ["load", "write", "confirm"] {
        collector.child(transaction.id(), step).await;
    }
    let publish = collector.child(commit.id(), "publish souk.events").await;
    let processed = collector
        .wait_for("the event on the other node", |spans| {
            let is_other = |received: &&ReceivedSpan| {
                received.span.name == "process souk.events"
                    && received.span.parent_span_id == publish.span.span_id
                    && received.instance != request.instance
            };
            spans.iter().find(is_other).cloned()
        })
        .await;
    for received in [&request, &message, &commit, &batch, &transaction, &publish, &processed] {
        assert_eq!(hex(&received.span.trace_id), TRACE_ID, "{received:?}");
    }
    let messages = audit.read_until(|message| message.event.kind == "cart.item.added").await;
    let added = messages.iter().find(|message| message.event.kind == "cart.item.added").unwrap();
    assert_eq!(added.event.body["traceparent"], commit.trace_parent());
    assert_eq!(added.traceparent.as_deref(), Some(&*publish.trace_parent()));
    let others = collector.spans();
    let others = others.iter().filter(|received| hex(&received.span.trace_id) != TRACE_ID);
    assert_eq!(others.count(), 0, "no other trace is recorded");
    cluster.shut_down().await;
}

#[tokio::test]
async fn batches_and_their_commits_link_to_each_other() {
    let Some((cluster, collector, _)) = traced_cluster(&[]).await else { return };
    let here = &cluster.nodes[0];
    let admin = here.admin().await;
    let tea = here.new_product(&admin, &json!(4.5), 100).await;
    let buyers = join_all((0..24).map(|_| here.guest())).await;
    let is_shared = |batch: &&ReceivedSpan| {
        batch.span.name == "batch" && batch.attribute("batch.commits").as_deref() != Some("1")
    };
    // Commits share a batch if they come while another is applied, which is soon the case.
    let mut rounds = 0;
    while !collector.spans().iter().any(|received| is_shared(&received)) {
        rounds += 1;
        assert!(rounds < 100, "no commits shared a batch");
        join_all(buyers.iter().map(async |buyer| here.add_to_cart(buyer, &tea, 1).await)).await;
        collector.settle(here).await;
    }
    let spans = collector.spans();
    let batch = spans.iter().find(is_shared).unwrap();
    let commits: Vec<_> = spans
        .iter()
        .filter(|received| received.span.name == "commit" && batch.links_to(received))
        .collect();
    let count: usize = batch.attribute("batch.commits").unwrap().parse().unwrap();
    assert_eq!((batch.span.links.len(), commits.len()), (count, count), "{batch:?}");
    for commit in commits {
        let is_parent = batch.span.parent_span_id == commit.span.span_id;
        assert_ne!(commit.links_to(batch), is_parent, "{commit:?}");
    }
    cluster.shut_down().await;
}

#[tokio::test]
async fn command_of_another_system_continues_its_trace() {
    let settings = [("telemetry.sample_ratio", "0")];
    let Some((cluster, collector, uri)) = traced_cluster(&settings).await else { return };
    let here = &cluster.nodes[0];
    let admin = here.admin().await;
    let tea = here.new_product(&admin, &json!(4.5), 100).await;
    let warehouse = AmqpClient::connect_when_ready(&uri).await;
    let caller = format!("00-{TRACE_ID}-{CALLER_ID}-01");
    let mut headers = FieldTable::default();
    headers.insert("traceparent".into(), AMQPValue::LongString(caller.into()));
    let command = json!({
        "id": "1", "type": "inventory.adjust", "product_id": tea, "delta": 5, "reason": "delivery"
    });
    let properties = BasicProperties::default().with_headers(headers);
    warehouse.send_raw(COMMANDS, command.to_string().as_bytes(), properties).await;
    let processed = collector
        .wait_for("the command", |spans| {
            spans.iter().find(|received| hex(&received.span.parent_span_id) == CALLER_ID).cloned()
        })
        .await;
    assert_eq!(processed.span.name, "process souk.inventory.commands");
    let message = collector.child(processed.id(), "ApplyStockCommand").await;
    let commit = collector.child(message.id(), "commit").await;
    collector.child(commit.id(), "publish souk.events").await;
    cluster.shut_down().await;
}
