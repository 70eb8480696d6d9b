"""Judges stored messages as a receiver would, with none of Postrider's own code.

One JSON object a line comes in on standard input:

    {"message": PATH, "client_ip": IP, "helo": NAME, "mail_from": ADDRESS,
     "nameserver": {"ip": IP, "port": PORT}}

and one a line goes out, in the same order:

    {"dkim":  [{"domain", "selector", "algorithm", "result", "detail"}, ...],
     "spf":   {"domain", "result", "detail"},
     "dmarc": {"domain", "result", "policy", "aligned_by", "detail"}}

DKIM is dkimpy's word on each DKIM-Signature field by itself (RFC 6376), SPF pyspf's (RFC 7208).
DMARC (RFC 7489) is decided here from those two; checkdmarc reads the record. Results are the
words of RFC 8601. Every question goes to the given name server, none to the machine's own.
"""

import email
import email.policy
import email.utils
import json
import re
import sys

import checkdmarc.dmarc
import checkdmarc.utils
import dkim
import dns.exception
import dns.resolver
import spf

# Seconds one question may take, retries included. The name server is on this machine.
LIFETIME = 5.0
# How a DMARC record starts (RFC 7489, section 6.4).
VERSION = re.compile(r"v[ \t]*=[ \t]*DMARC1[ \t]*(;|$)")


class Unreachable(Exception):
    """The name server gave no usable answer, which says nothing about the record."""


class Names:
    """The world of names as one name server tells it."""

    def __init__(self, nameserver):
        self.resolver = dns.resolver.Resolver(configure=False)
        self.resolver.nameservers = [nameserver["ip"]]
        self.resolver.port = nameserver["port"]
        self.resolver.lifetime = LIFETIME
        self.unreachable = None
        self.away = False

    def look_up(self, name, kind):
        """The records of `kind` at `name`; none when there are none."""
        if isinstance(name, bytes):
            name = name.decode("ascii")
        try:
            if self.away:
                raise dns.exception.Timeout
            return list(self.resolver.resolve(name, kind, search=False))
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError) as error:
            # One that was silent for so long is not waited for again in this case.
            self.away = isinstance(error, dns.exception.Timeout)
            self.unreachable = f"{kind} {name}: {error}"
            raise Unreachable(self.unreachable) from error

    def texts(self, name):
        """The TXT records at `name`, each with its strings joined."""
        return [b"".join(record.strings) for record in self.look_up(name, "TXT")]

    def for_dkimpy(self, name, timeout=LIFETIME):
        """The shape dkimpy asks in: the first record, or None."""
        try:
            return next(iter(self.texts(name)), None)
        except Unreachable as error:
            raise dkim.DnsTimeoutError(str(error)) from error

    def for_pyspf(self, name, kind, _tcpfallback=True, timeout=LIFETIME):
        """The shape pyspf asks in: ((name, kind), value) pairs."""
        try:
            records = self.look_up(name, kind)
        except Unreachable as error:
            raise spf.TempError(f"DNS {error}") from error
        return [((name, kind), pyspf_value(record, kind)) for record in records]


def pyspf_value(record, kind):
    """The data of one record as pyspf wants it."""
    if kind in ("A", "AAAA"):
        return record.address
    if kind == "MX":
        return (record.preference, record.exchange.to_text(True))
    if kind == "PTR":
        return record.target.to_text(True)
    return record.strings


def judge_dkim(message, names):
    """dkimpy's word on every signature of the message."""
    count = sum(name.lower() == b"dkim-signature" for name, _ in dkim.DKIM(message).headers)
    return [judge_signature(message, index, names) for index in range(count)]


def judge_signature(message, index, names):
    """dkimpy's word on signature `index`, counted from the top."""
    names.unreachable = None
    complaints = Complaints()
    verifier = dkim.DKIM(message, logger=complaints)
    verifier.signature_fields = {}
    try:
        passed = verifier.verify(idx=index, dnsfunc=names.for_dkimpy)
        result, detail = ("pass", "") if passed else ("fail", complaints.text())
    except dkim.ValidationError as error:
        result, detail = "fail", str(error)
    except (dkim.DKIMException, ValueError, KeyError) as error:
        result, detail = "permerror", f"{type(error).__name__}: {error}"
    if names.unreachable is not None:
        result, detail = "temperror", names.unreachable
    elif result == "fail" and complaints.key_fault:
        result = "permerror"
    tags = {key: value.decode("ascii", "replace") for key, value in verifier.signature_fields.items()}
    return {
        "domain": tags.get(b"d", "").lower(),
        "selector": tags.get(b"s", ""),
        "algorithm": tags.get(b"a", ""),
        "result": result,
        "detail": detail,
    }


class Complaints:
    """Stands in for dkimpy's logger: it says there, and only there, why a key is unusable."""

    def __init__(self):
        self.lines = []
        self.key_fault = False

    def error(self, text, *args):
        """Keeps a complaint. At this level dkimpy reports keys it could not load or use."""
        self.key_fault = True
        self.lines.append(str(text))

    def debug(self, text, *args):
        """Ignores what is said in passing."""

    info = warning = debug

    def isEnabledFor(self, _level):  # noqa: N802, the name is logging's
        """No debug output is wanted."""
        return False

    def text(self):
        """All complaints, or what dkimpy means by saying nothing."""
        return "; ".join(self.lines) or "signature does not verify"


def judge_spf(case, names):
    """pyspf's word on the client's address (RFC 7208, section 4)."""
    spf.DNSLookup = names.for_pyspf
    mail_from, helo = case["mail_from"], case["helo"]
    # RFC 7208, section 2.4: with a null reverse-path the identity is postmaster at the HELO name.
    identity = mail_from.rpartition("@")[2] if mail_from else helo
    result, detail = spf.check2(i=case["client_ip"], s=mail_from, h=helo)
    return {"domain": identity.lower(), "result": result, "detail": detail}


def judge_dmarc(message, dkim_verdicts, spf_verdict, names):
    """Alignment with the From domain over its DMARC record (RFC 7489, section 6.6)."""
    verdict = {"domain": "", "result": "none", "policy": "", "aligned_by": [], "detail": ""}
    try:
        verdict["domain"] = author = author_domain(message)
        found_at, record = dmarc_record(author, names)
        if record is None:
            return {**verdict, "detail": "no DMARC record"}
        tags = dmarc_tags(record, found_at)
    except Unreachable as error:
        return {**verdict, "result": "temperror", "detail": str(error)}
    except (ValueError, checkdmarc.dmarc.DMARCError) as error:
        return {**verdict, "result": "permerror", "detail": str(error)}
    verdict["policy"] = tags["p"] if found_at == author else tags["sp"]
    for name, passing in (
        ("dkim", [one["domain"] for one in dkim_verdicts if one["result"] == "pass"]),
        ("spf", [spf_verdict["domain"]] if spf_verdict["result"] == "pass" else []),
    ):
        strict = tags["adkim" if name == "dkim" else "aspf"] == "s"
        if any(aligned(domain, author, strict) for domain in passing):
            verdict["aligned_by"].append(name)
    verdict["result"] = "pass" if verdict["aligned_by"] else "fail"
    return verdict


def author_domain(message):
    """The domain of the one address in the one From field."""
    fields = email.message_from_bytes(message, policy=email.policy.compat32).get_all("From", [])
    addresses = [address for _, address in email.utils.getaddresses(fields) if "@" in address]
    if len(fields) != 1 or len(addresses) != 1:
        raise ValueError(f"From: wanted one field with one address, got {fields!r}")
    return addresses[0].rpartition("@")[2].lower()


def dmarc_record(author, names):
    """Where the policy of `author` is, and what it says (RFC 7489, section 6.6.3)."""
    for domain in dict.fromkeys([author, organization(author)]):
        texts = [text.decode("utf-8", "replace") for text in names.texts(f"_dmarc.{domain}")]
        records = [text for text in texts if VERSION.match(text)]
        if len(records) == 1:
            return domain, records[0]
        if records:
            return domain, None
    return author, None


def dmarc_tags(record, domain):
    """The tags of a record that matter to the verdict, with defaults filled in."""
    # Report addresses do not matter to the verdict, and checking them would ask for their MX.
    bare = "; ".join(
        tag.strip() for tag in record.split(";")
        if tag.strip() and not tag.strip().lower().startswith(("rua", "ruf"))
    )
    parsed = checkdmarc.dmarc.parse_dmarc_record(bare, domain)["tags"]
    value = lambda tag, default: str(parsed.get(tag, {}).get("value", default)).lower()  # noqa: E731
    policy = value("p", "none")
    return {
        "p": policy,
        "sp": value("sp", policy),
        "adkim": value("adkim", "r"),
        "aspf": value("aspf", "r"),
    }


def aligned(domain, author, strict):
    """RFC 7489, section 3.1."""
    if strict:
        return domain == author
    return organization(domain) == organization(author)


def organization(domain):
    """The organizational domain, by the public suffix list that checkdmarc brings along."""
    return checkdmarc.utils.get_base_domain(domain)


def judge(case):
    """The whole verdict on one message."""
    names = Names(case["nameserver"])
    with open(case["message"], "rb") as file:
        message = file.read()
    dkim_verdicts = judge_dkim(message, names)
    spf_verdict = judge_spf(case, names)
    return {
        "dkim": dkim_verdicts,
        "spf": spf_verdict,
        "dmarc": judge_dmarc(message, dkim_verdicts, spf_verdict, names),
    }


def main():
    """Answers each line as it comes."""
    for line in sys.stdin:
        if line.strip():
            print(json.dumps(judge(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
