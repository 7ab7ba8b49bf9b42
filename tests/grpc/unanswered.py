"""The load balancer's own errors: no node gives an answer, for the reason REASON."""

from shop import *

change = inventory_pb2.AdjustStockRequest(product_id=NOWHERE, delta=1, reason="delivery")
with open(os.environ["CERTIFICATE"], "rb") as file:
    credentials = grpc.ssl_channel_credentials(file.read())
secure = grpc.secure_channel(os.environ["GRPCS"], credentials, OPTIONS)
for channel in (CHANNEL, secure):
    stub = inventory_pb2_grpc.InventoryServiceStub(channel)
    # The second one finds a connection that has carried a call already.
    for _ in range(2):
        try:
            stub.AdjustStock(change, metadata=bearer(ADMIN), timeout=LONG)
            raise AssertionError("there is an answer")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE, error
            trailers = dict(error.trailing_metadata())
            status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
            assert (status.code, status.message) == (14, error.details()), status
            info = error_details_pb2.ErrorInfo()
            assert status.details[0].Unpack(info) and info.domain == "souk", status
            assert info.reason == os.environ["REASON"], info
            assert len(trailers["x-request-id"]) == 36, trailers
