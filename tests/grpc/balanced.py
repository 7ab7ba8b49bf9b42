"""Calls through the load balancer, whose port for TLS is GRPCS, with CERTIFICATE.

Each of the users with the tokens USERS is served by the node in HOMES, as over HTTP. OPS has the
URL of each node's port for operators.
"""

from grpc_health.v1 import health_pb2, health_pb2_grpc

from shop import *

OPS = os.environ["OPS"].split(",")
USERS = zip(os.environ["USERS"].split(","), map(int, os.environ["HOMES"].split(",")))
PRODUCT = os.environ["PRODUCT"]
GET = catalog_pb2.GetProductRequest(product_id=PRODUCT)
COUNTED = 'souk_grpc_requests_total{method="souk.v1.CatalogService/GetProduct",code="OK"} '


def served():
    """How many calls each node has served."""
    pages = [http("GET", "/metrics", url=ops).splitlines() for ops in OPS]
    counts = ([line for line in page if line.startswith(COUNTED)] for page in pages)
    return [int(lines[0].rsplit(" ", 1)[1]) if lines else 0 for lines in counts]


with open(os.environ["CERTIFICATE"], "rb") as file:
    credentials = grpc.ssl_channel_credentials(file.read())
secure = grpc.secure_channel(os.environ["GRPCS"], credentials, OPTIONS)
secure_catalog = catalog_pb2_grpc.CatalogServiceStub(secure)

# Callers stay on their node, on either port and on every connection.
for token, home in USERS:
    before = served()
    for stub in (catalog, secure_catalog, catalog_pb2_grpc.CatalogServiceStub(connect())):
        assert answer(stub.GetProduct, GET, token).id == PRODUCT
    counts = [now - then for now, then in zip(served(), before)]
    assert counts == [3 if node == home else 0 for node in range(3)], (counts, home)

# Changes, streams, headers and errors pass as they are.
change = inventory_pb2.AdjustStockRequest(
    product_id=PRODUCT, delta=5, reason="delivery", idempotency_key="balanced-1"
)
metadata = [("x-request-id", "balanced.1"), *bearer(ADMIN)]
first, call = inventory.AdjustStock.with_call(change, metadata=metadata, timeout=LONG)
assert dict(call.initial_metadata())["x-request-id"] == "balanced.1"
again, call = inventory.AdjustStock.with_call(change, metadata=bearer(ADMIN), timeout=LONG)
assert again == first and dict(call.initial_metadata())["idempotency-replayed"] == "true"
for stub in (catalog, secure_catalog):
    listed = list(stub.ListProducts(catalog_pb2.ListProductsRequest(), timeout=LONG))
    assert PRODUCT in [product.id for product in listed]
stock = inventory_pb2.GetStockRequest(product_id=PRODUCT)
denied = assert_fails(
    "PERMISSION_DENIED", "forbidden", inventory.GetStock, stock, metadata=bearer(ADA)
)
assert denied.metadata["request_id"], denied
invalid = inventory_pb2.AdjustStockRequest(product_id=PRODUCT, delta=1)
found = assert_fails(
    "INVALID_ARGUMENT", "validation_failed", inventory.AdjustStock, invalid, metadata=bearer(ADMIN)
)
assert found.fields == {"reason": "required"}, found
missing = catalog_pb2.GetProductRequest(product_id=NOWHERE)
assert_fails("NOT_FOUND", "product_not_found", catalog.GetProduct, missing)
health = health_pb2_grpc.HealthStub(secure)
request = health_pb2.HealthCheckRequest()
assert health.Check(request, timeout=LONG).status == health_pb2.HealthCheckResponse.SERVING
watch = health.Watch(request, timeout=LONG)
assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
watch.cancel()
