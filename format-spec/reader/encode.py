"""The other direction: bytes made from the fields of a vector. Only `check_vectors.py` needs it.

It shares no code with the decoders, so that a mistake in one does not hide in the other.
"""

from typing import Any

from crypto import argon2id, derive, digest, seal
from layout import object_ad, padded_object

Fields = Any

ROLES = {"owner": 1, "writer": 2, "maintainer": 3, "reader": 4}
ROOTS = {"files": 1, "manifests": 2, "volume": 3}
TRUST = {"own": 1, "shared": 2}
SCOPES = {"source": 1, "snapshot": 2}
ACTIONS = {"condemn": 1, "observe": 3, "forget": 4, "recall": 5, "lift": 7, "damaged": 10}
KINDS = {"data": 1, "nodes": 2}
SIMPLE_TYPES = {"folder": 1, "fifo": 4, "socket": 5}
OPERATIONS = ["get", "range", "size", "put", "create", "list", "delete"]


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


def little(value: int, length: int) -> bytes:
    return (value % (1 << (8 * length))).to_bytes(length, "little")


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def signed(value: int) -> bytes:
    return varint(2 * value if value >= 0 else -2 * value - 1)


def counted(data: bytes) -> bytes:
    return varint(len(data)) + data


def listed(things: list[bytes]) -> bytes:
    return varint(len(things)) + b"".join(things)


def optional(text: str | None) -> bytes:
    return b"\x00" if text is None else b"\x01" + raw(text)


def record_id(fields: Fields) -> bytes:
    return b"\x01" + raw(fields["chunk"]) if "chunk" in fields else b"\x02" + raw(fields["node"])


def key_name(fields: Fields) -> bytes:
    if data := fields.get("data"):
        return b"\x01" + raw(data["session"]) + little(data["lane"], 4) + bytes(12)
    return b"\x02" + raw(fields["meta"]["scope"]) + raw(fields["meta"]["source"])


def config(fields: Fields, signature: bytes) -> bytes:
    sizes = ("min_bytes", "avg_bytes", "max_bytes", "bundle_below_bytes")
    return (
        b"KISTCONF\x01\x00"
        + raw(fields["repository"])
        + little(fields["features"], 8)
        + b"\x01"
        + b"".join(little(fields[size], 4) for size in sizes)
        + raw(fields["owner"])
        + signature
    )


def certificate(fields: Fields) -> bytes:
    return (
        bytes([ROLES[fields["role"]]])
        + raw(fields["key"])
        + raw(fields["domain"])
        + little(fields["serial"], 4)
        + raw(fields["signing"])
        + counted(fields["name"].encode())
        + raw(fields["signature"])
    )


def slot(fields: Fields, given: Fields, nonces: tuple[bytes, bytes]) -> bytes:
    header = b"KISTSLOT\x01\x00"
    lock, secrets = fields["lock"], fields["secrets"]
    if lock["type"] == "passphrase":
        numbers = [lock["memory_kib"], lock["passes"], lock["lanes"]]
        header += b"\x01" + b"".join(little(number, 4) for number in numbers) + raw(lock["salt"])
        unlock = argon2id(given["passphrase"].encode(), raw(lock["salt"]), *numbers)
    else:
        header += b"\x02"
        unlock = raw(given["unlock"])
    slot_id = raw(given["slot_id"])
    place = raw(given["repository"]) + slot_id + header
    info = slot_info(fields["info"])
    info += bytes(256 - len(info))
    info = seal(raw(given["info_key"]), b"kist slot info" + place, info, nonces[0])
    plain = raw(secrets["config_digest"]) + slot_secrets(secrets["role"], secrets["holds"])
    plain += bytes(-len(plain) % 4096)
    key = derive("kist 1 key slot", unlock, slot_id)
    return header + info + seal(key, b"kist slot" + place + info, plain, nonces[1])


def domain_name(fields: Fields) -> bytes:
    return counted(b"" if fields["name"] == "default" else fields["name"].encode())


def slot_info(fields: Fields) -> bytes:
    return (
        bytes([ROLES[fields["role"]]])
        + raw(fields["key"])
        + little(fields["serial"], 4)
        + raw(fields["domain"]["id"])
        + little(fields["created"], 8)
        + bytes([TRUST[fields["trust"]]])
        + raw(fields["unlock"])
        + domain_name(fields["domain"])
        + counted(fields["name"].encode())
    )


def slot_secrets(role: str, holds: Fields) -> bytes:
    out = bytes([ROLES[role]])
    if role == "owner":
        like = holds["like"]
        out += raw(holds["root"]) + listed([raw(epoch) for epoch in holds["epochs"]])
        return out + (b"\x01" + raw(like["id"]) + raw(like["chunker"]) if like else b"\x00")
    bundle = holds["bundle"]
    out += certificate(bundle["certificate"]) + domain_name(bundle["domain"])
    out += raw(bundle["signing"]) + raw(bundle["structure"])
    if role == "maintainer":
        return out
    out += raw(holds["ids"]["id"]) + raw(holds["ids"]["chunker"])
    if role == "writer":
        out += raw(holds["meta_scope"]) + bytes([TRUST[holds["trust"]]])
        return out + listed([raw(recipient) for recipient in holds["recipients"]])
    return out + raw(holds["meta_root"]) + listed([raw(seed) for seed in holds["seeds"]])


def stored(plain: bytes, key: str, given: Fields, nonce: bytes) -> bytes:
    """A sealed object, as it lies in the store."""
    ad = object_ad(raw(given["repository"]), key)
    return seal(raw(given["structure"]), ad, padded_object(plain), nonce)


def session(fields: Fields) -> bytes:
    lanes = [
        raw(lane["signing"])
        + listed([raw(key["recipient"]) + raw(key["wrapped"]) for key in lane["keys"]])
        for lane in fields["lanes"]
    ]
    return (
        little(fields["started"], 8)
        + certificate(fields["certificate"])
        + listed(lanes)
        + raw(fields["signature"])
    )


def commit(fields: Fields) -> bytes:
    if fields == "fence":
        return b"\x02"
    if repack := fields.get("repack"):
        return b"\x03" + certificate(repack["certificate"]) + raw(repack["signature"])
    roots = [
        bytes([ROOTS[root["kind"]]]) + raw(root["source"]) + raw(root["node"])
        for root in fields["roots"]
    ]
    return (
        b"\x01"
        + little(fields["view"], 8)
        + raw(fields["head"])
        + little(fields["time"], 8)
        + raw(fields["source"])
        + bytes([fields["complete"]])
        + little(fields["sequence"], 8)
        + raw(fields["previous"])
        + counted(raw(fields["class"]))
        + bytes([fields["held"]])
        + listed(roots)
        + counted(raw(fields["sealed_summary"]))
        + certificate(fields["certificate"])
        + raw(fields["signature"])
    )


def entry(fields: Fields) -> bytes:
    """Of the gc log."""
    return (
        raw(fields["previous"])
        + little(fields["time"], 8)
        + action(fields["action"])
        + certificate(fields["certificate"])
        + raw(fields["signature"])
    )


def action(fields: Fields) -> bytes:
    [(name, said)] = fields.items()
    match name:
        case "sweep":
            packs = listed([raw(pack) for pack in said["packs"]])
            return b"\x02" + little(said["condemned"], 8) + packs
        case "hold":
            return b"\x06" + hold(said)
        case "verify":
            packs = listed([raw(one["pack"]) + raw(one["digest"]) for one in said])
            return b"\x08" + packs
        case "renew":
            return b"\x0b" + little(said["epoch"], 4)
        case "revoke":
            return b"\x09" + raw(said["key"]) + little(said["serial"], 4)
    return bytes([ACTIONS[name]]) + listed([raw(id_) for id_ in said])


def hold(fields: Fields) -> bytes:
    scope = fields["scope"]
    if scope == "all":
        of = bytes(17)
    else:
        [(kind, id_)] = scope.items()
        of = bytes([SCOPES[kind]]) + raw(id_)
    return raw(fields["id"]) + of + counted(fields["note"].encode())


def checks(fields: Fields) -> bytes:
    return (
        little(fields["time"], 8)
        + listed([check_range(one) for one in fields["hashed"]])
        + listed([check_range(one) for one in fields["opened"]])
        + certificate(fields["certificate"])
        + raw(fields["signature"])
    )


def check_range(fields: Fields) -> bytes:
    places = little(fields["first"], 4) + little(fields["last"], 4)
    return places + little(fields["since"], 8) + little(fields["upto"], 8)


def checkpoint(fields: Fields) -> bytes:
    return (
        raw(fields["entry"])
        + little(fields["time"], 8)
        + little(fields["epoch"], 4)
        + raw(fields["name"])
        + listed([raw(part) for part in fields["state"]])
        + listed([raw(part) for part in fields["index"]])
        + certificate(fields["certificate"])
        + raw(fields["signature"])
    )


def state(fields: Fields) -> bytes:
    last = fields["last_observed"]
    remembered = [
        raw(one["key"]) + little(sequence, 8) + raw(hash_)
        for one in fields["remembered"]
        for sequence, hash_ in one["commits"]
    ]
    return (
        listed([raw(pack) for pack in fields["swept"]])
        + listed([raw(pack) for pack in fields["damaged"]])
        + listed([row(one) for one in fields["rows"]])
        + listed([fact(one) for one in fields["facts"]])
        + listed(remembered)
        + listed([hold(one) for one in fields["holds"]])
        + listed([raw(key) + little(serial, 4) for key, serial in fields["revoked"]])
        + little(-(1 << 63) if last is None else last, 8)
        + listed([counted(key.encode()) for key in fields["pending"]])
    )


def row(fields: Fields) -> bytes:
    return (
        raw(fields["session"])
        + raw(fields["digest"])
        + raw(fields["key"])
        + little(fields["serial"], 4)
        + little(fields["sequence"], 8)
        + little(fields["time"], 8)
        + raw(fields["source"])
        + counted(raw(fields["class"]))
        + bytes([fields["complete"] + 2 * fields["held"]])
    )


def fact(fields: Fields) -> bytes:
    observed = fields["observed"]
    flags = [observed is not None, fields["forgotten"], fields["gone"], fields["lifted"]]
    out = raw(fields["session"]) + bytes([sum(flag << bit for bit, flag in enumerate(flags))])
    if observed is not None:
        out += little(observed["not_before"], 8) + little(observed["not_after"], 8)
    return out


def delta(fields: Fields) -> bytes:
    """Without the signature; a part of a generation has none."""
    return listed([delta_pack(pack) for pack in fields["packs"]])


def delta_pack(pack: Fields) -> bytes:
    records = [record_id(record["id"])[1:] + little(record["len"], 4) for record in pack["records"]]
    head = raw(pack["id"]) + bytes([KINDS[pack["kind"]]]) + little(pack["len"], 4)
    head += raw(pack["hash"]) + raw(pack["origin"]) + bytes([pack["verified"]])
    return head + listed([raw(session) for session in pack["sessions"]]) + listed(records)


def header(fields: Fields) -> bytes:
    out = record_id(fields["id"]) + key_name(fields["key"])
    for part in fields["parts"]:
        out += bytes([part["compression"] == "zstd"])
        out += little(part["stored_len"], 4) + little(part["raw_len"], 4)
    return out


def contents(fields: Fields) -> bytes:
    """A pack's table of contents."""
    records = [
        record_id(record["id"])
        + little(record["offset"], 4)
        + little(record["record_len"], 4)
        + raw(record["short_hash"])
        for record in fields["records"]
    ]
    return bytes([KINDS[fields["kind"]]]) + listed(records)


class NodeEncoder:
    """Collects the references of a node while its items are written."""

    def __init__(self) -> None:
        self.chunks: list[str] = []
        self.nodes: list[str] = []
        self.last = b""

    def node(self, fields: Fields) -> bytes:
        level = fields.get("level", 0)
        if "leaf" in fields or "children" in fields:
            tree = 1
            items = [self.entry(entry) for entry in fields.get("leaf", [])]
            items += [self.path_child(child) for child in fields.get("children", [])]
        else:
            tree = 2
            items = [self.extent(extent) for extent in fields.get("extents", [])]
            items += [self.extent_child(child) for child in fields.get("extent_children", [])]
        entries = listed(items)
        references = bytes([tree, level])
        references += listed([raw(chunk) for chunk in self.chunks])
        references += listed([raw(node) for node in self.nodes])
        return little(len(references), 4) + references + entries

    def path(self, text: str) -> bytes:
        path, shared = raw(text), 0
        while shared < min(len(path), len(self.last)) and path[shared] == self.last[shared]:
            shared += 1
        self.last = path
        return varint(shared) + counted(path[shared:])

    def path_child(self, child: Fields) -> bytes:
        self.nodes.append(child["node"])
        return self.path(child["last"])

    def extent_child(self, child: Fields) -> bytes:
        self.nodes.append(child["node"])
        return varint(child["len"])

    def extent(self, extent: Fields) -> bytes:
        if "hole" in extent:
            return b"\x01" + varint(extent["hole"])
        length = b""
        if extent["chunk"] not in self.chunks:
            self.chunks.append(extent["chunk"])
            length = varint(extent["chunk_len"])
        chunk = varint(self.chunks.index(extent["chunk"])) + length
        return b"\x00" + chunk + varint(extent["offset"]) + varint(extent["len"])

    def entry(self, entry: Fields) -> bytes:
        path = self.path(entry["path"])
        type_, rest = self.kind(entry["kind"])
        a = entry["attributes"]
        xattrs = [counted(raw(name)) + counted(raw(value)) for name, value in a["xattrs"]]
        return (
            path
            + bytes([type_])
            + varint(a["mode"])
            + varint(a["uid"])
            + varint(a["gid"])
            + b"".join(signed(a[t]["secs"]) + varint(a[t]["nanos"]) for t in ("mtime", "ctime"))
            + listed(xattrs)
            + optional(a["link"])
            + rest
        )

    def kind(self, kind: Fields) -> tuple[int, bytes]:
        if isinstance(kind, str):
            return SIMPLE_TYPES[kind], b""
        [(name, value)] = kind.items()
        if name == "symlink":
            return 3, counted(raw(value))
        if name == "file":
            return 2, varint(value["size"]) + self.content(value["content"]) + optional(
                value["hash"]
            )
        return {"char-device": 6, "block-device": 7}[name], b"".join(little(n, 4) for n in value)

    def content(self, content: Fields) -> bytes:
        if "tree" in content:
            self.nodes.append(content["tree"])
            return b"\x01"
        return b"\x00" + listed([self.extent(extent) for extent in content["extents"]])


def frame(fields: Fields) -> bytes:
    match fields["type"]:
        case "heartbeat":
            return b"\x05"
        case "piece":
            payload = raw(fields["payload"])
            kind = b"\x02" if fields["last"] else b"\x01"
            return kind + little(fields["number"], 8) + little(len(payload), 2) + payload
        case kind:
            return {"end": b"\x03", "acknowledgement": b"\x04"}[kind] + little(fields["number"], 8)


def message(fields: Fields) -> bytes:
    body = raw(fields["body"])
    return bytes([fields["kind"]]) + little(fields["call"], 4) + little(len(body), 4) + body


def request(fields: Fields) -> bytes:
    out = bytes([OPERATIONS.index(fields["operation"]) + 1]) + counted(fields["key"].encode())
    for name, length in (("limit", 8), ("start", 8), ("len", 8), ("from", 4)):
        if name in fields:
            out += little(fields[name], length)
    return out + raw(fields.get("body", ""))


def answer(fields: Fields) -> bytes:
    match fields["answer"]:
        case "done":
            return b"\x01"
        case "found":
            return b"\x02" + raw(fields["body"])
        case "size":
            return b"\x03" + little(fields["size"], 8)
        case "listing":
            objects = [
                counted(o["key"].encode()) + varint(o["size"]) + signed(o["modified"])
                for o in fields["objects"]
            ]
            return b"\x04" + little(fields["next"], 4) + listed(objects)
        case _:
            return b"\x05" + bytes([fields["class"]]) + counted(fields["text"].encode())


def source(fields: Fields) -> bytes:
    if fields["type"] == "files":
        kind, parts = b"\x01", [fields["host"], *fields["paths"]]
    else:
        kind, parts = b"\x02", [fields["cluster"], fields["object"]]
    return kind + b"".join(counted(part.encode()) for part in parts)


def key_file(fields: Fields, given: Fields) -> str:
    data = unlocking(fields)
    return f"# {given['comment']}\nkist-key-1:{(data + digest(data)[:4]).hex()}\n"


def unlocking(fields: Fields) -> bytes:
    return b"".join(raw(fields[name]) for name in ("repository", "slot_id", "unlock"))


def kit(fields: Fields, _given: Fields) -> str:
    data = unlocking(fields)
    signs = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    text = ""
    for n in range(1, 9):
        part = data[8 * n - 8 : 8 * n]
        bits = int.from_bytes(part + digest(bytes([n]) + part)[:2], "big")
        line = "".join(signs[bits >> 5 * i & 31] for i in reversed(range(16)))
        text += f"{n}  {' '.join(line[i : i + 4] for i in range(0, 16, 4))}\n"
    return text
