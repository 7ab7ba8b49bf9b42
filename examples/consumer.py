#!/usr/bin/env python3
"""A warehouse: prints every change of stock, and sends 20 pieces when one runs low.

Usage: consumer.py [AMQP-URL], with pika installed (apt install python3-pika, or pip install pika).
"""

import json
import sys

import pika

QUEUE = "example.warehouse"
COMMANDS = "souk.inventory.commands"


def restock(channel, event):
    """Asks for more. Of a repeated event comes the same id, and the shop carries out each id once."""
    command = {
        "id": f"restock-{event['id']}",
        "type": "inventory.adjust",
        "product_id": event["data"]["product_id"],
        "delta": 20,
        "reason": "restock",
    }
    properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
    channel.basic_publish("", COMMANDS, json.dumps(command), properties, mandatory=True)
    print(f"restock {command['product_id']}: +{command['delta']}", flush=True)


def on_event(channel, method, _properties, body):
    """Acknowledges an event when everything that follows from it is safe with the broker."""
    event = json.loads(body)
    stock = event["data"]
    if event["type"] == "inventory.stock.changed":
        print(f"stock {stock['product_id']}: {stock['available']} of {stock['on_hand']} (version {stock['version']})", flush=True)
    else:
        restock(channel, event)
    channel.basic_ack(method.delivery_tag)


channel = pika.BlockingConnection(pika.URLParameters(sys.argv[1] if len(sys.argv) > 1 else "amqp://localhost")).channel()
channel.confirm_delivery()
channel.exchange_declare("souk.events", "topic", durable=True)
channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
channel.queue_bind(QUEUE, "souk.events", "inventory.#")
channel.basic_qos(prefetch_count=16)
channel.basic_consume(QUEUE, on_event)
print("waiting for news of stock", flush=True)
try:
    channel.start_consuming()
except KeyboardInterrupt:
    channel.connection.close()
