"""Signs messages with dkimpy, for the tests of the receivers and of the judge.

One JSON object a line comes in on standard input:

    {"message": TEXT, "signatures": [{"domain", "selector", "algorithm", "key"}, ...]}

with `algorithm` one of `rsa-sha256` (`key` is a PEM private key) and `ed25519-sha256` (`key` is
the base64 of the 32-byte seed). One a line goes out, in the same order: the signed message as a
JSON string of base64, each signature a DKIM-Signature field over the original message. Relaxed
canonicalization throughout.
"""

import base64
import json
import sys

import dkim

HEADERS = [b"from", b"to", b"subject", b"date", b"message-id"]


def sign(order):
    """Puts all signatures on top of the message."""
    message = order["message"].encode("utf-8")
    fields = [
        dkim.sign(
            message,
            one["selector"].encode("ascii"),
            one["domain"].encode("ascii"),
            one["key"].encode("ascii"),
            include_headers=HEADERS,
            canonicalize=(b"relaxed", b"relaxed"),
            signature_algorithm=one["algorithm"].encode("ascii"),
        )
        for one in order["signatures"]
    ]
    return b"".join(fields) + message


def main():
    """Answers each line as it comes."""
    for line in sys.stdin:
        if line.strip():
            signed = sign(json.loads(line))
            print(json.dumps(base64.b64encode(signed).decode("ascii")), flush=True)


if __name__ == "__main__":
    main()
