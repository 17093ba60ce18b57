"""Chapter 3, slots: what a passphrase, a key file or a kit opens, and what a role holds."""

from dataclasses import dataclass

import codec
import keys
from codec import Decoder, Refused
from crypto import PUBLIC_LEN, SEAL_LEN, Recipient, argon2id, derive, digest, public_of, unseal
from keys import (
    DEFAULT_DOMAIN,
    MAINTAINER,
    OWNER,
    READER,
    ROLES,
    WRITER,
    Certificate,
    Domain,
    Keys,
    decode_certificate,
)
from layout import Config, magic_and_version

SLOT = "kist 1 key slot"
SLOT_INFO = "kist 1 key slot info"
INFO_LEN = 256
SEALED_INFO_LEN = INFO_LEN + SEAL_LEN
TRUST = {1: "own", 2: "shared"}
NAME_SIGNS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")
KIT_SIGNS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(frozen=True)
class KeyFile:
    repository: bytes
    slot_id: bytes
    unlock: bytes


def _key_file(data: bytes) -> KeyFile:
    return KeyFile(data[:16], data[16:32], data[32:64])


def decode_key_file(text: str) -> KeyFile:
    lines = (line.strip() for line in text.splitlines())
    line = next((line for line in lines if line and not line.startswith("#")), "")
    mark = "kist-key-1:"
    if not line.startswith(mark):
        raise Refused("invalid", f"a key file without {mark}")
    digits = line.removeprefix(mark)
    source = Decoder(codec.id_of_text(digits, len(digits) // 2))
    data, check = source.take(64), source.take(4)
    source.end()
    if digest(data)[:4] != check:
        raise Refused("invalid", "a key file with a typing error")
    return _key_file(data)


def decode_kit(text: str) -> KeyFile:
    """The same from the page that people print: eight lines, in any order and amidst other text."""
    found: dict[int, bytes] = {}
    for line in text.splitlines():
        line = line.lstrip()
        if line[:1] in tuple("12345678") and (line[1:2].isspace() or line[1:2] in tuple(".:)-")):
            number = int(line[0])
            if number in found:
                raise Refused("invalid", f"line {number} of the kit is there twice")
            found[number] = _kit_line(number, line[1:])
    if missing := [number for number in range(1, 9) if number not in found]:
        raise Refused("invalid", f"line {missing[0]} of the kit is missing")
    return _key_file(b"".join(found[number] for number in range(1, 9)))


def _kit_line(number: int, text: str) -> bytes:
    """Never says what stands there: it is secret."""
    signs = [sign for sign in text if not sign.isspace() and sign not in ".:)-"]
    like = {"O": "0", "I": "1", "L": "1"}
    capitals = [like.get(sign.upper(), sign.upper()) for sign in signs]
    if len(capitals) != 16 or any(sign not in KIT_SIGNS for sign in capitals):
        raise Refused("invalid", f"line {number} of the kit does not have 16 signs of its kind")
    bits = 0
    for sign in capitals:
        bits = bits << 5 | KIT_SIGNS.index(sign)
    data = bits.to_bytes(10, "big")
    if digest(bytes([number]) + data[:8])[:2] != data[8:]:
        raise Refused("invalid", f"line {number} of the kit has a typing error")
    return data[:8]


@dataclass(frozen=True)
class DomainName:
    id: bytes
    text: str


def _domain_name(source: Decoder, id_: bytes) -> DomainName:
    """The default domain has the empty name, and no other has."""
    text = source.text(codec.DOMAIN_NAME_LEN)
    allowed = text != "default" and NAME_SIGNS.issuperset(text)
    if not allowed or (id_ == DEFAULT_DOMAIN) != (not text):
        raise Refused("invalid", f"a domain of the name {text!r}")
    return DomainName(id_, text)


def _trust(source: Decoder) -> str:
    if (trust := source.u8()) not in TRUST:
        raise Refused("invalid", f"trust {trust}")
    return TRUST[trust]


@dataclass(frozen=True)
class Info:
    """What the owner keeps in a slot for himself."""

    role: int
    key_id: bytes
    serial: int
    domain: DomainName
    created: int
    trust: str
    unlock: bytes
    name: str


@dataclass(frozen=True)
class Passphrase:
    memory_kib: int
    passes: int
    lanes: int
    salt: bytes


@dataclass(frozen=True)
class Owner:
    root: bytes
    epochs: tuple[bytes, ...]
    like: tuple[bytes, bytes] | None


@dataclass(frozen=True)
class Bundle:
    """What the other roles hold; empty what a role does not."""

    certificate: Certificate
    domain: DomainName
    signing: bytes
    structure: bytes
    id: bytes = b""
    chunker: bytes = b""
    meta_scope: bytes = b""
    trust: str = ""
    recipients: tuple[bytes, ...] = ()
    meta_root: bytes = b""
    seeds: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Secrets:
    pin: bytes
    holds: Owner | Bundle


@dataclass(frozen=True)
class Slot:
    id: bytes
    lock: Passphrase | None
    header: bytes
    info: bytes
    secrets: bytes

    def unlock_key(self, passphrase: bytes) -> bytes:
        if self.lock is None:
            raise Refused("crypto", "a slot that a key file opens")
        lock = self.lock
        return argon2id(passphrase, lock.salt, lock.memory_kib, lock.passes, lock.lanes)

    def open(self, repository: bytes, unlock: bytes) -> Secrets:
        ad = b"kist slot" + repository + self.id + self.header + self.info
        key = derive(SLOT, unlock, self.id)
        return decode_secrets(Decoder(unseal(key, ad, self.secrets)))

    def open_info(self, repository: bytes, info_key: bytes) -> Info:
        ad = b"kist slot info" + repository + self.id + self.header
        return decode_info(Decoder(unseal(info_key, ad, self.info)))


def decode_slot(slot_id: bytes, data: bytes) -> Slot:
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
    info, secrets = source.take(SEALED_INFO_LEN), source.rest()
    plain = len(secrets) - SEAL_LEN
    if plain < 4096 or plain % 4096 or len(secrets) > codec.SLOT_LEN:
        raise Refused("invalid", f"sealed secrets of {len(secrets)} bytes")
    return Slot(slot_id, lock, header, info, secrets)


def decode_info(source: Decoder) -> Info:
    role, key_id, serial, domain = source.u8(), source.take(16), source.u32(), source.take(16)
    if role not in ROLES:
        raise Refused("invalid", f"role {role}")
    created, trust, unlock = source.i64(), _trust(source), source.take(32)
    named = _domain_name(source, domain)
    name = source.text(codec.KEY_NAME_LEN)
    source.end_or_zeros()
    return Info(role, key_id, serial, named, created, trust, unlock, name)


def decode_secrets(source: Decoder) -> Secrets:
    pin, role = source.take(32), source.u8()
    if role not in ROLES:
        raise Refused("invalid", f"a slot of role {role}")
    holds = _owner(source) if role == OWNER else _bundle(source, role)
    source.end_or_zeros()
    return Secrets(pin, holds)


def _keys(source: Decoder, most: int, length: int) -> tuple[bytes, ...]:
    return tuple(source.take(length) for _ in range(source.count(most, length)))


def _owner(source: Decoder) -> Owner:
    root, epochs = source.take(32), _keys(source, codec.EPOCHS - 1, 32)
    like = (source.take(32), source.take(32)) if source.flag() else None
    return Owner(root, epochs, like)


def _bundle(source: Decoder, role: int) -> Bundle:
    certificate = decode_certificate(source)
    if certificate.role != role:
        raise Refused("invalid", "a certificate of another role than the slot's")
    domain = _domain_name(source, certificate.domain)
    held = (certificate, domain, source.take(32), source.take(32))
    if role == WRITER:
        id_key, chunker, scope = source.take(32), source.take(32), source.take(32)
        trust, recipients = _trust(source), _keys(source, codec.RECIPIENTS, PUBLIC_LEN)
        return Bundle(*held, id_key, chunker, scope, trust, recipients)
    if role == READER:
        id_key, chunker, meta_root = source.take(32), source.take(32), source.take(32)
        seeds = _keys(source, codec.EPOCHS, 32)
        return Bundle(*held, id_key, chunker, meta_root=meta_root, seeds=seeds)
    assert role == MAINTAINER
    return Bundle(*held)


def keys_of(secrets: Secrets, config: Config, domain: str | None) -> Keys:
    """What a slot gives, once it is seen to belong to this `config`. Only an owner has a choice of
    domains; without a name he gets the default one."""
    if secrets.pin != config.pin:
        raise Refused("crypto", "config is not the one that the slot pins: it was swapped")
    holds = secrets.holds
    if isinstance(holds, Owner):
        return _owners_keys(holds, config, domain or "")
    holds.certificate.verify(config)
    if domain is not None and domain != holds.domain.text:
        raise Refused("invalid", "this key is of another domain")
    return Keys(
        role=holds.certificate.role,
        domain=Domain(config, holds.domain.id, holds.structure),
        id=holds.id or None,
        meta_root=holds.meta_root or None,
        scopes={holds.certificate.key_id: holds.meta_scope} if holds.meta_scope else {},
        recipients=tuple(Recipient(seed) for seed in holds.seeds),
    )


def _owners_keys(owner: Owner, config: Config, name: str) -> Keys:
    root = owner.root
    if public_of(derive(keys.OWNER_SIGNING, root)) != config.owner:
        raise Refused("crypto", "config names another owner")
    id_ = derive(keys.DOMAIN_ID, root, name.encode())[:16] if name else DEFAULT_DOMAIN
    key = derive(keys.DOMAIN, root, id_)
    epochs = (derive(keys.OWNER_RECIPIENT, root), *owner.epochs)
    taken_over = owner.like if id_ == DEFAULT_DOMAIN else None
    return Keys(
        role=OWNER,
        domain=Domain(config, id_, derive(keys.STRUCTURE, key)),
        id=taken_over[0] if taken_over else derive(keys.ID, key),
        meta_root=derive(keys.META_ROOT, key),
        recipients=tuple(Recipient(derive(keys.RECIPIENT, secret, id_)) for secret in epochs),
    )
