"""An SMTP server that keeps what it gets, and that refuses, defers or stalls when it is told to.

Arguments: the port (0: any), and a mode: plain, tls or starttls. TLS uses CERT and KEY, which are
files, and then a login is needed, with USER and PASSWORD. What happens is printed, a JSON object a
line: {"port"}, {"told"}, {"stalled"}, or a mail. Standard input takes lines such as
"refuse ada@example.com", with accept, defer, stall or lose (take the mail, and say nothing) instead
of refuse; "*" is every other address.
"""

import asyncio
import email.policy
import json
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

ANSWERS = {
    "refuse": "550 5.1.1 <{}> is unknown here",
    "defer": "451 4.3.0 <{}> has to wait",
}
rules = {}


def tell(**fields):
    print(json.dumps(fields), flush=True)


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        rule = rules.get(address, rules.get("*"))
        if rule == "stall":
            tell(stalled=address)
            await asyncio.Event().wait()
        if rule in ANSWERS:
            return ANSWERS[rule].format(address)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        parts = {
            part.get_content_type(): part.get_content()
            for part in message.walk()
            if not part.is_multipart()
        }
        tell(
            to=envelope.rcpt_tos[0],
            sender=message["From"],
            recipient=message["To"],
            kind=message["X-Souk-Mail"],
            id=message["Message-ID"],
            automatic=message["Auto-Submitted"],
            type=message.get_content_type(),
            subject=message["Subject"],
            text=parts["text/plain"],
            html=parts["text/html"],
        )
        if rules.get(envelope.rcpt_tos[0]) == "lose":
            await asyncio.Event().wait()
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    expected = (os.environ["USER"].encode(), os.environ["PASSWORD"].encode())
    return AuthResult(success=(data.login, data.password) == expected, handled=False)


async def read_rules():
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while line := (await reader.readline()).decode():
        rule, address = line.split()
        rules[address] = rule
        tell(told=address)


async def main(port, mode):
    options, context = {}, None
    if mode != "plain":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(os.environ["CERT"], os.environ["KEY"])
        options = {"authenticator": authenticate, "auth_required": True}
        options["auth_require_tls"] = mode == "starttls"
    if mode == "starttls":
        options |= {"tls_context": context, "require_starttls": True}
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(Handler(), enable_SMTPUTF8=True, hostname="localhost", **options),
        "127.0.0.1",
        port,
        ssl=context if mode == "tls" else None,
    )
    tell(port=server.sockets[0].getsockname()[1])
    await read_rules()


asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
