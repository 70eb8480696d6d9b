"""Judges what a domain says of mail to it, and what addresses are called, with none of Postrider's
own code: checkdmarc reads the records and the policies and asks about names.

One JSON object a line comes in on standard input:

    {"kind": "mta_sts" | "tls_rpt" | "policy" | "reverse",
     "subject": DOMAIN or policy text or IP, "nameserver": {"ip": IP, "port": PORT}}

and one a line goes out, in the same order:

    {"result": "pass" | "none" | "fail" | "permerror" | "temperror", "detail": TEXT}

Every question goes to the given name server, none to the machine's own, and nothing is fetched.
"""

import json
import sys

import checkdmarc.mta_sts
import checkdmarc.smtp_tls_reporting
import checkdmarc.utils
import dns.exception
import dns.resolver

# Seconds one question may take, retries included. The name server is on this machine.
LIFETIME = 5.0
# What is no answer is no trouble either.
NOTHING = (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer)


def resolver(nameserver):
    """Asks `nameserver` and nobody else."""
    made = dns.resolver.Resolver(configure=False)
    made.nameservers = [nameserver["ip"]]
    made.port = nameserver["port"]
    made.lifetime = LIFETIME
    return made


def is_trouble(error):
    """Whether `error` was raised because the name server gave no usable answer."""
    cause = error.__context__
    return isinstance(cause, dns.exception.DNSException) and not isinstance(cause, NOTHING)


def judge_record(query, parse, absent, every, domain, asking):
    """What `query` finds and `parse` makes of it; `absent` and `every` are their errors."""
    try:
        parse(query(domain, resolver=asking, retries=0)["record"])
    except absent as error:
        return ("temperror" if is_trouble(error) else "none"), str(error)
    except every as error:
        return "permerror", str(error)
    return "pass", ""


def judge_mta_sts(domain, asking):
    """The record of RFC 8461, section 3.1."""
    module = checkdmarc.mta_sts
    absent = (module.MTASTSRecordNotFound, module.UnrelatedTXTRecordFoundAtMTASTS)
    return judge_record(module.query_mta_sts_record, module.parse_mta_sts_record,
                        absent, module.MTASTSError, domain, asking)


def judge_tls_rpt(domain, asking):
    """The record of RFC 8460, section 3."""
    module = checkdmarc.smtp_tls_reporting
    absent = (module.SMTPTLSReportingRecordNotFound,)
    return judge_record(module.query_smtp_tls_reporting_record,
                        module.parse_smtp_tls_reporting_record,
                        absent, module.SMTPTLSReportingError, domain, asking)


def judge_policy(text, _asking):
    """The text of RFC 8461, section 3.2."""
    try:
        checkdmarc.mta_sts.parse_mta_sts_policy(text)
    except checkdmarc.mta_sts.MTASTSPolicyError as error:
        return "permerror", str(error)
    return "pass", ""


def judge_reverse(address, asking):
    """Whether every name of an address leads back to it, as checkdmarc asks of a mail host."""
    utils = checkdmarc.utils
    try:
        names = utils.get_reverse_dns(address, resolver=asking, retries=0)
    except utils.DNSException as error:
        return "temperror", str(error)
    if not names:
        return "none", "no name"
    for name in names:
        try:
            addresses = utils.get_a_records(name, resolver=asking, retries=0)
        except utils.DNSExceptionNXDOMAIN:
            addresses = []
        except utils.DNSException as error:
            return "temperror", str(error)
        if address not in addresses:
            return "fail", f"{name} leads to {addresses}"
    return "pass", ""


JUDGES = {
    "mta_sts": judge_mta_sts,
    "tls_rpt": judge_tls_rpt,
    "policy": judge_policy,
    "reverse": judge_reverse,
}


def main():
    """Answers each line as it comes."""
    for line in sys.stdin:
        if line.strip():
            question = json.loads(line)
            asking = resolver(question["nameserver"])
            result, detail = JUDGES[question["kind"]](question["subject"], asking)
            print(json.dumps({"result": result, "detail": detail}), flush=True)


if __name__ == "__main__":
    main()
