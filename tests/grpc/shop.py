"""What the scripts of this folder share: the shop, its services, and errors as values.

A test sets GRPC (host and port), SOUK (the URL), PID (of the server), DATA (the store's folder),
and the access tokens ADMIN, ADA and GUEST.
"""

import json
import os
import sqlite3
import urllib.error
import urllib.request

import grpc
from google.rpc import error_details_pb2, status_pb2
from google.type import money_pb2
from souk.v1 import (
    auth_pb2,
    auth_pb2_grpc,
    cart_pb2,
    cart_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    inventory_pb2,
    inventory_pb2_grpc,
)

ADDRESS, URL, PID = os.environ["GRPC"], os.environ["SOUK"], int(os.environ["PID"])
ADMIN, ADA, GUEST = (os.environ[name] for name in ("ADMIN", "ADA", "GUEST"))
NOWHERE = "01a206bc-0609-7165-8b52-173bd2923daf"

# An upper bound that only a hang exceeds, in seconds.
LONG = 120

# A channel of its own has a connection of its own, and asks no proxy.
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]


def connect(options=()):
    return grpc.insecure_channel(ADDRESS, options=[*OPTIONS, *options])


CHANNEL = connect()
auth = auth_pb2_grpc.AuthServiceStub(CHANNEL)
catalog = catalog_pb2_grpc.CatalogServiceStub(CHANNEL)
inventory = inventory_pb2_grpc.InventoryServiceStub(CHANNEL)
cart = cart_pb2_grpc.CartServiceStub(CHANNEL)


def bearer(token):
    return [("authorization", f"Bearer {token}")]


JSON = "application/json"


def http(method, path, body=None, token=None, headers=None, media_type=JSON, url=URL):
    """Sends a request over HTTP; returns the JSON of a 2xx."""
    headers = dict(headers or {})
    if token:
        headers["authorization"] = f"Bearer {token}"
    if body is not None:
        headers["content-type"] = media_type
    if media_type == JSON and body is not None:
        body = json.dumps(body).encode()
    request = urllib.request.Request(url + path, method=method, data=body, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=LONG) as response:
        text = response.read()
        return json.loads(text) if text.startswith(b"{") else text.decode()


def new_product(**details):
    product = {"name": "Mint tea", "description": "", "price": 4.5, "stock": 10, **details}
    return http("POST", "/api/products", product, ADMIN)["id"]


def metric(name):
    """The value of a metric; 0 if there is none yet."""
    for line in http("GET", "/metrics").splitlines():
        if line.startswith(name + " "):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


def memory(name):
    """A value of /proc/<pid>/status, such as VmRSS, in bytes."""
    with open(f"/proc/{PID}/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024


class WriteLock:
    """Blocks all writes to the store."""

    def __enter__(self):
        path = os.path.join(os.environ["DATA"], "souk.db")
        self.connection = sqlite3.connect(path, isolation_level=None, timeout=LONG)
        self.connection.execute("BEGIN IMMEDIATE")
        return self

    def __exit__(self, *_):
        self.connection.execute("ROLLBACK")
        self.connection.close()


class Failure:
    """The error of a call: its status, and what its details say."""

    def __init__(self, error):
        self.status, self.message = error.code().name, error.details()
        self.reason, self.metadata, self.fields, self.retry_after = None, {}, {}, None
        trailers = {key: value for key, value in error.trailing_metadata() or ()}
        details = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
        for detail in details.details:
            info = error_details_pb2.ErrorInfo()
            bad = error_details_pb2.BadRequest()
            retry = error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                assert info.domain == "souk", info
                self.reason, self.metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(bad):
                self.fields = {v.field: v.reason for v in bad.field_violations}
            elif detail.Unpack(retry):
                self.retry_after = retry.retry_delay.seconds
        if self.reason is not None:
            assert details.code == error.code().value[0] and details.message == self.message
            assert self.message and self.metadata["request_id"], self

    def __repr__(self):
        return f"{self.status} {self.reason} {self.metadata} {self.fields} {self.message!r}"


def failure(call, *arguments, **options):
    """Makes a call that must fail."""
    try:
        answer = call(*arguments, timeout=options.pop("timeout", LONG), **options)
        answer = list(answer) if hasattr(answer, "__next__") else answer
    except grpc.RpcError as error:
        return Failure(error)
    raise AssertionError(f"the call succeeded: {answer}")


def assert_fails(status, code, call, *arguments, **options):
    """Makes a call that must fail like this; returns the failure."""
    found = failure(call, *arguments, **options)
    assert (found.status, found.reason) == (status, code), (found, arguments)
    return found


def answer(call, message, token=None, metadata=(), timeout=LONG):
    """Makes a call that must succeed."""
    metadata = [*metadata, *(bearer(token) if token else [])]
    return call(message, metadata=metadata, timeout=timeout)
