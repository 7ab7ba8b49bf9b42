"""A server that stops finishes the calls in progress, and tells those who watch its health."""

import signal

from grpc_health.v1 import health_pb2, health_pb2_grpc

from shop import *

COUNT = 3000
line = json.dumps({"name": "Tea", "price": 1, "description": "x" * 5000})
body = "\n".join([line] * COUNT).encode()
http("POST", "/api/products/import", body, ADMIN, None, "application/x-ndjson")
tea = new_product(stock=0)

health = health_pb2_grpc.HealthStub(CHANNEL)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
services = [f"souk.v1.{name}Service" for name in ("Auth", "Catalog", "Inventory", "Cart")]
for service in ("", *services):
    request = health_pb2.HealthCheckRequest(service=service)
    assert health.Check(request, timeout=LONG).status == SERVING
unknown = health_pb2.HealthCheckRequest(service="souk.v1.Nothing")
assert failure(health.Check, unknown).status == "NOT_FOUND"
watch_of_unknown = health.Watch(unknown, timeout=LONG)
assert next(watch_of_unknown).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=LONG)
assert next(watch).status == SERVING

# Two calls are in progress: a stream that is read slowly, and a change that waits for the store.
stream = catalog.ListProducts(catalog_pb2.ListProductsRequest(), timeout=LONG)
received = [next(stream)]
change = inventory_pb2.AdjustStockRequest(product_id=tea, delta=7, reason="delivery")
batches = metric("souk_writer_batches_total")
with WriteLock():
    changed = inventory.AdjustStock.future(change, metadata=bearer(ADMIN), timeout=LONG)
    while metric("souk_writer_batches_total") == batches:
        pass
    os.kill(PID, signal.SIGTERM)
    assert next(watch).status == NOT_SERVING
    for ended in (watch, watch_of_unknown):
        try:
            raise AssertionError(f"the watch goes on: {next(ended)}")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE, error
    # Nobody is let in any more.
    late = catalog_pb2_grpc.CatalogServiceStub(connect())
    get = catalog_pb2.GetProductRequest(product_id=tea)
    try:
        while True:
            late.GetProduct(get, timeout=LONG)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
assert changed.result().on_hand == 7
received.extend(stream)
assert len(received) == COUNT + 1, len(received)
