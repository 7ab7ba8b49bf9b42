"""Every method answers what HTTP answers."""

from datetime import datetime, timezone

from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from google.protobuf.descriptor_pool import DescriptorPool

from shop import *


def instant(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def amount(money):
    assert money.currency_code == "USD", money
    return money.units + money.nanos / 1e9


# ---- ValidateToken -------------------------------------------------------------------------------

found = answer(auth.ValidateToken, auth_pb2.ValidateTokenRequest(token=ADA))
over_http = http("POST", "/api/auth/validate", {"token": ADA})
assert (found.valid, found.user_id, found.role) == (True, over_http["user_id"], "customer"), found
assert found.expires_at.ToDatetime(timezone.utc) == instant(over_http["expires_at"]), found
assert found.code == ""
for token, role in ((ADMIN, "admin"), (GUEST, "guest")):
    assert answer(auth.ValidateToken, auth_pb2.ValidateTokenRequest(token=token)).role == role
found = answer(auth.ValidateToken, auth_pb2.ValidateTokenRequest(token="x.y.z"))
assert found == auth_pb2.ValidateTokenResponse(valid=False, code="unauthenticated"), found

# ---- The catalog ---------------------------------------------------------------------------------

attributes = {"organic": True, "grams": 100, "ratio": 0.5, "origin": "Morocco"}
tea = http(
    "POST",
    "/api/products",
    {
        "name": "Mint tea",
        "description": "Loose leaves",
        "price": 19.99,
        "stock": 40,
        "sku": "TEA-1",
        "category": "tea",
        "tags": ["green", "loose"],
        "image_url": "https://example.com/tea.jpg",
        "attributes": attributes,
        "purchase_limit": 3,
        "weight_grams": 100,
        "tax_class": "reduced",
    },
    ADMIN,
)
plain = new_product(name="Cup", price=5, stock=0)
found = answer(catalog.GetProduct, catalog_pb2.GetProductRequest(product_id=tea["id"]))
same = ("id", "sku", "name", "description", "category", "image_url", "purchase_limit", "stock")
for name in (*same, "version", "weight_grams", "tax_class"):
    assert getattr(found, name) == tea[name], (name, found)
assert list(found.tags) == ["green", "loose"] and amount(found.price) == 19.99
kinds = {name: getattr(v, v.WhichOneof("kind")) for name, v in found.attributes.items()}
assert kinds == attributes and kinds["organic"] is True, kinds
assert found.created_at.ToDatetime(timezone.utc) == instant(tea["created_at"])
cup = answer(catalog.GetProduct, catalog_pb2.GetProductRequest(product_id=plain))
unset = ("sku", "category", "image_url", "purchase_limit", "weight_grams", "tax_class")
assert not any(cup.HasField(name) for name in unset)

ids = [plain, NOWHERE, tea["id"], "no id", plain]
batch = answer(catalog.BatchGetProducts, catalog_pb2.BatchGetProductsRequest(ids=ids))
assert [product.id for product in batch.products] == [plain, tea["id"], plain]
assert list(batch.not_found) == [NOWHERE, "no id"]


def listed(**conditions):
    request = catalog_pb2.ListProductsRequest(filter=catalog_pb2.ProductFilter(**conditions))
    return [product.name for product in catalog.ListProducts(request, timeout=LONG)]


def usd(units, nanos=0):
    return money_pb2.Money(currency_code="USD", units=units, nanos=nanos)


unfiltered = catalog.ListProducts(catalog_pb2.ListProductsRequest(), timeout=LONG)
assert [product.name for product in unfiltered] == ["Mint tea", "Cup"]
assert listed() == ["Mint tea", "Cup"], "the oldest first"
assert listed(q="leaves MINT") == ["Mint tea"] and listed(q="coffee") == []
assert listed(category=["coffee", "tea"]) == ["Mint tea"] and listed(category=["coffee"]) == []
assert listed(tag=["loose", "black"]) == ["Mint tea"] and listed(ids=[plain]) == ["Cup"]
assert listed(in_stock=True) == ["Mint tea"] and listed(in_stock=False) == ["Cup"]
assert listed(min_price=usd(5), max_price=usd(5)) == ["Cup"]
assert listed(min_price=usd(19, 990_000_000)) == ["Mint tea"]
assert listed(min_price=usd(5, 10_000_000), max_price=usd(19, 980_000_000)) == []

KINDS = {str: "string_value", bool: "bool_value", int: "integer_value", float: "double_value"}


def with_attributes(**wanted):
    values = {
        name: catalog_pb2.AttributeValues(
            values=[catalog_pb2.AttributeValue(**{KINDS[type(value)]: value}) for value in any_of]
        )
        for name, any_of in wanted.items()
    }
    return listed(attributes=values)


for name, value in attributes.items():
    assert with_attributes(**{name: [value]}) == ["Mint tea"], name
assert with_attributes(grams=[50, 100.0], origin=["Ceylon", "Morocco"]) == ["Mint tea"]
assert with_attributes(grams=[100], origin=["Ceylon"]) == [] and with_attributes(a=["b"]) == []
empty = catalog_pb2.ProductFilter(attributes={"grams": catalog_pb2.AttributeValues()})
assert_fails(
    "INVALID_ARGUMENT",
    "validation_failed",
    lambda request, **options: list(catalog.ListProducts(request, **options)),
    catalog_pb2.ListProductsRequest(filter=empty),
)

# ---- Stock ---------------------------------------------------------------------------------------

request = inventory_pb2.GetStockRequest(product_id=tea["id"])
found = answer(inventory.GetStock, request, ADMIN, [("cache-control", "no-cache")])
assert found == inventory_pb2.Stock(
    product_id=tea["id"], on_hand=40, reserved=0, available=40, version=1
), found


def adjust(**fields):
    fields = {"product_id": tea["id"], "reason": "delivery", **fields}
    return answer(inventory.AdjustStock, inventory_pb2.AdjustStockRequest(**fields), ADMIN)


assert adjust(delta=-4, reference="PO-17").on_hand == 36
assert adjust(set=50).version == 3
assert adjust(set=50).version == 3, "nothing has changed"
movements = http("GET", f"/api/products/{tea['id']}/stock/movements", token=ADMIN)["items"]
assert [m["on_hand_delta"] for m in movements] == [14, -4, 40], movements
assert (movements[1]["reason"], movements[1]["reference"]) == ("delivery", "PO-17")
assert "reference" not in movements[0], movements

# A repeat with the same key answers the same, and changes nothing.
keyed = inventory_pb2.AdjustStockRequest(
    product_id=tea["id"], delta=5, reason="delivery", idempotency_key="delivery-18"
)
first, call = inventory.AdjustStock.with_call(keyed, metadata=bearer(ADMIN), timeout=LONG)
assert first.on_hand == 55 and "idempotency-replayed" not in dict(call.initial_metadata())
adjust(delta=1)
again, call = inventory.AdjustStock.with_call(keyed, metadata=bearer(ADMIN), timeout=LONG)
assert again == first and dict(call.initial_metadata())["idempotency-replayed"] == "true"
# Over HTTP, it is the same request, too.
body = {"delta": 5, "reason": "delivery"}
path, key = f"/api/products/{tea['id']}/stock", {"idempotency-key": "delivery-18"}
assert http("POST", path, body, ADMIN, key)["on_hand"] == 55
http("POST", path, {"set": 9, "reason": "count"}, ADMIN, {"idempotency-key": "count-1"})
over_grpc = adjust(set=9, reason="count", idempotency_key="count-1")
assert (over_grpc.on_hand, over_grpc.version) == (9, 6), over_grpc
assert http("GET", path, token=ADMIN)["version"] == 6

# ---- Carts ---------------------------------------------------------------------------------------

for user in (ADA, GUEST):
    empty = answer(cart.GetCart, cart_pb2.GetCartRequest(user_token=user), ADMIN)
    over_http = http("GET", "/api/cart", token=user)
    assert (empty.id, empty.user_id) == (over_http["id"], over_http["user_id"])
    assert (empty.version, len(empty.items), amount(empty.total_amount)) == (0, 0, 0)
    assert empty.HasField("expires_at") == (user == GUEST)
http("POST", "/api/cart/add", {"product_id": tea["id"], "quantity": 3}, ADA)
patch = (b'{"price": 20.5}', ADMIN, None, "application/merge-patch+json")
http("PATCH", f"/api/products/{tea['id']}", *patch)
# A customer is a caller like any other.
found = answer(cart.GetCart, cart_pb2.GetCartRequest(user_token=ADA), GUEST)
(item,) = found.items
assert (found.version, found.item_count, amount(found.total_amount)) == (1, 3, 61.5), found
assert (item.product_id, item.name, item.quantity, item.available) == (tea["id"], "Mint tea", 3, 9)
assert (amount(item.unit_price), amount(item.total)) == (20.5, 61.5)
assert amount(item.previous_unit_price) == 19.99
assert (amount(found.subtotal), len(found.discounts), len(found.taxes)) == (61.5, 0, 0)
rate = {"name": "VAT", "country": "DE", "rate": "0.1"}
rate = http("POST", "/api/tax-rates", rate, ADMIN)
ten = {"name": "Ten", "code": "TEN", "effect": {"percent_off": 10}}
ten = http("POST", "/api/promotions", ten, ADMIN)
http("PUT", "/api/cart/shipping", {"country": "DE", "postal_code": "10115"}, ADA)
http("POST", "/api/cart/codes", {"code": "ten"}, ADA)
found = answer(cart.GetCart, cart_pb2.GetCartRequest(user_token=ADA), GUEST)
(discount,), (code,), (tax,) = found.discounts, found.codes, found.taxes
assert (discount.promotion_id, discount.code, amount(discount.amount)) == (ten["id"], "TEN", 6.15)
assert (code.code, code.applied, code.HasField("reason")) == ("TEN", True, False)
assert (tax.name, tax.rate, amount(tax.amount), tax.included) == ("VAT", "0.1", 5.54, False)
assert (found.shipping_to.country, found.shipping_to.postal_code) == ("DE", "10115")
assert not found.HasField("shipping")
assert (amount(found.items[0].discount), amount(found.items[0].tax)) == (6.15, 5.54)
assert amount(found.total_amount) == 60.89
for path in (f"/api/tax-rates/{rate['id']}", f"/api/promotions/{ten['id']}"):
    http("DELETE", path, None, ADMIN)
over_http = http("GET", "/api/cart", token=ADA)
assert found.updated_at.ToDatetime(timezone.utc) == instant(over_http["updated_at"])

# ---- Reflection ----------------------------------------------------------------------------------

database = ProtoReflectionDescriptorDatabase(CHANNEL)
services = set(database.get_services())
names = {"AuthService", "CatalogService", "InventoryService", "CartService"}
assert {f"souk.v1.{name}" for name in names} | {"grpc.health.v1.Health"} <= services, services
described = DescriptorPool(database).FindServiceByName("souk.v1.CatalogService")
assert described.methods_by_name["ListProducts"].server_streaming, described

# Rights are the account's, and by scope: ADA's token goes on with what an admin gives and takes.
def set_rights(change):
    http("PATCH", f"/api/users/{ada_id}", change, ADMIN)


ada_id = http("GET", "/api/auth/me", None, ADA)["id"]
product = new_product()
read = inventory_pb2.GetStockRequest(product_id=product)
change = inventory_pb2.AdjustStockRequest(product_id=product, delta=1, reason="delivery")
validate = auth_pb2.ValidateTokenRequest(token=ADA)
for scopes, may_read, may_change in (
    ([], False, False),
    (["orders", "catalog"], False, False),
    (["stock:read"], True, False),
    (["stock"], True, True),
):
    set_rights({"role": "staff", "scopes": scopes})
    assert answer(auth.ValidateToken, validate).role == "staff"
    for call, message, is_permitted in (
        (inventory.GetStock, read, may_read),
        (inventory.AdjustStock, change, may_change),
    ):
        if is_permitted:
            answer(call, message, ADA)
        else:
            assert_fails("PERMISSION_DENIED", "forbidden", call, message, metadata=bearer(ADA))
set_rights({"role": "customer"})
assert answer(auth.ValidateToken, validate).role == "customer"
assert_fails("PERMISSION_DENIED", "forbidden", inventory.GetStock, read, metadata=bearer(ADA))
set_rights({"blocked": True})
assert not answer(auth.ValidateToken, validate).valid
failed = assert_fails(
    "UNAUTHENTICATED", "account_blocked", inventory.GetStock, read, metadata=bearer(ADA)
)
assert failed.metadata["token"] == "authorization", failed
