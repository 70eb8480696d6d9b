"""An ordinary mail client: Python's smtplib, as an application would use it.

One JSON object comes in on standard input:

    {"host", "address", "port", "user", "password", "ca_file",
     "tls": "starttls" | "implicit" | "none",
     "break": "fails" | "ends",
     "messages": [{"from", "to", "subject", "body", "headers": {NAME: VALUE}}, ...]}

and for each message a line goes out, with the server's reply to the command that decided it:

    {"to", "message_id", "accepted": BOOL, "command", "code", "reply", "id"}

`id` is what the reply to DATA calls it ("queued as ID"), or null. The exit code is 0 whatever
the server answers, and 1 with the reason on standard error when no dialogue came about at all:
connection, certificate or password. A session that breaks later is the same, or, where "break" is
"ends", just the end: the messages after it have no line.
"""

import email.message
import email.policy
import email.utils
import json
import re
import smtplib
import socket
import ssl
import sys

# Seconds one command may take; RFC 5321, section 4.5.3.2 asks for minutes, a local server is quick.
TIMEOUT = 60


def connect(settings):
    """A session that is ready for MAIL; `address` is dialed where `host` does not resolve."""
    if settings.get("address") is not None:
        resolve, target = socket.create_connection, (settings["address"], settings["port"])
        socket.create_connection = lambda _, *rest, **named: resolve(target, *rest, **named)
    context = ssl.create_default_context(cafile=settings.get("ca_file"))
    host, port = settings["host"], settings["port"]
    if settings["tls"] == "implicit":
        session = smtplib.SMTP_SSL(host, port, timeout=TIMEOUT, context=context)
    else:
        session = smtplib.SMTP(host, port, timeout=TIMEOUT)
    if settings["tls"] == "starttls":
        session.starttls(context=context)
    session.ehlo_or_helo_if_needed()
    if settings.get("user") is not None:
        session.login(settings["user"], settings["password"])
    return session


def compose(message):
    """The message as bytes, and its Message-ID."""
    mail = email.message.EmailMessage()
    mail["From"] = message["from"]
    mail["To"] = message["to"]
    mail["Subject"] = message["subject"]
    mail["Date"] = email.utils.formatdate()
    sender_domain = email.utils.parseaddr(message["from"])[1].rpartition("@")[2]
    mail["Message-ID"] = email.utils.make_msgid(domain=sender_domain)
    for name, value in message.get("headers", {}).items():
        mail[name] = value
    mail.set_content(message["body"])
    return mail.as_bytes(policy=email.policy.SMTP), mail["Message-ID"]


def send(session, message):
    """Sends one message command by command, since sendmail() hides the last reply."""
    raw, message_id = compose(message)
    sender = email.utils.parseaddr(message["from"])[1]
    recipient = email.utils.parseaddr(message["to"])[1]
    command, (code, reply) = "MAIL", session.mail(sender)
    if code == 250:
        command, (code, reply) = "RCPT", session.rcpt(recipient)
    if code in (250, 251):
        command = "DATA"
        try:
            code, reply = session.data(raw)
        except smtplib.SMTPDataError as refusal:
            code, reply = refusal.smtp_code, refusal.smtp_error
    accepted = command == "DATA" and code == 250
    if not accepted:
        session.rset()
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
    queued = re.search(r"queued as (\S+)", text) if accepted else None
    return {
        "to": message["to"],
        "message_id": message_id,
        "accepted": accepted,
        "command": command,
        "code": code,
        "reply": text,
        "id": queued.group(1) if queued else None,
    }


def main():
    """Sends all messages over one session."""
    settings = json.load(sys.stdin)
    session = None
    try:
        session = connect(settings)
        for message in settings["messages"]:
            print(json.dumps(send(session, message)), flush=True)
        session.quit()
    except (smtplib.SMTPException, OSError) as error:
        if session is not None and settings["break"] == "ends":
            return
        sys.exit(f"{settings['host']}:{settings['port']}: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
