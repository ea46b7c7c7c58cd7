"""A real mail server for the tests: STARTTLS or TLS, AUTH, and a folder in which each accepted mail is a file.

Usage: smtp_server.py FOLDER CERT KEY (starttls|implicit|none) USER PASSWORD
Prints its port, then serves until its standard input closes. A recipient "refused@..." is refused for good,
"later@..." for now.
"""

import asyncio
import json
import pathlib
import ssl
import sys

try:
    from aiosmtpd.smtp import SMTP, AuthResult
except ImportError:
    print("python3-aiosmtpd is missing: apt-get install -y python3-aiosmtpd", flush=True)
    sys.exit(1)

folder, cert, key, mode, user, password = sys.argv[1:7]
folder = pathlib.Path(folder)


class Mailbox:
    count = 0

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("refused@"):
            return "550 5.1.1 no such user here"
        if address.startswith("later@"):
            return "451 4.3.0 mailbox busy"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, server, session, envelope):
        Mailbox.count += 1
        facts = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None or mode == "implicit",
            "login": session.authenticated,
            "hello": session.host_name,
        }
        (folder / f"{Mailbox.count}.json").write_text(json.dumps(facts))
        (folder / f"{Mailbox.count}.eml").write_bytes(envelope.original_content)
        return f"250 2.0.0 queued as {Mailbox.count}"


def authenticate(server, session, envelope, mechanism, data):
    good = data.login == user.encode() and data.password == password.encode()
    return AuthResult(success=good, handled=not good and False)


async def main():
    context = None
    if mode != "none":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
    loop = asyncio.get_running_loop()

    def session():
        return SMTP(
            Mailbox(),
            loop=loop,
            hostname="mail.test",
            enable_SMTPUTF8=False,
            tls_context=context if mode == "starttls" else None,
            require_starttls=mode == "starttls",
            authenticator=authenticate,
            auth_required=bool(user),
            auth_require_tls=mode == "starttls",
        )

    server = await loop.create_server(
        session, "127.0.0.1", 0, ssl=context if mode == "implicit" else None
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
