"""Chapter 4: record headers, records, and the table of contents of a pack."""

from dataclasses import dataclass

import zstandard

import codec
from codec import CHUNK, NODE, Decoder, Refused, record_id
from crypto import SEAL_LEN, digest, unseal
from keys import DataKey, KeyName, decode_key_name, encode_key_name

HEADER_LEN = 84 + SEAL_LEN
TRAILER_LEN = 4 + SEAL_LEN
KINDS = {1: CHUNK, 2: NODE}


@dataclass(frozen=True)
class Part:
    zstd: bool
    stored: int
    raw: int


@dataclass(frozen=True)
class Header:
    kind: int
    id: bytes
    key: KeyName
    parts: tuple[Part, ...]

    def record_len(self) -> int:
        return HEADER_LEN + sum(part.stored for part in self.parts)


def open_header(structure: bytes, repository: bytes, box: bytes) -> Header:
    source = Decoder(unseal(structure, b"kist record header" + repository, box))
    kind, name = record_id(source)
    key = decode_key_name(source)
    if isinstance(key, DataKey) != (kind == CHUNK):
        raise Refused("invalid", "a key name of the wrong kind")
    parts = [_part(source, kind)]
    if kind == CHUNK:
        if any(source.take(9)):
            raise Refused("invalid", "a chunk with a second part")
    else:
        parts.append(_part(source, kind))
    source.end()
    return Header(kind, name, key, tuple(parts))


def _part(source: Decoder, kind: int) -> Part:
    compression, stored, raw = source.u8(), source.u32(), source.u32()
    if compression > 1:
        raise Refused("invalid", f"compression {compression}")
    if raw > (codec.CHUNK_LEN if kind == CHUNK else codec.NODE_PART_LEN):
        raise Refused("too-much", f"a part of {raw} bytes")
    one_right_form = SEAL_LEN < stored < raw + SEAL_LEN if compression else stored == raw + SEAL_LEN
    if not one_right_form:
        raise Refused("invalid", f"{raw} bytes, stored as {stored}, compression {compression}")
    return Part(compression == 1, stored, raw)


def open_record(
    header: Header, boxes: list[bytes], repository: bytes, keys: list[bytes]
) -> list[bytes]:
    """The plaintext of each part. Whoever asked for an id has to compare it himself."""
    plains = []
    for number, (part, box, key) in enumerate(zip(header.parts, boxes, keys, strict=True)):
        where = bytes([header.kind, number]) + header.id + encode_key_name(header.key)
        plain = unseal(key, b"kist record" + repository + where, box)
        plains.append(_decompressed(plain, part.raw) if part.zstd else plain)
    return plains


def _decompressed(frame: bytes, raw: int) -> bytes:
    """One zstd frame of exactly `raw` bytes; never more memory than that, whatever it says."""
    try:
        stream = zstandard.ZstdDecompressor().decompressobj(write_size=max(raw + 1, 1))
        said = zstandard.frame_content_size(frame)
        if said not in (-1, raw):
            raise Refused("invalid", f"a frame of {said} bytes where {raw} are said")
        plain = stream.decompress(frame)
    except zstandard.ZstdError as error:
        raise Refused("invalid", f"no zstd frame: {error}") from None
    if len(plain) != raw or not stream.eof or stream.unused_data:
        raise Refused("invalid", f"a frame that gives {len(plain)} bytes where {raw} are said")
    return plain


def parts_of(header: Header, record: bytes) -> list[bytes]:
    """The boxes of a record."""
    boxes, at = [], HEADER_LEN
    for part in header.parts:
        boxes.append(record[at : at + part.stored])
        at += part.stored
    if at != len(record):
        raise Refused("invalid", f"a record of {len(record)} bytes whose header says {at}")
    return boxes


@dataclass(frozen=True)
class Record:
    """Where a record lies. Only a table of contents has the short hash."""

    kind: int
    id: bytes
    offset: int
    length: int
    short_hash: bytes = b""


@dataclass(frozen=True)
class Contents:
    kind: int
    records: tuple[Record, ...]
    end: int
    table: int


def _records(source: Decoder, kind: int) -> tuple[Record, ...]:
    """The records of a table of contents, without gaps."""
    records, end = [], 0
    for _ in range(source.count(codec.PACK_RECORDS, 57)):
        of_kind, name = record_id(source)
        offset, length, short_hash = source.u32(), source.u32(), source.take(16)
        if offset != end:
            raise Refused("invalid", f"a record at {offset}, not at {end}")
        if of_kind != kind or length <= HEADER_LEN:
            raise Refused("invalid", f"a record of {length} bytes, or in a pack of another kind")
        end += length
        records.append(Record(of_kind, name, offset, length, short_hash))
    return tuple(records)


def pack_kind(source: Decoder) -> int:
    if (kind := source.u8()) not in KINDS:
        raise Refused("invalid", f"a pack of kind {kind}")
    return KINDS[kind]


def open_contents(structure: bytes, repository: bytes, pack: bytes, data: bytes) -> Contents:
    """What a pack says of itself, with nothing but the pack."""
    if len(data) > codec.PACK_LEN:
        raise Refused("too-much", f"a pack of {len(data)} bytes")
    if len(data) < TRAILER_LEN:
        raise Refused("short", f"a pack of {len(data)} bytes")
    table_end = len(data) - TRAILER_LEN
    trailer = unseal(structure, b"kist pack trailer" + repository + pack, data[table_end:])
    length = int.from_bytes(trailer, "little")
    if length > table_end:
        raise Refused("short", f"a table of contents of {length} bytes in {table_end}")
    table_at = table_end - length
    ad = b"kist pack toc" + repository + pack
    source = Decoder(unseal(structure, ad, data[table_at:table_end]))
    kind = pack_kind(source)
    records = _records(source, kind)
    source.end()
    end = records[-1].offset + records[-1].length if records else 0
    if end > table_at:
        raise Refused("invalid", f"records to {end}, the table of contents is at {table_at}")
    return Contents(kind, records, end, table_at)


def record_bytes(record: Record, data: bytes) -> bytes:
    """A record of a whole pack, held against its short hash."""
    found = data[record.offset : record.offset + record.length]
    if digest(found)[:16] != record.short_hash:
        raise Refused("invalid", "a record that is not what the table of contents says")
    return found
