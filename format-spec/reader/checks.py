"""Chapter 12: what checks have read of the packs. A reader that restores has no use for it."""

from dataclasses import dataclass

import codec
from codec import Decoder, Refused
from keys import MAINTAINER, OWNER, READER, Certificate, Domain, checked_signature, decode_certificate
from layout import checks_key

SIGN_CHECKS = "kist 1 sign checks"


@dataclass(frozen=True)
class Range:
    first: int
    last: int
    since: int
    upto: int


@dataclass(frozen=True)
class Checks:
    time: int
    hashed: list[Range]
    opened: list[Range]
    certificate: Certificate
    signature: bytes


def open_checks(domain: Domain, number: int, data: bytes) -> Checks:
    source = domain.open(checks_key(number), data, codec.CHECKS_LEN)
    time, hashed, opened = source.i64(), _ranges(source), _ranges(source)
    certificate = decode_certificate(source)
    place = domain.id + number.to_bytes(8, "little")
    roles = (MAINTAINER, READER, OWNER)
    signature = checked_signature(source, SIGN_CHECKS, certificate, roles, domain, place)
    return Checks(time, hashed, opened, certificate, signature)


def _ranges(source: Decoder) -> list[Range]:
    found: list[Range] = []
    for _ in range(source.count(codec.CHECK_RANGES, 24)):
        one = Range(source.u32(), source.u32(), source.i64(), source.i64())
        if one.last < one.first or (found and not _follows(found[-1], one)):
            raise Refused("invalid", f"a range from {one.first} to {one.last}")
        found.append(one)
    return found


def _follows(before: Range, one: Range) -> bool:
    is_same = (before.since, before.upto) == (one.since, one.upto)
    return before.last < one.first and not (is_same and before.last + 1 == one.first)
