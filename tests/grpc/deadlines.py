"""Deadlines are honoured. `http.request_timeout` is one second."""

from shop import *

tea, admin = new_product(stock=0), bearer(ADMIN)


def adjust(key):
    return inventory_pb2.AdjustStockRequest(
        product_id=tea, delta=1, reason="delivery", idempotency_key=key
    )


with WriteLock():
    # The caller gives up first.
    found = failure(inventory.AdjustStock, adjust("a"), metadata=admin, timeout=0.2)
    assert found.status == "DEADLINE_EXCEEDED", found
    # The server gives up, since the caller waits too long, or forever.
    for timeout in (LONG, None):
        found = failure(inventory.AdjustStock, adjust("b"), metadata=admin, timeout=timeout)
        assert (found.status, found.reason) == ("UNAVAILABLE", "outcome_unknown"), found
    # Reads do not wait for writes.
    catalog.GetProduct(catalog_pb2.GetProductRequest(product_id=tea), timeout=LONG)
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
