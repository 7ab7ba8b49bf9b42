"""An API key is a token for what its scopes permit, and no user."""

import os

from shop import *

KEY, READER = os.environ["KEY"], os.environ["READER"]
tea = new_product()
look = inventory_pb2.GetStockRequest(product_id=tea)
more = inventory_pb2.AdjustStockRequest(product_id=tea, delta=2, reason="delivery")
for key in (KEY, READER):
    before = answer(inventory.GetStock, look, key)
assert_fails("PERMISSION_DENIED", "forbidden", inventory.AdjustStock, more, metadata=bearer(READER))
stock = inventory.AdjustStock(
    more, metadata=[*bearer(KEY), ("x-request-id", "from-grpc")], timeout=LONG
)
assert stock.on_hand == before.on_hand + 2, stock
wrong = KEY + "A"
assert_fails("UNAUTHENTICATED", "unauthenticated", inventory.GetStock, look, metadata=bearer(wrong))

found = auth.ValidateToken(auth_pb2.ValidateTokenRequest(token=KEY), timeout=LONG)
assert found.valid and found.role == "staff" and not found.HasField("expires_at"), found
own = cart_pb2.GetCartRequest(user_token=KEY)
assert_fails("PERMISSION_DENIED", "forbidden", cart.GetCart, own, metadata=bearer(ADMIN))
of_ada = cart_pb2.GetCartRequest(user_token=ADA)
answer(cart.GetCart, of_ada, KEY)
