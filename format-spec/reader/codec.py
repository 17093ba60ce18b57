"""Chapter 1: numbers, counts, ids, padding, limits; and how a decoder refuses.

A decoder takes a `Decoder` and reads front to back. Whatever it can't take it refuses with a
`Refused`, whose `kind` is one of the classes in the spec's README.
"""

import itertools
from typing import Any

PATH_LEN = 65536
NAME_LEN = 255
LINK_TARGET_LEN = 4096
XATTRS = 1024
XATTR_NAME_LEN = 255
XATTR_VALUE_LEN = 65536
XATTRS_LEN = 524288
INLINE_EXTENTS = 128
NODE_PART_LEN = 4194304
TREE_LEVELS = 16
CHUNK_LEN = 16777216
PACK_LEN = 67108864
PACK_RECORDS = 262144
INDEX_PACKS = 4096
INDEX_RECORDS = 524288
INDEX_LEN = 41943040
PACK_SESSIONS = 4096
CONFIG_LEN = 65536
SLOT_LEN = 262144
RECIPIENTS = 64
EPOCHS = 64
LANES = 16384
SESSION_LEN = 67108864
COMMIT_LEN = 33554432
ROOTS = 65536
SUMMARY_LEN = 16777216
CLASS_LEN = 64
LOG_IDS = 1048576
LOG_VERIFIED = 262144
NOTE_LEN = 256
LOG_LEN = 20971520
CHECKPOINT_PARTS = 65536
CHECKPOINT_LEN = 8388608
STATE_ROWS = 268435456
CHECK_RANGES = 4096
CHECKS_LEN = 262144
KEY_NAME_LEN = 64
DOMAIN_NAME_LEN = 64
STORE_KEY_LEN = 512
FRAME_LEN = 32768
MESSAGE_LEN = 67174400
RELAY_PAGE = 8192
RELAY_TEXT_LEN = 4096

VERSION = 1

CHUNK = 1
NODE = 2


class Refused(Exception):
    """What a decoder says of bytes that it can't take."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{text} ({kind})")
        self.kind = kind


class Decoder:
    """Bytes, and how far they are read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, length: int) -> bytes:
        if length > self.left():
            raise Refused("short", f"{length} bytes are wanted, {self.left()} are left")
        self.at += length
        return self.data[self.at - length : self.at]

    def rest(self) -> bytes:
        return self.take(self.left())

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "little")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def i64(self) -> int:
        return int.from_bytes(self.take(8), "little", signed=True)

    def varint(self) -> int:
        value = 0
        for place in range(10):
            byte = self.u8()
            value |= (byte & 0x7F) << (7 * place)
            if value >= 1 << 64:
                raise Refused("invalid", "a number beyond 64 bits")
            if byte < 0x80:
                if byte == 0 and place > 0:
                    raise Refused("invalid", "a number that could be shorter")
                return value
        raise Refused("invalid", "a number of more than ten bytes")

    def signed(self) -> int:
        value = self.varint()
        return value >> 1 if value & 1 == 0 else -((value + 1) >> 1)

    def flag(self) -> bool:
        value = self.u8()
        if value > 1:
            raise Refused("invalid", f"a flag of {value}")
        return value == 1

    def count(self, limit: int, least: int) -> int:
        """How many things follow, at most `limit`, each of at least `least` bytes."""
        count = self.varint()
        if count > limit:
            raise Refused("too-much", f"{count} things, at most {limit} are allowed")
        if count * least > self.left():
            raise Refused("short", f"{count} things are said to follow, there is no room for them")
        return count

    def ascending(self, what: str, items: list[Any]) -> None:
        """Strictly: nothing is there twice, and there is one way to write it."""
        if any(a >= b for a, b in itertools.pairwise(items)):
            raise Refused("invalid", f"{what} that do not ascend")

    def ids(self, limit: int) -> list[bytes]:
        """Ids of 16 bytes, ascending."""
        ids = [self.take(16) for _ in range(self.count(limit, 16))]
        self.ascending("ids", ids)
        return ids

    def bytes(self, limit: int) -> bytes:
        return self.take(self.count(limit, 1))

    def text(self, limit: int) -> str:
        try:
            return self.bytes(limit).decode()
        except UnicodeDecodeError:
            raise Refused("invalid", "a text that is not UTF-8") from None

    def end(self) -> None:
        if self.left() > 0:
            raise Refused("left-over", f"{self.left()} bytes are left over")

    def end_or_zeros(self) -> None:
        if any(self.rest()):
            raise Refused("invalid", "something other than zeros behind the end")


def record_id(source: Decoder) -> tuple[int, bytes]:
    kind = source.u8()
    if kind not in (CHUNK, NODE):
        raise Refused("invalid", f"a record of kind {kind}")
    return kind, source.take(32)


def id_of_text(text: str, length: int) -> bytes:
    """An id as it stands in a key in the store: lower-case hex and nothing else."""
    if len(text) != 2 * length or any(c not in "0123456789abcdef" for c in text):
        raise Refused("invalid", f"no id of {length} bytes: {text!r}")
    return bytes.fromhex(text)


def padded(length: int) -> int:
    power = 1
    while power < length:
        power *= 2
    granule = min(max(power // 32, 512), 65536)
    return max(-(-length // granule), 1) * granule
