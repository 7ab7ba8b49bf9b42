"""Without `catalog.public_read`, the catalog needs a token, and a stream ends with its session."""

from shop import *

tea = new_product()
calls = (
    (catalog.GetProduct, catalog_pb2.GetProductRequest(product_id=tea)),
    (catalog.BatchGetProducts, catalog_pb2.BatchGetProductsRequest(ids=[tea])),
    (catalog.ListProducts, catalog_pb2.ListProductsRequest()),
)
for call, message in calls:
    assert_fails("UNAUTHENTICATED", "unauthenticated", call, message)
    for token in (ADA, GUEST, ADMIN):
        answer(call, message, token)

description = "x" * 5000
lines = (json.dumps({"name": "Tea", "price": 1, "description": description}) for _ in range(2000))
http("POST", "/api/products/import", "\n".join(lines).encode(), ADMIN, None, "application/x-ndjson")
stream = catalog.ListProducts(catalog_pb2.ListProductsRequest(), metadata=bearer(ADA), timeout=LONG)
next(stream)
http("POST", "/api/auth/logout", token=ADA)
try:
    raise AssertionError(f"{sum(1 for _ in stream)} products after the end of the session")
except grpc.RpcError as error:
    found = Failure(error)
assert (found.status, found.reason) == ("UNAUTHENTICATED", "unauthenticated"), found
