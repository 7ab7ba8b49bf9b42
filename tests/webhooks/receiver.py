"""A receiver of webhooks that verifies each with `standardwebhooks`, and fails as it is told.

Usage: receiver.py [CERTIFICATE KEY]
Each path is an endpoint. Lines of JSON on standard input set what it does:

    {"path": "/a", "rule": "ok", "secrets": ["whsec_..."]}

A rule is `ok`, a status such as `500` or `410`, `redirect`, `hang` (no answer), `cut` (reads and
closes), `endless` (an answer that does not end), or `random` (each request something else of these
but `hang`; one in three is `ok`). Standard output has a line of JSON for the port, for each line
that was read, and for each request, with the numbers of the secrets that verify it.
"""

import hashlib
import json
import random
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

rules, secrets, lock = {}, {}, threading.Lock()
chance = random.Random(7)


def tell(**line):
    with lock:
        print(json.dumps(line), flush=True)


def verifies(secret, body, headers):
    try:
        Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        rule = rules.get(self.path, "ok")
        if rule == "random":
            with lock:
                rule = chance.choice(["ok", "ok", "500", "cut", "redirect", "503"])
        event, headers = json.loads(body), dict(self.headers)
        tell(
            path=self.path,
            rule=rule,
            id=self.headers["webhook-id"],
            event_id=event["id"],
            type=event["type"],
            subject=event["subject"],
            sequence=int(event["sequence"]),
            data=event["data"],
            signatures=len(self.headers["webhook-signature"].split()),
            verified_by=[
                n
                for n, secret in enumerate(secrets.get(self.path, []))
                if verifies(secret, body, headers)
            ],
            timestamp=int(self.headers["webhook-timestamp"]),
            content_type=self.headers["content-type"],
            user_agent=self.headers["user-agent"],
            body=hashlib.sha256(body).hexdigest(),
            at=time.time(),
        )
        if rule == "hang":
            threading.Event().wait()
        if rule == "cut":
            self.close_connection = True
            return
        self.send_response({"ok": 200, "redirect": 302, "endless": 200}.get(rule) or int(rule))
        if rule == "redirect":
            self.send_header("location", "/redirected")
        if rule == "endless":
            self.end_headers()
            while True:
                self.wfile.write(b"x" * 65536)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_GET(self):
        tell(path=self.path, rule="GET")
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, *_):
        """The other side may close a connection at any time."""


server = Server(("127.0.0.1", 0), Receiver)
if len(sys.argv) > 2:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    # The handshake is made when a thread of its own first reads.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
threading.Thread(target=server.serve_forever, daemon=True).start()
tell(port=server.server_address[1])
for line in sys.stdin:
    order = json.loads(line)
    rules[order["path"]] = order.get("rule", rules.get(order["path"], "ok"))
    secrets[order["path"]] = order.get("secrets", secrets.get(order["path"], []))
    tell(told=order["path"])
