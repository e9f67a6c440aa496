"""A real mail server for the tests: aiosmtpd, as Debian packages it.

smtp_server.py plain|starttls|tls CERT KEY DIR

Prints its port, writes each message it takes to DIR as the bytes that came, with its envelope in
DIR/envelopes, and ends when its standard input is closed.
"""
import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

mode, cert, key, directory = sys.argv[1:]


class Keep:
    count = 0

    async def handle_DATA(self, server, session, envelope):
        Keep.count += 1
        with open(f"{directory}/{Keep.count}.eml", "wb") as file:
            file.write(envelope.original_content)
        with open(f"{directory}/envelopes", "a") as file:
            file.write(json.dumps([envelope.mail_from, envelope.rcpt_tos, bool(session.ssl)]) + "\n")
        return "250 taken"


def authenticate(server, session, envelope, mechanism, data):
    known = data.login == b"weir@example.com" and data.password == b"right horse"
    return AuthResult(success=known, handled=False)


async def main():
    context = None
    if mode != "plain":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)

    def protocol():
        secure = dict(auth_required=True, authenticator=authenticate)
        if mode == "starttls":
            return SMTP(Keep(), tls_context=context, require_starttls=True, **secure)
        if mode == "tls":
            return SMTP(Keep(), auth_require_tls=False, **secure)
        return SMTP(Keep())

    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        protocol, "127.0.0.1", 0, ssl=context if mode == "tls" else None
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
