"""While the store does not answer, neither does the node, and it says so. STORE is the process of
the store's server; `http.request_timeout` is one second."""

import signal

from grpc_health.v1 import health_pb2, health_pb2_grpc

from shop import *

STORE = int(os.environ["STORE"])
get = catalog_pb2.GetProductRequest(product_id=new_product())
health = health_pb2_grpc.HealthStub(CHANNEL)


def status():
    return health.Check(health_pb2.HealthCheckRequest(), timeout=LONG).status


while status() != health_pb2.HealthCheckResponse.SERVING:
    pass
os.kill(STORE, signal.SIGSTOP)
# A node may serve what it has in memory for another moment.
found = None
while found is None:
    try:
        catalog.GetProduct(get, timeout=LONG)
    except grpc.RpcError as error:
        found = Failure(error)
assert (found.status, found.reason) == ("UNAVAILABLE", "store_unavailable"), found
assert found.retry_after >= 1, found
assert failure(catalog.GetProduct, get, timeout=0.2).status == "DEADLINE_EXCEEDED"
while status() != health_pb2.HealthCheckResponse.NOT_SERVING:
    pass

os.kill(STORE, signal.SIGCONT)
while status() != health_pb2.HealthCheckResponse.SERVING:
    pass
while found is not None:
    try:
        found = catalog.GetProduct(get, timeout=LONG) and None
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
