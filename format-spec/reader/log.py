"""Chapter 11: entries of the gc log, and what they mean to a reader.

What is held, condemned or verified is decoded and has no effect here: it binds who forgets, who
deletes, and who writes. A renew only answers for what is wrong before it.
"""

from dataclasses import dataclass, field, replace

import codec
from codec import Decoder, Refused
from crypto import digest
from keys import (
    MAINTAINER,
    OWNER,
    READER,
    Certificate,
    Domain,
    checked_signature,
    decode_certificate,
)
from layout import epoch_of, log_key

SIGN_LOG = "kist 1 sign log"

CONDEMN, SWEEP, OBSERVE, FORGET, RECALL, HOLD, LIFT, VERIFY, REVOKE, DAMAGED, RENEW = range(1, 12)
NEVER = -(1 << 63)
OWNER_KEY = bytes(16)
SCOPES = {0: "all", 1: "source", 2: "snapshot"}


class Alarm(Refused):
    """The log does not hold together, or something has seen more of it than is there."""

    def __init__(self, text: str) -> None:
        super().__init__("invalid", text)


@dataclass(frozen=True)
class Hold:
    id: bytes
    scope: int
    of: bytes
    note: str


@dataclass(frozen=True)
class Entry:
    previous: bytes
    time: int
    kind: int
    ids: list[bytes]
    condemned: int
    hold: Hold | None
    serial: int
    verified: list[tuple[bytes, bytes]]
    certificate: Certificate
    signature: bytes
    digest: bytes


def open_entry(domain: Domain, slot: int, data: bytes) -> Entry:
    source = domain.open(log_key(slot), data, codec.LOG_LEN)
    previous, time, kind = source.take(32), source.i64(), source.u8()
    ids: list[bytes] = []
    condemned, hold, serial = 0, None, 0
    verified: list[tuple[bytes, bytes]] = []
    if kind == HOLD:
        hold = decode_hold(source)
    elif kind == REVOKE:
        ids, serial = [source.take(16)], source.u32()
    elif kind == VERIFY:
        verified = decode_verified(source)
    elif CONDEMN <= kind <= LIFT or kind == DAMAGED:
        condemned = source.u64() if kind == SWEEP else 0
        ids = source.ids(codec.LOG_IDS)
    elif kind == RENEW:
        serial = source.u32()
    else:
        raise Refused("invalid", f"an entry of kind {kind}")
    certificate = decode_certificate(source)
    others = {VERIFY: (READER, OWNER), REVOKE: (OWNER,), RENEW: (OWNER,)}
    authors = others.get(kind, (MAINTAINER, OWNER))
    place = domain.id + slot.to_bytes(8, "little")
    signature = checked_signature(source, SIGN_LOG, certificate, authors, domain, place)
    made = (certificate, signature, digest(data))
    return Entry(previous, time, kind, ids, condemned, hold, serial, verified, *made)


def decode_verified(source: Decoder) -> list[tuple[bytes, bytes]]:
    count = source.count(codec.LOG_VERIFIED, 48)
    verified = [(source.take(16), source.take(32)) for _ in range(count)]
    source.ascending("verified packs", [pack for pack, _ in verified])
    return verified


def decode_hold(source: Decoder) -> Hold:
    id_, scope, of = source.take(16), source.u8(), source.take(16)
    if scope not in SCOPES or (scope == 0 and any(of)):
        raise Refused("invalid", f"a hold of scope {scope}")
    return Hold(id_, scope, of, source.text(codec.NOTE_LEN))


@dataclass(frozen=True)
class Fact:
    """What the log says of a commit. `observed` is when it was not there yet, and when it was."""

    observed: tuple[int, int] | None = None
    forgotten: bool = False
    gone: bool = False
    lifted: bool = False


@dataclass
class Log:
    """The log as far as it was read, from the checkpoint at `base` on; 0 is none, and the start."""

    base: int = 0
    head: int = 0
    epoch: int = 0
    base_epoch: int = 0
    rows: dict[bytes, bytes] = field(default_factory=dict)
    facts: dict[bytes, Fact] = field(default_factory=dict)
    swept: set[bytes] = field(default_factory=set)
    damaged: set[bytes] = field(default_factory=set)
    revoked: dict[bytes, int] = field(default_factory=dict)
    last_observed: int = NEVER
    plan: tuple[int, list[bytes]] | None = None
    digests: dict[int, bytes] = field(default_factory=lambda: {0: bytes(32)})
    opened: dict[int, int] = field(default_factory=lambda: {0: 0})
    last_sweep: int = 0
    has_lost_checkpoint: bool = False

    def take(self, slot: int, entry: Entry) -> None:
        self.head = slot
        self.digests[slot] = entry.digest
        if self.is_revoked(entry.certificate):
            return
        if entry.kind == CONDEMN and self.plan is None:
            self.has_lost_checkpoint |= self.last_sweep > self.base
            self.epoch += 1
            self.opened[self.epoch] = slot
            self.plan = (slot, entry.ids)
        elif entry.kind == SWEEP and self._ends_the_plan(entry):
            self.plan = None
            self.last_sweep = slot
            self.swept.update(entry.ids)
            for id_, fact in self.facts.items():
                self.facts[id_] = replace(fact, gone=fact.forgotten)
        elif entry.kind == OBSERVE:
            before, self.last_observed = self.last_observed, max(self.last_observed, entry.time)
            for id_, fact in self._known(entry):
                observed = fact.observed or (before, self.last_observed)
                self.facts[id_] = replace(fact, observed=observed)
        elif entry.kind in (FORGET, RECALL):
            for id_, fact in self._known(entry):
                forgotten = entry.kind == FORGET or fact.gone
                self.facts[id_] = replace(fact, forgotten=forgotten)
        elif entry.kind == REVOKE and entry.ids != [OWNER_KEY]:
            [key] = entry.ids
            self.revoked[key] = max(entry.serial, self.revoked.get(key, 0))
        elif entry.kind == DAMAGED:
            self.damaged.update(entry.ids)
        elif entry.kind == RENEW:
            self.epoch = max(self.epoch, entry.serial)

    def _ends_the_plan(self, entry: Entry) -> bool:
        if self.plan is None or entry.condemned != self.plan[0]:
            return False
        return set(self.plan[1]).issuperset(entry.ids)

    def _known(self, entry: Entry) -> list[tuple[bytes, Fact]]:
        """Of an ended epoch only what has a row: the rest is gone, or never was."""
        ids = [i for i in entry.ids if epoch_of(i) >= self.base_epoch or i in self.rows]
        return [(id_, self.fact(id_)) for id_ in ids]

    def fact(self, session: bytes) -> Fact:
        return self.facts.get(session, Fact())

    def is_revoked(self, certificate: Certificate) -> bool:
        return certificate.serial <= self.revoked.get(certificate.key_id, -1)

    def is_barred(self, certificate: Certificate, session: bytes) -> bool:
        """Whether what a session has made does not count, because its key is revoked."""
        return self.is_revoked(certificate) and self.fact(session).observed is None
