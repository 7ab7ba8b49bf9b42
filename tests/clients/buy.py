"""Buys something with the client that openapi-python-client makes of the OpenAPI document.

Takes SOUK, EMAIL and PASSWORD (an admin's) from the environment, and prints the order's id.
"""

import os
from io import BytesIO

from souk_client import AuthenticatedClient, Client
from souk_client.api.auth import log_in, register_account
from souk_client.api.cart import add_to_cart, clear_cart, get_cart, update_cart_line
from souk_client.api.orders import check_out, get_order, list_orders, pay_order
from souk_client.api.products import create_product, import_products, search_products
from souk_client.models import (
    Attributes,
    CheckoutRequest,
    ErrorCode,
    LineRequest,
    LoginRequest,
    OrderStatus,
    PaymentMethod,
    ProductRequest,
    ProductSort,
    ProblemDetails,
    ReferenceRequest,
    RegisterRequest,
)
from souk_client.types import File

URL = os.environ["SOUK"]


def good(answer):
    """What an operation answered, which must not be a problem."""
    assert answer.parsed is not None and not isinstance(answer.parsed, ProblemDetails), answer
    return answer.parsed


def bearer(token):
    return AuthenticatedClient(base_url=URL, token=token)


anyone = Client(base_url=URL)

# An admin puts a product into the catalog.
login = LoginRequest(email=os.environ["EMAIL"], password=os.environ["PASSWORD"])
admin = bearer(good(log_in.sync_detailed(client=anyone, body=login)).token)
attributes = Attributes.from_dict({"organic": True, "weight_grams": 100, "origin": "Morocco"})
new = ProductRequest(
    name="Mint tea",
    description="Loose leaves",
    price=4.5,
    stock=40,
    sku="PY-1",
    category="tea",
    tags=["green", "loose"],
    attributes=attributes,
)
created = create_product.sync_detailed(client=admin, body=new, idempotency_key="create")
tea = good(created)
assert tea.attributes["organic"] is True and tea.attributes["weight_grams"] == 100, tea
assert created.headers["Location"] == f"/api/products/{tea.id}"

csv = File(payload=BytesIO(b"sku,name,price,stock\nPY-2,Black tea,3.25,10\n"))
assert good(import_products.sync_detailed(client=admin, body=csv)).created == 1

# A customer finds it.
found = search_products.sync_detailed(
    client=anyone, q="tea", sort=ProductSort("-price"), in_stock=True, limit=10
)
page = good(found)
assert [item.sku for item in page.items] == ["PY-1", "PY-2"], page
assert page.next_cursor is None
assert [(facet.value, facet.count) for facet in page.facets.category] == [("tea", 1)]
either = good(search_products.sync_detailed(client=anyone, category=["tea", "coffee"]))
assert [item.sku for item in either.items] == ["PY-1"], either

# The customer puts it into a cart.
register = RegisterRequest(
    email="ada.py@example.com", password="correct horse battery", name="Ada"
)
ada = bearer(good(register_account.sync_detailed(client=anyone, body=register)).token)
two = LineRequest(product_id=tea.id, quantity=2)
added = add_to_cart.sync_detailed(client=ada, body=two)
assert good(added).item_count == 2
three = LineRequest(product_id=tea.id, quantity=3)
updated = update_cart_line.sync_detailed(client=ada, body=three, if_match=added.headers["ETag"])
cart = good(updated)
assert cart.total_amount == 13.5
stale = clear_cart.sync_detailed(client=ada, if_match=added.headers["ETag"])
assert stale.parsed.code is ErrorCode.VERSION_MISMATCH, stale
same = get_cart.sync_detailed(client=ada, if_none_match=updated.headers["ETag"])
assert same.status_code == 304 and same.parsed is None

# The customer buys it, once.
checkout = CheckoutRequest(expected_total=cart.total_amount, payment_method=PaymentMethod.MANUAL)
first, again = (
    check_out.sync_detailed(client=ada, body=checkout, idempotency_key="checkout")
    for _ in range(2)
)
order = good(first)
assert good(again).id == order.id
assert again.headers["Idempotency-Replayed"] == "true"
empty = check_out.sync_detailed(client=ada, idempotency_key="another")
assert empty.parsed.code is ErrorCode.CART_EMPTY, empty

# The admin confirms the payment, and the customer reads the order.
reference = ReferenceRequest(reference="TRANSFER-1")
good(pay_order.sync_detailed(order.id, client=admin, body=reference))
read = good(get_order.sync_detailed(order.id, client=ada))
assert read.status is OrderStatus.PAID and read.payment.reference == "TRANSFER-1", read
assert good(list_orders.sync_detailed(client=ada)).items == [read]

print(order.id)
