"""Every error code that the services give, with its status. EXPIRED is a token that has expired."""

from shop import *

tea = new_product(stock=5)
get_product, batch, filtered = (
    catalog_pb2.GetProductRequest,
    catalog_pb2.BatchGetProductsRequest,
    catalog_pb2.ListProductsRequest,
)


def adjust(**fields):
    return inventory_pb2.AdjustStockRequest(**{"product_id": tea, "reason": "count", **fields})


def fails_to_adjust(status, code, token=ADMIN, /, **fields):
    metadata = bearer(token)
    return assert_fails(status, code, inventory.AdjustStock, adjust(**fields), metadata=metadata)


# ---- Not found -----------------------------------------------------------------------------------

admin = bearer(ADMIN)
for id in (NOWHERE, "no id", ""):
    assert_fails("NOT_FOUND", "product_not_found", catalog.GetProduct, get_product(product_id=id))
    stock = inventory_pb2.GetStockRequest(product_id=id)
    assert_fails("NOT_FOUND", "product_not_found", inventory.GetStock, stock, metadata=admin)
    fails_to_adjust("NOT_FOUND", "product_not_found", product_id=id, delta=1)

# ---- Invalid requests ----------------------------------------------------------------------------

invalid = ("INVALID_ARGUMENT", "validation_failed")
assert fails_to_adjust(*invalid).fields == {"delta": "required"}
assert fails_to_adjust(*invalid, set=-1).fields == {"set": "out_of_range"}
found = fails_to_adjust(*invalid, delta=10**12 + 1, reason="", reference="x" * 201)
expected = {"reason": "required", "reference": "too_long", "delta": "out_of_range"}
assert found.fields == expected, found
found = assert_fails(*invalid, catalog.BatchGetProducts, batch(ids=[tea] * 101))
assert found.fields == {"ids": "too_many"}, found
euro = money_pb2.Money(currency_code="EUR", units=1)
precise = money_pb2.Money(currency_code="USD", units=1, nanos=1)
wrong = catalog_pb2.ProductFilter(q="x" * 201, min_price=euro, max_price=precise, ids=["no id"])
found = assert_fails(*invalid, catalog.ListProducts, filtered(filter=wrong))
assert set(found.fields) == {"q", "min_price", "max_price", "ids"}, found

raw = CHANNEL.unary_unary("/souk.v1.CatalogService/GetProduct")
assert_fails("INVALID_ARGUMENT", "malformed_request", raw, b"\xff\xff\xff")
assert_fails("RESOURCE_EXHAUSTED", "payload_too_large", raw, b"\x0a" + b"x" * 70_000)
# More headers than a call may have; the connection goes on.
found = failure(catalog.GetProduct, get_product(product_id=tea), metadata=[("x-big", "v" * 20_000)])
assert found.status != "NOT_FOUND", found
catalog.GetProduct(get_product(product_id=tea), timeout=LONG)
for path in ("/souk.v1.CatalogService/Buy", "/souk.v2.CatalogService/GetProduct", "/x"):
    assert_fails("UNIMPLEMENTED", "not_found", CHANNEL.unary_unary(path), b"")

# ---- Tokens --------------------------------------------------------------------------------------

stock, mine = inventory_pb2.GetStockRequest(product_id=tea), cart_pb2.GetCartRequest(user_token=ADA)
calls = (
    (inventory.GetStock, stock),
    (inventory.AdjustStock, adjust(delta=1)),
    (cart.GetCart, mine),
)
for metadata in ([], [("authorization", ADMIN)], bearer("x.y.z"), bearer(ADMIN + "x")):
    for call, message in calls:
        found = assert_fails("UNAUTHENTICATED", "unauthenticated", call, message, metadata=metadata)
        assert found.metadata["token"] == "authorization", found
EXPIRED = os.environ["EXPIRED"]
expired = ("UNAUTHENTICATED", "token_expired")
assert_fails(*expired, inventory.GetStock, stock, metadata=bearer(EXPIRED))
found = auth.ValidateToken(auth_pb2.ValidateTokenRequest(token=EXPIRED))
assert (found.valid, found.code) == (False, "token_expired"), found
others = cart_pb2.GetCartRequest(user_token=EXPIRED)
found = assert_fails(*expired, cart.GetCart, others, metadata=admin)
assert found.metadata["token"] == "user_token", found
found = assert_fails(
    "UNAUTHENTICATED", "unauthenticated", cart.GetCart, cart_pb2.GetCartRequest(), metadata=admin
)
assert found.metadata["token"] == "user_token", found

for token in (ADA, GUEST):
    metadata = bearer(token)
    assert_fails("PERMISSION_DENIED", "forbidden", inventory.GetStock, stock, metadata=metadata)
    fails_to_adjust("PERMISSION_DENIED", "forbidden", token, delta=1)

# ---- Refusals ------------------------------------------------------------------------------------

found = fails_to_adjust("FAILED_PRECONDITION", "insufficient_stock", delta=-6)
assert found.metadata["product_id"] == tea, found
assert (found.metadata["requested"], found.metadata["available"]) == ("6", "5"), found
http("POST", "/api/cart/merge", {"guest_token": GUEST}, ADA)
merged = cart_pb2.GetCartRequest(user_token=GUEST)
assert_fails("FAILED_PRECONDITION", "guest_cart_merged", cart.GetCart, merged, metadata=admin)

for key in ("a b", "é", "k" * 256):
    fails_to_adjust("INVALID_ARGUMENT", "idempotency_key_invalid", delta=1, idempotency_key=key)
inventory.AdjustStock(adjust(delta=1, idempotency_key="once"), metadata=admin)
reused = ("INVALID_ARGUMENT", "idempotency_key_reused")
fails_to_adjust(*reused, delta=2, idempotency_key="once")
fails_to_adjust(*reused, delta=1, reference="r", idempotency_key="once")
assert inventory.GetStock(stock, metadata=admin).on_hand == 6, "refused changes have no effect"

# ---- A session that has ended --------------------------------------------------------------------

http("POST", "/api/auth/logout", token=ADA)
found = auth.ValidateToken(auth_pb2.ValidateTokenRequest(token=ADA))
assert (found.valid, found.code) == (False, "unauthenticated"), found
assert_fails("UNAUTHENTICATED", "unauthenticated", inventory.GetStock, stock, metadata=bearer(ADA))
found = assert_fails("UNAUTHENTICATED", "unauthenticated", cart.GetCart, mine, metadata=admin)
assert found.metadata["token"] == "user_token", found
