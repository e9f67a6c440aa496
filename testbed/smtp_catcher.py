"""A mail server that keeps every message it takes as a file: STARTTLS and AUTH are required when a
certificate is given. Run by weir-testbed with Debian's python3-aiosmtpd.

usage: smtp_catcher.py PORT DIR [CERT KEY USER PASSWORD]

Message n becomes DIR/n.eml (as received) and DIR/n.json (the envelope). While DIR/refuse exists,
each message is answered with the text in it, for example "451 4.3.0 try again later".
"""

import json
import os
import signal
import ssl
import sys

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword


class Keeper:
    """Writes each message and its envelope; the .json comes last and by rename, so that whoever
    sees it sees the whole message."""

    def __init__(self, directory):
        self.directory = directory
        self.count = 0

    async def handle_DATA(self, server, session, envelope):
        refusal = os.path.join(self.directory, "refuse")
        if os.path.exists(refusal):
            with open(refusal, encoding="ascii") as text:
                return text.read().strip()
        self.count += 1
        base = os.path.join(self.directory, f"{self.count:04}")
        with open(base + ".eml", "wb") as message:
            message.write(envelope.original_content)
        with open(base + ".tmp", "w", encoding="utf-8") as about:
            json.dump(
                {
                    "from": envelope.mail_from,
                    "to": envelope.rcpt_tos,
                    "tls": session.ssl is not None,
                    "user": session.auth_data,
                },
                about,
            )
        os.rename(base + ".tmp", base + ".json")
        return "250 2.0.0 kept"


def controller(port, directory, secure):
    options = {}
    if secure:
        cert, key, user, password = secure
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)

        def authenticate(server, session, envelope, mechanism, data):
            known = isinstance(data, LoginPassword) and (
                data.login.decode(),
                data.password.decode(),
            ) == (user, password)
            # handled=False lets the server answer 535 itself.
            return AuthResult(success=known, handled=False, auth_data=user if known else None)

        options = {
            "tls_context": context,
            "require_starttls": True,
            "auth_required": True,
            "authenticator": authenticate,
        }
    keeper = Keeper(directory)
    keeper.count = sum(name.endswith(".json") for name in os.listdir(directory))
    return Controller(keeper, hostname="127.0.0.1", port=port, **options)


def main():
    port, directory, *secure = sys.argv[1:]
    # Blocked before the server's thread starts, so that only sigwait below takes it.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
    server = controller(int(port), directory, secure)
    server.start()
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    server.stop()


main()
