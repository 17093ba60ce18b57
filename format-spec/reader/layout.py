"""Chapter 2: the keys in the store, `config`, the sealed object.

`place_of` and what stands behind it are all that knows how keys in the store are written.
"""

from dataclasses import dataclass

import codec
from codec import Decoder, Refused, id_of_text
from crypto import SEAL_LEN, digest, unseal, verify

SIGN_CONFIG = "kist 1 sign config"
SINGLE_WRITER = 1


@dataclass(frozen=True)
class Config:
    repository: bytes
    features: int
    smallest: int
    average: int
    largest: int
    bundle_below: int
    owner: bytes
    pin: bytes


def decode_config(data: bytes) -> Config:
    """Checks in the order of the spec, so that a later version is named as one."""
    source = Decoder(data)
    magic_and_version(source, b"KISTCONF")
    repository = source.take(16)
    features = source.u64()
    if features & ~SINGLE_WRITER:
        raise Refused("features", f"needs features {features:#x}")
    if (chunker := source.u8()) != 1:
        raise Refused("invalid", f"chunker {chunker}")
    smallest, average, largest, bundle_below = (source.u32() for _ in range(4))
    owner = source.take(32)
    signature = source.take(64)
    source.end()
    even = all(size % 2 == 0 for size in (smallest, average, largest))
    ascend = 1024 <= smallest < average < largest <= codec.CHUNK_LEN
    if not even or not ascend or average > 4 << 20 or bundle_below > largest:
        sizes = f"{smallest}, {average}, {largest}, bundle below {bundle_below}"
        raise Refused("invalid", f"chunk sizes {sizes}")
    verify(owner, SIGN_CONFIG, data[:83], signature)
    return Config(
        repository, features, smallest, average, largest, bundle_below, owner, digest(data)
    )


def magic_and_version(source: Decoder, magic: bytes) -> None:
    if source.data[:8] != magic:
        raise Refused("magic", f"does not begin with {magic.decode()}")
    source.take(8)
    if (version := source.u16()) != codec.VERSION:
        raise Refused("version", f"has version {version}, this reads {codec.VERSION}")


def object_ad(repository: bytes, key: str) -> bytes:
    return b"kist object" + codec.VERSION.to_bytes(2, "little") + repository + key.encode()


def open_object(structure: bytes, repository: bytes, key: str, data: bytes, most: int) -> Decoder:
    """The content of a sealed object; whoever decodes it checks the end."""
    if len(data) > most:
        raise Refused("too-much", f"{len(data)} bytes, at most {most} are allowed")
    return Decoder(unseal(structure, object_ad(repository, key), data))


def padded_object(plain: bytes) -> bytes:
    return plain + bytes(codec.padded(len(plain) + SEAL_LEN) - SEAL_LEN - len(plain))


@dataclass(frozen=True)
class Place:
    """What a key in the store says. `kind` is its folder, or `stranger`."""

    key: str
    kind: str
    id: bytes = b""
    lane: int = 0
    number: int = 0


def place_of(key: str) -> Place:
    """What lies under a key, relative to the domain's place. A stranger's is none of ours."""
    try:
        match key.split("/"):
            case ["keys", name]:
                return Place(key, "keys", id_of_text(name, 16))
            case ["index", epoch, rest, name] if name.count("-") == 1:
                lane, number = (_decimal(text) for text in name.split("-"))
                return Place(key, "index", _session_of(epoch, rest), lane, number)
            case ["commits", epoch, rest]:
                return Place(key, "commits", _session_of(epoch, rest))
            case [("gc" | "checkpoints") as folder, slot]:
                return Place(key, folder, number=_decimal(slot))
    except Refused:
        pass
    return Place(key, "stranger")


def _session_of(epoch: str, rest: str) -> bytes:
    return id_of_text(epoch, 4) + id_of_text(rest, 12)


def _decimal(text: str) -> int:
    if not text.isascii() or not text.isdigit() or (text[0] == "0" and text != "0"):
        raise Refused("invalid", f"no decimal number: {text!r}")
    return int(text)


def domain_place(domain: bytes) -> str:
    """Where the objects of a domain lie; those of the default one lie at the top."""
    return f"domains/{domain.hex()}" if any(domain) else ""


def pack_key(pack: bytes) -> str:
    return f"packs/{pack[:1].hex()}/{pack.hex()}"


def session_path(session: bytes) -> str:
    return f"{session[:4].hex()}/{session[4:].hex()}"


def index_key(session: bytes, lane: int, number: int) -> str:
    return f"index/{session_path(session)}/{lane}-{number}"


def session_key(session: bytes) -> str:
    return f"sessions/{session_path(session)}"


def commit_key(session: bytes) -> str:
    return f"commits/{session_path(session)}"


def log_key(slot: int) -> str:
    return f"gc/{slot}"


def checks_key(number: int) -> str:
    return f"checks/{number}"


def checkpoint_key(slot: int) -> str:
    return f"checkpoints/{slot}"


def part_key(slot: int, name: bytes, number: int) -> str:
    return f"generations/{slot}-{name.hex()}/{number}"


def epoch_of(session: bytes) -> int:
    return int.from_bytes(session[:4], "big")


def short_name(session: bytes) -> str:
    """What people see of a session id, and type."""
    return session[4:].hex()
