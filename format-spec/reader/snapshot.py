"""Chapter 7: sessions, commits, fences, summaries, sources."""

import json
from dataclasses import dataclass
from typing import Any

import codec
from codec import Decoder, Refused
from crypto import WRAPPED_LEN, digest, unseal, verify
from keys import Certificate, MetaKey, Wrapped, decode_certificate
from layout import Config, commit_key, open_object, session_key

SIGN_SESSION = "kist 0 sign session"
SIGN_COMMIT = "kist 0 sign commit"
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


def open_session(structure: bytes, config: Config, session: bytes, data: bytes) -> Session:
    key = session_key(session)
    source = open_object(structure, config.repository, key, data, codec.SESSION_LEN)
    started = source.i64()
    certificate = decode_certificate(source)
    lanes = []
    for _ in range(source.count(codec.LANES, 33)):
        signing = source.take(32)
        count = source.count(codec.RECIPIENTS, 16 + WRAPPED_LEN)
        wrapped = tuple((source.take(16), source.take(WRAPPED_LEN)) for _ in range(count))
        lanes.append(Lane(signing, wrapped))
    signature = _checked_signature(source, SIGN_SESSION, config, session, certificate)
    return Session(session, started, certificate, tuple(lanes), signature)


def _checked_signature(
    source: Decoder, context: str, config: Config, session: bytes, certificate: Certificate
) -> bytes:
    """Reads the end of a session or a commit, and holds it against the owner in `config`."""
    signed = source.data[: source.at]
    signature = source.take(64)
    source.end_or_zeros()
    certificate.verify_adds(config)
    message = digest(config.repository + session + signed)
    verify(certificate.signing, context, message, signature)
    return signature


@dataclass(frozen=True)
class Root:
    kind: int
    source: bytes
    node: bytes


@dataclass(frozen=True)
class Commit:
    session: bytes
    view: int
    time: int
    source: bytes
    complete: bool
    sequence: int
    previous: bytes
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


def open_commit(structure: bytes, config: Config, session: bytes, data: bytes) -> Commit | None:
    """None is a fence: the session never commits."""
    key = commit_key(session)
    source = open_object(structure, config.repository, key, data, codec.COMMIT_LEN)
    match source.u8():
        case 1:
            pass
        case 2:
            source.end_or_zeros()
            return None
        case kind:
            raise Refused("invalid", f"a commit of kind {kind}")
    view, time, of, complete = source.u64(), source.i64(), source.take(16), source.flag()
    sequence, previous = source.u64(), source.take(32)
    source.count(0, 1)  # reserved: retention class
    source.count(0, 1)  # reserved: holds
    roots = tuple(_root(source) for _ in range(source.count(codec.ROOTS, 49)))
    summary = source.bytes(codec.SUMMARY_LEN + 40)
    certificate = decode_certificate(source)
    signature = _checked_signature(source, SIGN_COMMIT, config, session, certificate)
    return Commit(
        session,
        view,
        time,
        of,
        complete,
        sequence,
        previous,
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
