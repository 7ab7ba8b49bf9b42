"""The limits of HTTP hold for gRPC, too. LIMIT says which one the server has."""

from shop import *

LIMIT = os.environ["LIMIT"]
everything = catalog_pb2.ListProductsRequest()


def until_refused(call, message, **options):
    for count in range(10_000):
        try:
            call(message, timeout=LONG, **options)
        except grpc.RpcError as error:
            return count, Failure(error)
    raise AssertionError("no call was refused")


def assert_rate_limited(found):
    assert (found.status, found.reason) == ("RESOURCE_EXHAUSTED", "rate_limited"), found
    assert found.retry_after >= 1, found


def open_stream(channel=CHANNEL):
    """A stream that is not read."""
    stream = catalog_pb2_grpc.CatalogServiceStub(channel).ListProducts(everything, timeout=LONG)
    next(stream)
    return stream


def fill_catalog():
    line = json.dumps({"name": "Tea", "price": 1, "description": "x" * 5000})
    body = "\n".join([line] * 1000).encode()
    http("POST", "/api/products/import", body, ADMIN, None, "application/x-ndjson")


if LIMIT == "per_user":
    tea = new_product()
    request = inventory_pb2.GetStockRequest(product_id=tea)
    count, found = until_refused(inventory.GetStock, request, metadata=bearer(ADMIN))
    assert count >= 2, count
    assert_rate_limited(found)
    # Other users and strangers are not concerned.
    user = cart_pb2.GetCartRequest(user_token=ADA)
    cart.GetCart(user, metadata=bearer(ADA), timeout=LONG)
    catalog.GetProduct(catalog_pb2.GetProductRequest(product_id=tea), timeout=LONG)
elif LIMIT == "per_address":
    batch = catalog_pb2.BatchGetProductsRequest()
    _, found = until_refused(catalog.BatchGetProducts, batch)
    assert_rate_limited(found)
    # A request over HTTP counts, too, and probes do not.
    try:
        while True:
            http("GET", "/api/products")
    except urllib.error.HTTPError as error:
        assert error.code == 429, error
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    health = health_pb2_grpc.HealthStub(CHANNEL)
    for _ in range(100):
        health.Check(health_pb2.HealthCheckRequest(), timeout=LONG)
elif LIMIT == "feeds":
    fill_catalog()
    streams = [open_stream() for _ in range(2)]
    found = assert_fails("RESOURCE_EXHAUSTED", "too_many_feeds", catalog.ListProducts, everything)
    assert found.retry_after >= 1, found
    streams.pop().cancel()
    while metric("souk_event_feeds") > 1:
        pass
    streams.append(open_stream())
elif LIMIT == "connections":
    fill_catalog()
    # One connection carries as many calls of an address as it may have connections.
    streams = [open_stream() for _ in range(4)]
    batch = catalog_pb2.BatchGetProductsRequest()
    assert_rate_limited(failure(catalog.BatchGetProducts, batch))
    for stream in streams:
        stream.cancel()
    while metric("souk_event_feeds") > 0:
        pass
    # Those over HTTP count, too, until they are closed.
    channels = [connect() for _ in range(3)]
    for channel in channels:
        stub = catalog_pb2_grpc.CatalogServiceStub(channel)
        stub.BatchGetProducts(batch, wait_for_ready=True, timeout=LONG)
    refused = catalog_pb2_grpc.CatalogServiceStub(connect())
    assert failure(refused.BatchGetProducts, batch).status == "UNAVAILABLE"
    channels.pop().close()
    answer_of_retry = None
    while answer_of_retry is None:
        try:
            answer_of_retry = refused.BatchGetProducts(batch, wait_for_ready=True, timeout=LONG)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE, error
elif LIMIT == "streams":
    fill_catalog()
    # One connection carries a hundred calls at a time; the client waits with the next one.
    streams = [open_stream() for _ in range(100)]
    batch = catalog_pb2.BatchGetProductsRequest()
    waiting = catalog.BatchGetProducts.future(batch, timeout=LONG)
    catalog_pb2_grpc.CatalogServiceStub(connect()).BatchGetProducts(batch, timeout=LONG)
    assert not waiting.done()
    streams.pop().cancel()
    waiting.result()
else:
    raise AssertionError(LIMIT)
