#!/usr/bin/env python3
"""An example warehouse: prints every stock change, and adds 20 units when stock runs low.

Usage: consumer.py [AMQP-URL]
Requires pika: apt install python3-pika, or pip install pika.
"""

import json
import signal
import sys

import pika

QUEUE, COMMANDS = "example.warehouse", "souk.inventory.commands"


def restock(channel, event):
    """Requests 20 more units.

    The command id derives from the event id, and Souk applies each command id once. So an event
    that is delivered twice does not add stock twice.
    """
    product = event["data"]["product_id"]
    command = {
        "id": f"restock-{event['id']}",
        "type": "inventory.adjust",
        "product_id": product,
        "delta": 20,
        "reason": "restock",
    }
    properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
    channel.basic_publish("", COMMANDS, json.dumps(command), properties, mandatory=True)
    print(f"restock {product}: +20", flush=True)


# Ctrl-C ends the process. RabbitMQ redelivers unacknowledged messages at the next start.
signal.signal(signal.SIGINT, signal.SIG_DFL)
url = sys.argv[1] if len(sys.argv) > 1 else "amqp://localhost"
channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
channel.confirm_delivery()
channel.exchange_declare("souk.events", "topic", durable=True)
channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
channel.queue_bind(QUEUE, "souk.events", "inventory.#")
channel.basic_qos(prefetch_count=16)
print("waiting for stock events", flush=True)
for method, _, body in channel.consume(QUEUE):
    event = json.loads(body)
    if event["type"] == "inventory.stock.changed":
        stock = event["data"]
        print(
            f"stock {stock['product_id']}: {stock['available']} available, "
            f"{stock['on_hand']} on hand (version {stock['version']})",
            flush=True,
        )
    else:
        restock(channel, event)
    # Acknowledge the event only after the broker has confirmed the command.
    channel.basic_ack(method.delivery_tag)
