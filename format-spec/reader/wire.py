"""Chapter 10: what a job and its movers say. A reader of repositories needs none of it.

The decoders give the fields as the vectors have them; `check_vectors.py` is all that calls them.
"""

from typing import Any

import codec
from codec import Decoder, Refused

MAGIC = b"KISTLINK"
PAYLOAD_LEN = codec.FRAME_LEN - 11
OPERATIONS = {1: "get", 2: "range", 3: "size", 4: "put", 5: "create", 6: "list", 7: "delete"}
MESSAGE_KINDS = 10
FAILURES = 7
FARTHEST = 1 << 40
LINK_VERSION = 0


def decode_opening(data: bytes) -> dict[str, Any]:
    if not MAGIC.startswith(data[:8]):
        raise Refused("magic", f"no link: {data[:32]!r}")
    source = Decoder(data)
    source.take(8)
    if (version := source.u16()) != LINK_VERSION:
        raise Refused("version", f"a link of version {version}")
    source.end()
    return {"version": version}


def decode_frame(data: bytes) -> dict[str, Any]:
    source = Decoder(data)
    frame: dict[str, Any]
    match source.u8():
        case (1 | 2) as kind:
            frame = _piece(source, last=kind == 2)
        case 3:
            frame = {"type": "end", "number": _number(source)}
        case 4:
            frame = {"type": "acknowledgement", "number": _number(source)}
        case 5:
            frame = {"type": "heartbeat"}
        case kind:
            raise Refused("invalid", f"a frame of type {kind}")
    source.end()
    return frame


def _number(source: Decoder) -> int:
    if (number := source.u64()) == 0:
        raise Refused("invalid", "a frame of number 0")
    return number


def _piece(source: Decoder, last: bool) -> dict[str, Any]:
    number, length = _number(source), source.u16()
    if length > PAYLOAD_LEN:
        raise Refused("too-much", f"a payload of {length} bytes")
    if length == 0 or (not last and length < PAYLOAD_LEN):
        raise Refused("invalid", f"a piece of {length} bytes")
    payload = source.take(length).hex()
    return {"type": "piece", "last": last, "number": number, "payload": payload}


def decode_message(data: bytes) -> dict[str, Any]:
    source = Decoder(data)
    kind, call, length = source.u8(), source.u32(), source.u32()
    if not 1 <= kind <= MESSAGE_KINDS:
        raise Refused("invalid", f"a message of kind {kind}")
    if length > codec.MESSAGE_LEN:
        raise Refused("too-much", f"a message of {length} bytes")
    body = source.take(length)
    source.end()
    return {"kind": kind, "call": call, "body": body.hex()}


def decode_request(data: bytes) -> dict[str, Any]:
    source = Decoder(data)
    operation = source.u8()
    if operation not in OPERATIONS:
        raise Refused("invalid", f"operation {operation}")
    key = source.text(codec.STORE_KEY_LEN)
    name = OPERATIONS[operation]
    if not key and name != "list":
        raise Refused("invalid", "an empty key")
    request: dict[str, Any] = {"operation": name, "key": key}
    match name:
        case "get":
            request["limit"] = _pack_sized(source.u64())
        case "range":
            request["start"], request["len"] = source.u64(), _pack_sized(source.u64())
            if request["len"] == 0 or request["start"] + request["len"] >= 1 << 64:
                raise Refused("invalid", "a range of no bytes, or beyond 64 bits")
        case "list":
            request["from"] = source.u32()
        case "put" | "create":
            _pack_sized(source.left())
            request["body"] = source.rest().hex()
    source.end()
    return request


def _pack_sized(length: int) -> int:
    if length > codec.PACK_LEN:
        raise Refused("too-much", f"{length} bytes")
    return length


def decode_answer(data: bytes) -> dict[str, Any]:
    source = Decoder(data)
    answer: dict[str, Any]
    match source.u8():
        case 1:
            answer = {"answer": "done"}
        case 2:
            _pack_sized(source.left())
            answer = {"answer": "found", "body": source.rest().hex()}
        case 3:
            answer = {"answer": "size", "size": source.u64()}
        case 4:
            answer = _listing(source)
        case 5:
            if not 1 <= (class_ := source.u8()) <= FAILURES:
                raise Refused("invalid", f"a failure of class {class_}")
            text = source.text(codec.RELAY_TEXT_LEN)
            answer = {"answer": "failed", "class": class_, "text": text}
        case kind:
            raise Refused("invalid", f"an answer of kind {kind}")
    source.end()
    return answer


def _listing(source: Decoder) -> dict[str, Any]:
    following = source.u32()
    objects = []
    for _ in range(source.count(codec.RELAY_PAGE, 4)):
        key = source.text(codec.STORE_KEY_LEN)
        size, modified = source.varint(), source.signed()
        if not key or abs(modified) > FARTHEST:
            raise Refused("invalid", f"an object {key!r} of the time {modified}")
        objects.append({"key": key, "size": size, "modified": modified})
    if following and not objects:
        raise Refused("invalid", "an empty page that is not the last")
    return {"answer": "listing", "next": following, "objects": objects}
