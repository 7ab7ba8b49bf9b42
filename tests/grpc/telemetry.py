"""Calls whose log lines, metrics and spans the test looks at."""

from shop import *

TRACE = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
tea = new_product(stock=1)
get = catalog_pb2.GetProductRequest(product_id=tea)
stock = inventory_pb2.GetStockRequest(product_id=tea)
metadata = [("x-request-id", "found"), TRACE]
_, call = catalog.GetProduct.with_call(get, metadata=metadata, timeout=LONG)
assert dict(call.initial_metadata())["x-request-id"] == "found"
_, call = catalog.GetProduct.with_call(get, metadata=[("x-request-id", "a b")], timeout=LONG)
new_id = dict(call.initial_metadata())["x-request-id"]
assert len(new_id) == 36, new_id
denied = failure(inventory.GetStock, stock, metadata=[("x-request-id", "denied"), *bearer(ADA)])
assert denied.metadata["request_id"] == "denied", denied
for number in range(20):
    failure(CHANNEL.unary_unary(f"/souk.v1.Unknown/Method{number}"), b"")
metadata = [("x-request-id", "changed"), TRACE, *bearer(ADMIN)]
change = inventory_pb2.AdjustStockRequest(product_id=tea, delta=1, reason="delivery")
inventory.AdjustStock(change, metadata=metadata, timeout=LONG)
stream = catalog.ListProducts(
    catalog_pb2.ListProductsRequest(), metadata=[("x-request-id", "listed")], timeout=LONG
)
assert len(list(stream)) == 1
