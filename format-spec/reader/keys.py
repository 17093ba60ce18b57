"""Chapter 3: derived keys, domains, key names, certificates, wrapped lane keys.

`Keys` is what a holder can open with what its slot gave it. A key that it doesn't have is None.
"""

from dataclasses import dataclass, field
from functools import cached_property

import codec
from codec import Decoder, Refused
from crypto import Recipient, derive, digest, keyed, verify
from layout import Config, open_object

OWNER_SIGNING = "kist 1 owner signing key"
OWNER_RECIPIENT = "kist 1 owner recipient key"
DOMAIN_ID = "kist 1 domain id"
DOMAIN = "kist 1 domain"
RECIPIENT = "kist 1 recipient key"
ID = "kist 1 id key"
CHUNKER = "kist 1 chunker key"
STRUCTURE = "kist 1 structure key"
META_ROOT = "kist 1 meta root"
META_SCOPE = "kist 1 meta scope"
META = "kist 1 meta key"
CHUNK_ID = "kist 1 chunk id"
NODE_ID = "kist 1 node id"
FILE_HASH = "kist 1 file hash"
SOURCE_ID = "kist 1 source id"
LINK_GROUP = "kist 1 link group"
LANE_WRAP = b"kist 1 lane key"
SIGN_CERTIFICATE = "kist 1 sign certificate"

OWNER, WRITER, MAINTAINER, READER = 1, 2, 3, 4
ROLES = {1: "owner", 2: "writer", 3: "maintainer", 4: "reader"}
DEFAULT_DOMAIN = bytes(16)


@dataclass(frozen=True)
class DataKey:
    session: bytes
    lane: int


@dataclass(frozen=True)
class MetaKey:
    scope: bytes
    source: bytes


KeyName = DataKey | MetaKey


def decode_key_name(source: Decoder) -> KeyName:
    match source.u8():
        case 1:
            session, lane = source.take(16), source.u32()
            if any(source.take(12)):
                raise Refused("invalid", "the name of a data key goes on behind its lane")
            return DataKey(session, lane)
        case 2:
            return MetaKey(source.take(16), source.take(16))
        case kind:
            raise Refused("invalid", f"a key name of kind {kind}")


def encode_key_name(name: KeyName) -> bytes:
    if isinstance(name, DataKey):
        return b"\x01" + name.session + name.lane.to_bytes(4, "little") + bytes(12)
    return b"\x02" + name.scope + name.source


@dataclass(frozen=True)
class Domain:
    """What objects of a domain are held against, and opened with."""

    config: Config
    id: bytes
    structure: bytes

    def open(self, key: str, data: bytes, most: int) -> Decoder:
        return open_object(self.structure, self.config.repository, key, data, most)


@dataclass(frozen=True)
class Certificate:
    role: int
    key_id: bytes
    domain: bytes
    serial: int
    signing: bytes
    name: str
    signature: bytes
    signed: bytes

    def verify(self, config: Config) -> None:
        """That the owner in `config` says so; not what the role may do."""
        message = config.repository + self.signed
        verify(config.owner, SIGN_CERTIFICATE, message, self.signature)

    def verify_as(self, roles: tuple[int, ...], domain: Domain) -> None:
        """The same of one who made something that only these roles may make, in this domain."""
        self.verify(domain.config)
        if self.domain != domain.id:
            raise Refused("invalid", "made with a certificate of another domain")
        if self.role not in roles:
            raise Refused("invalid", f"made by a {ROLES[self.role]}, who may not")


def decode_certificate(source: Decoder) -> Certificate:
    begin = source.at
    role = source.u8()
    if role not in ROLES:
        raise Refused("invalid", f"role {role}")
    key_id, domain, serial = source.take(16), source.take(16), source.u32()
    signing, name = source.take(32), source.text(codec.KEY_NAME_LEN)
    signed = source.data[begin : source.at]
    return Certificate(role, key_id, domain, serial, signing, name, source.take(64), signed)


def checked_signature(
    source: Decoder,
    context: str,
    certificate: Certificate,
    roles: tuple[int, ...],
    domain: Domain,
    place: bytes,
) -> bytes:
    """The end of a sealed object that its maker has signed. `place` binds it to where it lies."""
    signed = source.data[: source.at]
    signature = source.take(64)
    source.end_or_zeros()
    certificate.verify_as(roles, domain)
    message = digest(domain.config.repository + place + signed)
    verify(certificate.signing, context, message, signature)
    return signature


@dataclass(frozen=True)
class IdKeys:
    """What makes ids of what was opened, so that they can be compared with what was asked for."""

    chunks: bytes
    nodes: bytes

    def chunk(self, plain: bytes) -> bytes:
        return keyed(self.chunks, plain)

    def node(self, name: KeyName, references: bytes, entries: bytes) -> bytes:
        length = len(references).to_bytes(4, "little")
        return keyed(self.nodes, encode_key_name(name) + length + references + entries)

    def check_chunk(self, wanted: bytes, plain: bytes) -> None:
        if self.chunk(plain) != wanted:
            raise Refused("invalid", "a chunk that has another id")

    def check_node(self, wanted: bytes, name: KeyName, references: bytes, entries: bytes) -> None:
        if self.node(name, references, entries) != wanted:
            raise Refused("invalid", "a node that has another id")


@dataclass
class Keys:
    """The keys of a domain, as far as the holder has them."""

    role: int
    domain: Domain
    id: bytes | None = None
    meta_root: bytes | None = None
    scopes: dict[bytes, bytes] = field(default_factory=dict)
    recipients: tuple[Recipient, ...] = ()

    def meta(self, name: MetaKey) -> bytes | None:
        if self.meta_root is not None:
            scope: bytes | None = derive(META_SCOPE, self.meta_root, name.scope)
        else:
            scope = self.scopes.get(name.scope)
        return None if scope is None else derive(META, scope, name.source)

    def id_key(self) -> bytes:
        if self.id is None:
            raise Refused("crypto", "this key makes no ids: a maintainer's never does")
        return self.id

    @cached_property
    def ids(self) -> IdKeys:
        return IdKeys(derive(CHUNK_ID, self.id_key()), derive(NODE_ID, self.id_key()))

    def file_hash_key(self) -> bytes:
        return derive(FILE_HASH, self.id_key())

    def source_id(self, canonical: bytes) -> bytes:
        return keyed(derive(SOURCE_ID, self.id_key()), canonical)[:16]


Wrapped = tuple[tuple[bytes, bytes], ...]


def lane_key(
    recipients: tuple[Recipient, ...], config: Config, session: bytes, lane: int, wrapped: Wrapped
) -> bytes:
    """The data key of a lane, from what its session has wrapped to the recipient of an epoch."""
    place = config.repository + session + lane.to_bytes(4, "little")
    for name, box in wrapped:
        for recipient in recipients:
            if name == recipient.id:
                return recipient.unwrap(LANE_WRAP + place + name, box)
    raise Refused("crypto", f"lane {lane} is wrapped to no recipient that is at hand")
