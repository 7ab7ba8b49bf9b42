"""Changes on another node are seen here. OTHER is the URL of that node."""

from shop import *

OTHER, NO_CACHE = os.environ["OTHER"], [("cache-control", "no-cache")]


def elsewhere(method, path, body=None, token=ADMIN, headers=None):
    return http(method, path, body, token, headers, url=OTHER)


# No waiting for propagation: each read comes right after the answer of the other node.
for number in range(1, 11):
    new = {"name": f"Tea {number}", "description": "", "price": number, "stock": 3}
    product = elsewhere("POST", "/api/products", new)["id"]
    request = catalog_pb2.GetProductRequest(product_id=product)
    found = answer(catalog.GetProduct, request, None, NO_CACHE)
    assert (found.name, found.price.units) == (new["name"], number), found
    stock_path = f"/api/products/{product}/stock"
    elsewhere("POST", stock_path, {"delta": -1, "reason": "broken"})
    request = inventory_pb2.GetStockRequest(product_id=product)
    assert answer(inventory.GetStock, request, ADMIN, NO_CACHE).on_hand == 2
    elsewhere("DELETE", f"/api/products/{product}")
    batch = catalog_pb2.BatchGetProductsRequest(ids=[product])
    found = answer(catalog.BatchGetProducts, batch, None, NO_CACHE)
    assert list(found.not_found) == [product], found
    elsewhere("POST", "/api/products", new)
    filtered = catalog_pb2.ListProductsRequest(filter=catalog_pb2.ProductFilter(q=new["name"]))
    listed = catalog.ListProducts(filtered, metadata=NO_CACHE, timeout=LONG)
    assert new["name"] in [product.name for product in listed]

# A repeat of a change that the other node has made.
product = elsewhere("POST", "/api/products", new)["id"]
key = {"idempotency-key": "delivery-1"}
body = {"delta": 5, "reason": "delivery"}
elsewhere("POST", f"/api/products/{product}/stock", body, ADMIN, key)
again = inventory_pb2.AdjustStockRequest(
    product_id=product, delta=5, reason="delivery", idempotency_key="delivery-1"
)
stock, call = inventory.AdjustStock.with_call(again, metadata=bearer(ADMIN), timeout=LONG)
assert stock.on_hand == 8 and dict(call.initial_metadata())["idempotency-replayed"] == "true"

# A cart that changes there, and a session that ends there.
elsewhere("POST", "/api/cart/add", {"product_id": product, "quantity": 2}, ADA)
mine = cart_pb2.GetCartRequest(user_token=ADA)
assert answer(cart.GetCart, mine, ADMIN, NO_CACHE).item_count == 2
elsewhere("POST", "/api/auth/logout", None, ADA)
while auth.ValidateToken(auth_pb2.ValidateTokenRequest(token=ADA), timeout=LONG).valid:
    pass
assert_fails("UNAUTHENTICATED", "unauthenticated", cart.GetCart, mine, metadata=bearer(ADMIN))
