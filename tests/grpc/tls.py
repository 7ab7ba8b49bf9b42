"""With TLS, a client that knows the certificate is served, and others are not. CERTIFICATE is its
file."""

from shop import *

with open(os.environ["CERTIFICATE"], "rb") as file:
    trusted = grpc.ssl_channel_credentials(root_certificates=file.read())
request = auth_pb2.ValidateTokenRequest(token=ADA)
secure = grpc.secure_channel(ADDRESS, trusted, options=OPTIONS)
assert auth_pb2_grpc.AuthServiceStub(secure).ValidateToken(request, timeout=LONG).valid
stranger = grpc.secure_channel(ADDRESS, grpc.ssl_channel_credentials(), options=OPTIONS)
for channel in (stranger, CHANNEL):
    found = failure(auth_pb2_grpc.AuthServiceStub(channel).ValidateToken, request)
    assert found.status == "UNAVAILABLE", found
