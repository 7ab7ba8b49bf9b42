"""A payment provider for tests: the part of Stripe's API that souk uses, with idempotency keys.

Arguments: the port (0: any) and a journal, from which it goes on after a kill. It prints {"port"}.
It can be told to misbehave: POST /_faults with the probability of each fault, in per cent:

  away   closes the connection without reading the request
  error  answers 500 and does nothing
  cut    does the work and closes the connection without an answer
  late   does the work and answers `late_ms` later
  lose   never sends a webhook
  twice  sends a webhook twice

POST /_webhooks {"urls", "secret"} says where webhooks go, each to any of them, again until it is
taken. POST /_pay/<intent> {"declined"} is the buyer. POST /_refund/<intent> {"amount"} is somebody
at the provider, POST /_cancel/<intent> too, POST /_fail/<refund> a bank that takes no refund, and
POST /_send a webhook as it is given. GET /_book is everything that happened. STRIPE_SIGNS=1 signs
webhooks with Stripe's own library.
"""

import hashlib
import hmac
import http.client
import json
import os
import random
import sys
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

lock = threading.Lock()
senders = ThreadPoolExecutor(16)


class Refused(Exception):
    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.body = status, {"error": {"code": code, "message": message}}


class Book:
    def __init__(self, path):
        self.intents, self.refunds, self.keys, self.running = {}, {}, {}, set()
        self.faults, self.webhooks, self.late_ms = {}, {"urls": [], "secret": ""}, 1000
        if os.path.exists(path):
            with open(path) as journal:
                for line in journal:
                    table, key, value = json.loads(line)
                    getattr(self, table)[key] = value
        self.journal = open(path, "a")

    def keep(self, table, key, value):
        getattr(self, table)[key] = value
        self.journal.write(json.dumps([table, key, value]) + "\n")
        self.journal.flush()

    def intent(self, id):
        if id not in self.intents:
            raise Refused(404, "resource_missing", "No such payment_intent")
        return dict(self.intents[id])

    def refunded(self, id):
        return sum(
            refund["amount"]
            for refund in self.refunds.values()
            if refund["payment_intent"] == id and refund["status"] in ("pending", "succeeded")
        )


def new_id(prefix):
    return f"{prefix}_{os.urandom(12).hex()}"


def metadata_of(form):
    return {key[9:-1]: value for key, value in form.items() if key.startswith("metadata[")}


def create_intent(form):
    id = new_id("pi")
    intent = {
        "id": id,
        "object": "payment_intent",
        "amount": int(form["amount"]),
        "amount_received": 0,
        "currency": form["currency"],
        "status": "requires_payment_method",
        "client_secret": f"{id}_secret_{os.urandom(8).hex()}",
        "metadata": metadata_of(form),
        "last_payment_error": None,
    }
    known = ("amount", "currency")
    unknown = [key for key in form if key not in known and not key.startswith("metadata[")]
    if unknown:
        raise Refused(400, "parameter_unknown", f"unknown: {unknown}")
    book.keep("intents", id, intent)
    return intent


def cancel_intent(id):
    intent = book.intent(id)
    unpaid = ("requires_payment_method", "requires_confirmation", "requires_action")
    if intent["status"] not in unpaid:
        raise Refused(400, "payment_intent_unexpected_state", f"it is {intent['status']}")
    intent["status"] = "canceled"
    book.keep("intents", id, intent)
    send("payment_intent.canceled", intent)
    return intent


def pay(id, declined=False):
    intent = book.intent(id)
    if intent["status"] != "requires_payment_method":
        raise Refused(400, "payment_intent_unexpected_state", f"it is {intent['status']}")
    if declined:
        intent["last_payment_error"] = {
            "code": "card_declined",
            "decline_code": "insufficient_funds",
            "message": "Your card has insufficient funds.",
        }
        book.keep("intents", id, intent)
        send("payment_intent.payment_failed", intent)
        return intent
    intent.update(status="succeeded", amount_received=intent["amount"], last_payment_error=None)
    book.keep("intents", id, intent)
    send("payment_intent.succeeded", intent)
    return intent


def create_refund(form):
    id = form["payment_intent"]
    intent = book.intent(id)
    if intent["status"] != "succeeded":
        raise Refused(400, "charge_not_captured", "nothing was paid")
    left = intent["amount"] - book.refunded(id)
    amount = int(form.get("amount", left))
    if left == 0:
        raise Refused(400, "charge_already_refunded", "everything was refunded")
    if amount > left:
        raise Refused(400, "amount_too_large", "more than is left")
    refund = {
        "id": new_id("re"),
        "object": "refund",
        "amount": amount,
        "currency": intent["currency"],
        "payment_intent": id,
        "status": "succeeded",
        "metadata": metadata_of(form),
    }
    book.keep("refunds", refund["id"], refund)
    charge = {
        "id": "ch" + id[2:],
        "object": "charge",
        "amount": intent["amount"],
        "amount_refunded": book.refunded(id),
        "currency": intent["currency"],
        "payment_intent": id,
        "metadata": intent["metadata"],
    }
    send("charge.refunded", charge)
    send("refund.updated", refund)
    return refund


def fail_refund(id):
    refund = dict(book.refunds[id], status="failed", failure_reason="expired_or_canceled_card")
    book.keep("refunds", id, refund)
    send("refund.failed", refund)
    return refund


def sign(payload, secret, age=0):
    at = int(time.time()) - age
    if os.environ.get("STRIPE_SIGNS"):
        import stripe

        return stripe.WebhookSignature.generate_signature_header(payload, secret, at)
    signed = hmac.new(secret.encode(), f"{at}.{payload}".encode(), hashlib.sha256)
    return f"t={at},v1={signed.hexdigest()}"


def happens(fault):
    return random.random() * 100 < book.faults.get(fault, 0)


def send(kind, object):
    event = {"id": new_id("evt"), "object": "event", "type": kind}
    event |= {"api_version": "2025-03-31.basil", "created": int(time.time())}
    payload = json.dumps(event | {"data": {"object": dict(object)}})
    for _ in range(2 if happens("twice") else 1):
        if not happens("lose"):
            senders.submit(deliver, payload)


def deliver(payload):
    # Late and in any order.
    time.sleep(random.random() * 0.2)
    for _ in range(100):
        if not book.webhooks["urls"]:
            return
        url = urllib.parse.urlsplit(random.choice(book.webhooks["urls"]))
        try:
            connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
            headers = {
                "Content-Type": "application/json; charset=utf-8",
                "Stripe-Signature": sign(payload, book.webhooks["secret"]),
            }
            connection.request("POST", url.path, payload, headers)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.3)


def route(method, path, form):
    """What a request does; the lock is held."""
    parts = path.split("/")[2:]
    match method, parts:
        case "POST", ["payment_intents"]:
            return create_intent(form)
        case "GET", ["payment_intents", id]:
            return book.intent(id)
        case "POST", ["payment_intents", id, "cancel"]:
            return cancel_intent(id)
        case "POST", ["refunds"]:
            return create_refund(form)
        case "GET", ["refunds"]:
            id = form["payment_intent"]
            found = [r for r in book.refunds.values() if r["payment_intent"] == id]
            return {"object": "list", "data": found}
        case "GET", ["refunds", id]:
            return book.refunds[id]
    raise Refused(404, "resource_missing", "Unrecognized request URL")


def control(path, body):
    match path.split("/")[1:]:
        case ["_faults"]:
            book.late_ms = body.pop("late_ms", book.late_ms)
            book.faults = body
        case ["_webhooks"]:
            book.webhooks = body
        case ["_pay", id]:
            return pay(id, **body)
        case ["_cancel", id]:
            return cancel_intent(id)
        case ["_refund", id]:
            return create_refund({"payment_intent": id} | body)
        case ["_fail", id]:
            return fail_refund(id)
        case ["_send"]:
            send(body["type"], body["object"])
        case ["_sign"]:
            return {"signature": sign(**body)}
        case ["_book"]:
            intents = [
                intent | {"refunded": book.refunded(intent["id"])}
                for intent in book.intents.values()
            ]
            return {"intents": intents, "refunds": list(book.refunds.values())}
    return {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def serve(self):
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        url = urllib.parse.urlsplit(self.path)
        if url.path.startswith("/_"):
            with lock:
                try:
                    self.answer(200, control(url.path, json.loads(text or "{}")))
                except Refused as refused:
                    self.answer(refused.status, refused.body)
            return
        if happens("away"):
            self.close_connection = True
            return
        if not self.headers.get("Authorization", "").startswith("Bearer sk_test_"):
            self.answer(401, {"error": {"message": "no key"}})
            return
        if happens("error"):
            self.answer(500, {"error": {"message": "try again"}})
            return
        form = dict(urllib.parse.parse_qsl(text or url.query))
        status, body = self.once(url.path, form)
        if happens("late"):
            time.sleep(book.late_ms / 1000)
        if happens("cut"):
            self.close_connection = True
            return
        self.answer(status, body)

    def once(self, path, form):
        """Does the work, once for each key."""
        key = self.headers.get("Idempotency-Key")
        asked = [self.command, path, form]
        with lock:
            if key in book.keys:
                first, status, body = book.keys[key]
                if first != asked:
                    error = {"type": "idempotency_error", "message": "another request"}
                    return 400, {"error": error}
                return status, body
            try:
                status, body = 200, dict(route(self.command, path, form))
            except Refused as refused:
                status, body = refused.status, refused.body
            if key and status == 200:
                book.keep("keys", key, [asked, status, body])
            return status, body

    do_GET = do_POST = serve


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_):
        # A client that gave up.
        pass


book = Book(sys.argv[2])
server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
print(json.dumps({"port": server.server_address[1]}), flush=True)
server.serve_forever()
