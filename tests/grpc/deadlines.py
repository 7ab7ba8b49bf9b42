"""Deadlines are honoured. `http.request_timeout` is one second."""

import threading

from grpc_health.v1 import health_pb2, health_pb2_grpc

from shop import *

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
MESSAGES_TO_CARTS = 'souk_actor_mailbox_wait_seconds_count{actor="cart"}'
tea, full, admin = new_product(stock=0), new_product(stock=9), bearer(ADMIN)


def adjust(key):
    return inventory_pb2.AdjustStockRequest(
        product_id=tea, delta=1, reason="delivery", idempotency_key=key
    )


def add_in_vain():
    try:
        http("POST", "/api/cart/add", {"product_id": full, "quantity": 1}, ADA)
    except urllib.error.HTTPError as error:
        assert error.code == 503, error


with WriteLock():
    # The caller gives up, unless the server, which knows the caller's deadline, is a moment faster.
    found = failure(inventory.AdjustStock, adjust("a"), metadata=admin, timeout=0.2)
    assert found.status == "DEADLINE_EXCEEDED" or found.reason == "outcome_unknown", found
    # The server gives up, since the caller waits too long, or forever.
    for timeout in (LONG, None):
        found = failure(inventory.AdjustStock, adjust("b"), metadata=admin, timeout=timeout)
        assert (found.status, found.reason) == ("UNAVAILABLE", "outcome_unknown"), found
    # Reads do not wait for writes.
    catalog.GetProduct(catalog_pb2.GetProductRequest(product_id=tea), timeout=LONG)
    # What waits behind a change, and so has not begun, has certainly no effect.
    taken = metric(MESSAGES_TO_CARTS)
    add = threading.Thread(target=add_in_vain)
    add.start()
    while metric(MESSAGES_TO_CARTS) == taken:
        pass
    my_cart = cart_pb2.GetCartRequest(user_token=ADA)
    found = assert_fails("UNAVAILABLE", "overloaded", cart.GetCart, my_cart, metadata=admin)
    assert found.retry_after >= 1, found
    add.join()
    # A node whose store takes no changes is not ready.
    health = health_pb2_grpc.HealthStub(CHANNEL)
    while health.Check(health_pb2.HealthCheckRequest(), timeout=LONG).status != NOT_SERVING:
        pass
# A repeat with the same key is safe, whatever has become of the first attempts.
for key in ("a", "b", "a", "b"):
    while True:
        try:
            stock = inventory.AdjustStock(adjust(key), metadata=admin, timeout=LONG)
            break
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE, error
request = inventory_pb2.GetStockRequest(product_id=tea)
assert inventory.GetStock(request, metadata=admin, timeout=LONG).on_hand == 2

# A stream ends at the caller's deadline, also when it is not read.
description = "x" * 5000
lines = (json.dumps({"name": "Tea", "price": 1, "description": description}) for _ in range(2000))
http("POST", "/api/products/import", "\n".join(lines).encode(), ADMIN, None, "application/x-ndjson")
stream = catalog.ListProducts(catalog_pb2.ListProductsRequest(), timeout=2)
next(stream)
while metric("souk_event_feeds") > 0:
    pass
try:
    raise AssertionError(f"all {sum(1 for _ in stream)} products came")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
