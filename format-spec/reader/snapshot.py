"""Chapter 7: sessions, commits, fences, ends of repacks, summaries, sources."""

import json
from dataclasses import dataclass
from typing import Any

import codec
from codec import Decoder, Refused
from crypto import WRAPPED_LEN, digest, unseal
from keys import (
    MAINTAINER,
    OWNER,
    WRITER,
    Certificate,
    Domain,
    MetaKey,
    Wrapped,
    checked_signature,
    decode_certificate,
)
from layout import commit_key, session_key

SIGN_SESSION = "kist 1 sign session"
SIGN_COMMIT = "kist 1 sign commit"
ROOT_KINDS = {1: "files", 2: "manifests", 3: "volume"}


@dataclass(frozen=True)
class Lane:
    signing: bytes
    wrapped: Wrapped


@dataclass(frozen=True)
class Session:
    id: bytes
    started: int
    certificate: Certificate
    lanes: tuple[Lane, ...]
    signature: bytes


def open_session(domain: Domain, session: bytes, data: bytes) -> Session:
    source = domain.open(session_key(session), data, codec.SESSION_LEN)
    started = source.i64()
    certificate = decode_certificate(source)
    lanes = []
    for _ in range(source.count(codec.LANES, 33)):
        signing = source.take(32)
        count = source.count(codec.RECIPIENTS, 16 + WRAPPED_LEN)
        wrapped = tuple((source.take(16), source.take(WRAPPED_LEN)) for _ in range(count))
        lanes.append(Lane(signing, wrapped))
    roles = (OWNER, WRITER, MAINTAINER)
    signature = checked_signature(source, SIGN_SESSION, certificate, roles, domain, session)
    return Session(session, started, certificate, tuple(lanes), signature)


@dataclass(frozen=True)
class Root:
    kind: int
    source: bytes
    node: bytes


@dataclass(frozen=True)
class Commit:
    session: bytes
    digest: bytes
    view: int
    head: bytes
    time: int
    source: bytes
    complete: bool
    sequence: int
    previous: bytes
    class_: bytes
    held: bool
    roots: tuple[Root, ...]
    sealed_summary: bytes
    certificate: Certificate
    signature: bytes

    def meta_key(self, root_source: bytes) -> MetaKey:
        """With which the entries under a root are sealed, and the summary."""
        return MetaKey(self.certificate.key_id, root_source)

    def summary(self, repository: bytes, meta_key: bytes) -> dict[str, Any]:
        ad = b"kist summary" + repository + self.session
        try:
            summary = json.loads(unseal(meta_key, ad, self.sealed_summary))
        except ValueError:
            raise Refused("invalid", "a summary that is no JSON") from None
        if not isinstance(summary, dict):
            raise Refused("invalid", "a summary that is no object")
        return summary


@dataclass(frozen=True)
class Fence:
    """The session never commits."""


@dataclass(frozen=True)
class Repack:
    """The session has copied what it was to copy, and is no snapshot."""

    certificate: Certificate
    signature: bytes


def open_commit(domain: Domain, session: bytes, data: bytes) -> Commit | Fence | Repack:
    source = domain.open(commit_key(session), data, codec.COMMIT_LEN)
    match source.u8():
        case 1:
            return _commit(source, domain, session, digest(data))
        case 2:
            source.end_or_zeros()
            return Fence()
        case 3:
            certificate = decode_certificate(source)
            roles = (OWNER, MAINTAINER)
            signature = checked_signature(source, SIGN_COMMIT, certificate, roles, domain, session)
            return Repack(certificate, signature)
        case kind:
            raise Refused("invalid", f"a commit of kind {kind}")


def _commit(source: Decoder, domain: Domain, session: bytes, hash_: bytes) -> Commit:
    view, head, time, of = source.u64(), source.take(32), source.i64(), source.take(16)
    complete, sequence, previous = source.flag(), source.u64(), source.take(32)
    class_, held = source.bytes(codec.CLASS_LEN), source.flag()
    roots = tuple(_root(source) for _ in range(source.count(codec.ROOTS, 49)))
    summary = source.bytes(codec.SUMMARY_LEN + 40)
    certificate = decode_certificate(source)
    roles = (OWNER, WRITER)
    signature = checked_signature(source, SIGN_COMMIT, certificate, roles, domain, session)
    return Commit(
        session,
        hash_,
        view,
        head,
        time,
        of,
        complete,
        sequence,
        previous,
        class_,
        held,
        roots,
        summary,
        certificate,
        signature,
    )


def _root(source: Decoder) -> Root:
    kind = source.u8()
    if kind not in ROOT_KINDS:
        raise Refused("invalid", f"a root of kind {kind}")
    return Root(kind, source.take(16), source.take(32))


def canonical_source(kind: int, parts: list[str]) -> bytes:
    out = bytes([kind])
    for part in parts:
        data = part.encode()
        length, prefix = len(data), b""
        while length >= 0x80:
            prefix += bytes([length & 0x7F | 0x80])
            length >>= 7
        out += prefix + bytes([length]) + data
    return out
