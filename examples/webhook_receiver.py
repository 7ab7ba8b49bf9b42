#!/usr/bin/env python3
"""An example receiver of webhooks: verifies each event, and prints it once.

Usage: webhook_receiver.py SECRET [PORT]
SECRET is the `secret` of the webhook. Requires standardwebhooks: pip install standardwebhooks.
"""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(sys.argv[1])
port = int(sys.argv[2]) if len(sys.argv) > 2 else 8000
# An event may come more than once. A real receiver remembers ids together with what it does.
seen = set()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            event = webhook.verify(body, dict(self.headers))
        except WebhookVerificationError:
            self.answer(401)
            return
        if event["id"] not in seen:
            seen.add(event["id"])
            print(f"{event['type']} {event['subject']} ({event['sequence']})", flush=True)
        # Any status of 200 to 299 says that the event need not be sent again.
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.end_headers()


server = HTTPServer(("", port), Receiver)
print(f"listening on port {port}", flush=True)
server.serve_forever()
