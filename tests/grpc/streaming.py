"""A stream of 100,000 products takes little of the server's memory, read or not read."""

from shop import *

COUNT, DESCRIPTION = 100_000, "A description. " * 40


def lines():
    for number in range(COUNT):
        product = {"name": f"Tea {number}", "price": 4.5, "description": DESCRIPTION, "stock": 1}
        yield json.dumps(product).encode() + b"\n"


report = http("POST", "/api/products/import", lines(), ADMIN, None, "application/x-ndjson")
assert (report["created"], report["failed"]) == (COUNT, 0), report

everything = catalog_pb2.ListProductsRequest()
stalled = catalog_pb2_grpc.CatalogServiceStub(connect()).ListProducts(everything, timeout=LONG)
first = [next(stalled).name for _ in range(10)]
assert first == [f"Tea {number}" for number in range(10)], first

# Another client reads all of it, while nothing is read of the first stream.
with open(f"/proc/{PID}/clear_refs", "w", encoding="ascii") as file:
    file.write("5")  # VmHWM begins anew.
before, names, size = memory("VmRSS"), set(), 0
for product in catalog.ListProducts(everything, timeout=LONG):
    names.add(product.name)
    size += product.ByteSize()
assert len(names) == COUNT
peak = memory("VmHWM") - before
print(f"{size >> 20} MiB were sent, and the server had {peak >> 20} MiB more at its peak")
assert size > 60 << 20, size
assert peak < size // 6, (peak, size)

# The server gives up on the first one, which gets what was on its way and learns that more is
# missing.
while metric("souk_event_feeds") > 0:
    pass
rest = 0
try:
    for _ in stalled:
        rest += 1
except grpc.RpcError as error:
    found = Failure(error)
assert (found.status, found.reason) == ("DEADLINE_EXCEEDED", "request_timeout"), found
assert 0 < rest < COUNT // 2, rest
