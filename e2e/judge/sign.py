"""Signs a message with dkimpy, for the tests of the receivers and of the judge.

One JSON object comes in on standard input:

    {"message": TEXT, "signatures": [{"domain", "selector", "algorithm", "key"}, ...]}

with `algorithm` one of `rsa-sha256` (`key` is a PEM private key) and `ed25519-sha256` (`key` is
the base64 of the 32-byte seed). The message goes out on standard output, each signature a
DKIM-Signature field over the original message. Relaxed canonicalization throughout.
"""

import json
import sys

import dkim

HEADERS = [b"from", b"to", b"subject", b"date", b"message-id"]


def main():
    """Puts all signatures on top of the message."""
    order = json.load(sys.stdin)
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
    sys.stdout.buffer.write(b"".join(fields) + message)


if __name__ == "__main__":
    main()
