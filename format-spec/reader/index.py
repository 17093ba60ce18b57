"""Chapter 5: index deltas, and the parts of a generation."""

from dataclasses import dataclass

import codec
from codec import Decoder, Refused
from crypto import digest, verify
from keys import Domain
from pack import Record, pack_kind

SIGN_INDEX = "kist 1 sign index"


@dataclass(frozen=True)
class Pack:
    id: bytes
    kind: int
    length: int
    hash: bytes
    origin: bytes
    verified: bool
    sessions: list[bytes]
    records: tuple[Record, ...]


def open_delta(domain: Domain, key: str, lane_public: bytes, data: bytes) -> list[Pack]:
    source = domain.open(key, data, codec.INDEX_LEN)
    packs = _packs(source)
    signed = source.data[: source.at]
    signature = source.take(64)
    source.end_or_zeros()
    message = domain.config.repository + key.encode() + b"\x00" + digest(signed)
    verify(lane_public, SIGN_INDEX, message, signature)
    return packs


def decode_part(source: Decoder) -> list[Pack]:
    packs = _packs(source)
    source.end_or_zeros()
    return packs


def _packs(source: Decoder) -> list[Pack]:
    packs = []
    records = 0
    for _ in range(source.count(codec.INDEX_PACKS, 72)):
        packs.append(_pack(source))
        records += len(packs[-1].records)
        if records > codec.INDEX_RECORDS:
            raise Refused("too-much", f"{records} records in an index")
    return packs


def _pack(source: Decoder) -> Pack:
    name, kind, length, hash_ = source.take(16), pack_kind(source), source.u32(), source.take(32)
    if length > codec.PACK_LEN:
        raise Refused("too-much", f"a pack of {length} bytes")
    origin, verified = source.take(16), source.flag()
    sessions = source.ids(codec.PACK_SESSIONS)
    records, end = [], 0
    for _ in range(source.count(codec.PACK_RECORDS, 36)):
        record = Record(kind, source.take(32), end, source.u32())
        end += record.length
        if end > length:
            raise Refused("invalid", f"records to {end} in a pack of {length} bytes")
        records.append(record)
    return Pack(name, kind, length, hash_, origin, verified, sessions, tuple(records))
