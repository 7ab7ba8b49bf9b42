#!/usr/bin/env python3
"""A warehouse: prints every change of stock, and sends 20 pieces when one runs low.
Usage: consumer.py [AMQP-URL], with pika installed (apt install python3-pika, or pip install pika)."""

import json
import signal
import sys

import pika

QUEUE, COMMANDS = "example.warehouse", "souk.inventory.commands"


def restock(channel, event):
    """Asks for more. Of a repeated event comes the same id, and the shop carries out each id once."""
    product = event["data"]["product_id"]
    command = {"id": f"restock-{event['id']}", "type": "inventory.adjust", "product_id": product, "delta": 20, "reason": "restock"}
    properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
    channel.basic_publish("", COMMANDS, json.dumps(command), properties, mandatory=True)
    print(f"restock {product}: +20", flush=True)


signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it: what was not acknowledged comes again.
channel = pika.BlockingConnection(pika.URLParameters(sys.argv[1] if len(sys.argv) > 1 else "amqp://localhost")).channel()
channel.confirm_delivery()
channel.exchange_declare("souk.events", "topic", durable=True)
channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
channel.queue_bind(QUEUE, "souk.events", "inventory.#")
channel.basic_qos(prefetch_count=16)
print("waiting for news of stock", flush=True)
for method, _, body in channel.consume(QUEUE):
    event = json.loads(body)
    if event["type"] == "inventory.stock.changed":
        stock = event["data"]
        print(f"stock {stock['product_id']}: {stock['available']} of {stock['on_hand']} (version {stock['version']})", flush=True)
    else:
        restock(channel, event)
    # When everything that follows from it is safe with the broker.
    channel.basic_ack(method.delivery_tag)
