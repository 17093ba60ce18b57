"""Chapter 3: derived keys, key names, certificates, slots, key files, wrapped lane keys.

`Keys` is what a holder can open with what its slot gave it. A key that it doesn't have is None.
"""

from dataclasses import dataclass, field

import codec
from codec import Decoder, Refused
from crypto import (
    PUBLIC_LEN,
    SEAL_LEN,
    Recipient,
    argon2id,
    derive,
    digest,
    keyed,
    public_of,
    unseal,
    verify,
)
from layout import Config, magic_and_version

OWNER_SIGNING = "kist 0 owner signing key"
OWNER_RECIPIENT = "kist 0 owner recipient key"
DOMAIN = "kist 0 domain"
ID = "kist 0 id key"
CHUNKER = "kist 0 chunker key"
STRUCTURE = "kist 0 structure key"
META_SCOPE = "kist 0 meta scope"
META = "kist 0 meta key"
CHUNK_ID = "kist 0 chunk id"
NODE_ID = "kist 0 node id"
FILE_HASH = "kist 0 file hash"
SOURCE_ID = "kist 0 source id"
LINK_GROUP = "kist 0 link group"
SLOT = "kist 0 key slot"
LANE_WRAP = b"kist 0 lane key"
SIGN_CERTIFICATE = "kist 0 sign certificate"

OWNER, WRITER = 1, 2
ROLES = {1: "owner", 2: "writer", 3: "maintainer", 4: "reader"}
FIRST_DOMAIN = bytes(16)


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
class Certificate:
    role: int
    key_id: bytes
    domain: bytes
    signing: bytes
    name: str
    signature: bytes
    signed: bytes

    def verify(self, config: Config) -> None:
        """That the owner in `config` says so; not what the role may do."""
        message = config.repository + self.signed
        verify(config.owner, SIGN_CERTIFICATE, message, self.signature)

    def verify_adds(self, config: Config) -> None:
        """The same of one who made a session or a commit: the other roles add nothing."""
        self.verify(config)
        if self.role not in (OWNER, WRITER):
            raise Refused("invalid", f"made by a {ROLES[self.role]}, who adds nothing")


def decode_certificate(source: Decoder) -> Certificate:
    begin = source.at
    role = source.u8()
    if role not in ROLES:
        raise Refused("invalid", f"role {role}")
    key_id, domain, signing = source.take(16), source.take(16), source.take(32)
    name = source.text(codec.KEY_NAME_LEN)
    signed = source.data[begin : source.at]
    return Certificate(role, key_id, domain, signing, name, source.take(64), signed)


@dataclass(frozen=True)
class KeyFile:
    repository: bytes
    key_id: bytes
    unlock: bytes


def decode_key_file(text: str) -> KeyFile:
    lines = (line.strip() for line in text.splitlines())
    line = next((line for line in lines if line and not line.startswith("#")), "")
    mark = "kist-key-0:"
    if not line.startswith(mark):
        raise Refused("invalid", f"a key file without {mark}")
    digits = line.removeprefix(mark)
    source = Decoder(codec.id_of_text(digits, len(digits) // 2))
    key = KeyFile(source.take(16), source.take(16), source.take(32))
    check = source.take(4)
    source.end()
    if digest(source.data[:64])[:4] != check:
        raise Refused("invalid", "a key file with a typing error")
    return key


@dataclass(frozen=True)
class Passphrase:
    memory_kib: int
    passes: int
    lanes: int
    salt: bytes


@dataclass(frozen=True)
class Secrets:
    pin: bytes
    role: int
    root: bytes = b""
    certificate: Certificate | None = None
    signing: bytes = b""
    id: bytes = b""
    chunker: bytes = b""
    structure: bytes = b""
    meta_scope: bytes = b""
    recipients: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Slot:
    key_id: bytes
    lock: Passphrase | None
    header: bytes
    sealed: bytes

    def unlock_key(self, passphrase: bytes) -> bytes:
        if self.lock is None:
            raise Refused("crypto", "a slot that a key file opens")
        lock = self.lock
        return argon2id(passphrase, lock.salt, lock.memory_kib, lock.passes, lock.lanes)

    def open(self, repository: bytes, unlock: bytes) -> Secrets:
        ad = b"kist slot" + repository + self.key_id + self.header
        key = derive(SLOT, unlock, self.key_id)
        return decode_secrets(Decoder(unseal(key, ad, self.sealed)))


def decode_slot(key_id: bytes, data: bytes) -> Slot:
    source = Decoder(data)
    magic_and_version(source, b"KISTSLOT")
    match source.u8():
        case 1:
            memory_kib, passes, lanes = source.u32(), source.u32(), source.u32()
            salt = source.take(16)
            lock: Passphrase | None = Passphrase(memory_kib, passes, lanes, salt)
        case 2:
            lock = None
        case kind:
            raise Refused("invalid", f"lock {kind}")
    header = data[: source.at]
    sealed = source.rest()
    plain = len(sealed) - SEAL_LEN
    if plain < 4096 or plain % 4096 or len(sealed) > codec.SLOT_LEN:
        raise Refused("invalid", f"a sealed part of {len(sealed)} bytes")
    return Slot(key_id, lock, header, sealed)


def decode_secrets(source: Decoder) -> Secrets:
    pin, role = source.take(32), source.u8()
    if role == OWNER:
        secrets = Secrets(pin, role, root=source.take(32))
    elif role == WRITER:
        certificate = decode_certificate(source)
        own = (source.take(32) for _ in range(5))
        signing, id_key, chunker, structure, scope = own
        number = source.count(codec.RECIPIENTS, PUBLIC_LEN)
        recipients = tuple(source.take(PUBLIC_LEN) for _ in range(number))
        secrets = Secrets(
            pin,
            role,
            certificate=certificate,
            signing=signing,
            id=id_key,
            chunker=chunker,
            structure=structure,
            meta_scope=scope,
            recipients=recipients,
        )
    else:
        raise Refused("invalid", f"a slot of role {role}")
    source.end_or_zeros()
    return secrets


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

    structure: bytes
    id: bytes
    scopes: dict[bytes, bytes] = field(default_factory=dict)
    domain: bytes | None = None
    recipient: Recipient | None = None

    def meta(self, name: MetaKey) -> bytes | None:
        if self.domain is not None:
            scope: bytes | None = derive(META_SCOPE, self.domain, name.scope)
        else:
            scope = self.scopes.get(name.scope)
        return None if scope is None else derive(META, scope, name.source)

    def ids(self) -> "IdKeys":
        return IdKeys(derive(CHUNK_ID, self.id), derive(NODE_ID, self.id))

    def file_hash_key(self) -> bytes:
        return derive(FILE_HASH, self.id)

    def source_id(self, canonical: bytes) -> bytes:
        return keyed(derive(SOURCE_ID, self.id), canonical)[:16]


def keys_of(secrets: Secrets, config: Config) -> Keys:
    """What the secrets of a slot open, once they are seen to belong to this `config`."""
    if secrets.pin != config.pin:
        raise Refused("crypto", "config is not the one that the slot pins: it was swapped")
    if secrets.role == OWNER:
        if public_of(derive(OWNER_SIGNING, secrets.root)) != config.owner:
            raise Refused("crypto", "config names another owner")
        domain = derive(DOMAIN, secrets.root, FIRST_DOMAIN)
        return Keys(
            structure=derive(STRUCTURE, domain),
            id=derive(ID, domain),
            domain=domain,
            recipient=Recipient(derive(OWNER_RECIPIENT, secrets.root)),
        )
    assert secrets.certificate is not None
    secrets.certificate.verify(config)
    scopes = {secrets.certificate.key_id: secrets.meta_scope}
    return Keys(structure=secrets.structure, id=secrets.id, scopes=scopes)


Wrapped = tuple[tuple[bytes, bytes], ...]


def lane_key(
    recipient: Recipient, config: Config, session: bytes, lane: int, wrapped: Wrapped
) -> bytes:
    """The data key of a lane, from what its session has wrapped to recipients."""
    place = config.repository + session + lane.to_bytes(4, "little")
    for name, box in wrapped:
        if name == recipient.id:
            return recipient.unwrap(LANE_WRAP + place + name, box)
    raise Refused("crypto", f"lane {lane} is not wrapped to this recipient")
