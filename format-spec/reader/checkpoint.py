"""Chapter 11: checkpoints, and the state that their first parts hold."""

from dataclasses import dataclass

import codec
from codec import Decoder, Refused
from keys import MAINTAINER, OWNER, Certificate, Domain, checked_signature, decode_certificate
from layout import checkpoint_key
from log import Fact, Hold, decode_hold

SIGN_CHECKPOINT = "kist 1 sign checkpoint"
PIECE_LEN = 16 << 20
REMEMBERED = 64


@dataclass(frozen=True)
class Checkpoint:
    entry: bytes
    time: int
    epoch: int
    name: bytes
    state: list[bytes]
    index: list[bytes]
    certificate: Certificate
    signature: bytes


def open_checkpoint(domain: Domain, slot: int, data: bytes) -> Checkpoint:
    source = domain.open(checkpoint_key(slot), data, codec.CHECKPOINT_LEN)
    head = (source.take(32), source.i64(), source.u32(), source.take(16))
    state, index = _digests(source), _digests(source)
    certificate = decode_certificate(source)
    place = domain.id + slot.to_bytes(8, "little")
    roles = (MAINTAINER, OWNER)
    signature = checked_signature(source, SIGN_CHECKPOINT, certificate, roles, domain, place)
    return Checkpoint(*head, state, index, certificate, signature)


def _digests(source: Decoder) -> list[bytes]:
    return [source.take(32) for _ in range(source.count(codec.CHECKPOINT_PARTS, 32))]


@dataclass(frozen=True)
class Row:
    """A commit of an ended epoch that is not gone."""

    digest: bytes
    key_id: bytes
    serial: int
    sequence: int
    time: int
    source: bytes
    class_: bytes
    complete: bool
    held: bool


@dataclass(frozen=True)
class State:
    swept: list[bytes]
    damaged: list[bytes]
    rows: dict[bytes, Row]
    facts: dict[bytes, Fact]
    remembered: dict[bytes, list[tuple[int, bytes]]]
    holds: list[Hold]
    revoked: dict[bytes, int]
    last_observed: int
    pending: list[str]


def piece_of(source: Decoder) -> bytes:
    """The bytes of the state that a part holds."""
    piece = source.bytes(PIECE_LEN)
    source.end_or_zeros()
    return piece


def decode_state(data: bytes) -> State:
    source = Decoder(data)
    most = codec.STATE_ROWS
    swept, damaged = source.ids(most), source.ids(most)
    rows = [_row(source) for _ in range(source.count(most, 102))]
    facts = [_fact(source) for _ in range(source.count(most, 17))]
    remembered = _remembered(source)
    holds = [decode_hold(source) for _ in range(source.count(most, 34))]
    revoked = [(source.take(16), source.u32()) for _ in range(source.count(most, 20))]
    last_observed = source.i64()
    pending = [source.text(codec.STORE_KEY_LEN) for _ in range(source.count(most, 1))]
    source.ascending("commits", [id_ for id_, _ in rows])
    source.ascending("facts", [id_ for id_, _ in facts])
    source.ascending("holds", [hold.id for hold in holds])
    source.ascending("revocations", [key for key, _ in revoked])
    source.ascending("keys to be deleted", pending)
    source.end()
    return State(
        swept,
        damaged,
        dict(rows),
        dict(facts),
        remembered,
        holds,
        dict(revoked),
        last_observed,
        pending,
    )


def _row(source: Decoder) -> tuple[bytes, Row]:
    session, hash_, key_id = source.take(16), source.take(32), source.take(16)
    serial, sequence, time, of = source.u32(), source.u64(), source.i64(), source.take(16)
    class_ = source.bytes(codec.CLASS_LEN)
    if (flags := source.u8()) > 3:
        raise Refused("invalid", f"a commit of flags {flags}")
    complete, held = bool(flags & 1), bool(flags & 2)
    return session, Row(hash_, key_id, serial, sequence, time, of, class_, complete, held)


def _fact(source: Decoder) -> tuple[bytes, Fact]:
    session, flags = source.take(16), source.u8()
    if flags > 15:
        raise Refused("invalid", f"a fact of flags {flags}")
    observed = (source.i64(), source.i64()) if flags & 1 else None
    return session, Fact(observed, bool(flags & 2), bool(flags & 4), bool(flags & 8))


def _remembered(source: Decoder) -> dict[bytes, list[tuple[int, bytes]]]:
    count = source.count(codec.STATE_ROWS, 56)
    all_ = [(source.take(16), source.u64(), source.take(32)) for _ in range(count)]
    source.ascending("remembered commits", all_)
    remembered: dict[bytes, list[tuple[int, bytes]]] = {}
    for key, sequence, hash_ in all_:
        remembered.setdefault(key, []).append((sequence, hash_))
    if any(len(commits) > REMEMBERED for commits in remembered.values()):
        raise Refused("invalid", f"more than {REMEMBERED} remembered commits of a key")
    return remembered
