"""Calls of every method of the shop, and one that is refused, for the metrics."""

from shop import *

tea = new_product()
answer(auth.ValidateToken, auth_pb2.ValidateTokenRequest(token=ADA))
answer(catalog.GetProduct, catalog_pb2.GetProductRequest(product_id=tea))
answer(catalog.BatchGetProducts, catalog_pb2.BatchGetProductsRequest(ids=[tea]))
assert list(answer(catalog.ListProducts, catalog_pb2.ListProductsRequest()))
stock = inventory_pb2.GetStockRequest(product_id=tea)
answer(inventory.GetStock, stock, ADMIN)
change = inventory_pb2.AdjustStockRequest(product_id=tea, delta=1, reason="delivery")
answer(inventory.AdjustStock, change, ADMIN)
answer(cart.GetCart, cart_pb2.GetCartRequest(user_token=ADA), ADMIN)
assert_fails("PERMISSION_DENIED", "forbidden", inventory.GetStock, stock, metadata=bearer(ADA))
