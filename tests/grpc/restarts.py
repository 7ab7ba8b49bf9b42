"""Changes and reads the stock of PRODUCT through the load balancer until the file DONE exists.

No change has an idempotency key: one that is made twice, or not at all, shows in the stock. Prints
how many calls there were.
"""

from shop import *

product, count = os.environ["PRODUCT"], 0
change = inventory_pb2.AdjustStockRequest(product_id=product, delta=1, reason="delivery")
stock = inventory_pb2.GetStockRequest(product_id=product)
get = catalog_pb2.GetProductRequest(product_id=product)
on_hand = answer(inventory.GetStock, stock, ADMIN).on_hand
while not os.path.exists(os.environ["DONE"]):
    on_hand += 1
    changed = answer(inventory.AdjustStock, change, ADMIN).on_hand
    assert changed == on_hand, f"{changed} instead of {on_hand} after {count} calls"
    answer(catalog.GetProduct, get)
    count += 2
print(count)
