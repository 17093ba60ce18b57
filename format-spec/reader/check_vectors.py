"""Holds the reader against the vectors of the format, both ways: `check_vectors.py [FOLDER]`.

What a vector's bytes decode to has to be its fields, and its fields have to give its bytes; a
defect has to be refused with the class that it states. A form that nothing here knows is a
failure, not something to pass over.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blake3 import blake3

import checkpoint
import checks
import codec
import cutting
import encode
import fields
import index
import keys
import layout
import log
import pack
import slots
import snapshot
import tree
import wire
from codec import Decoder, Refused, padded
from crypto import Recipient, derive, digest, keyed, public_of, seal, sign, words
from encode import raw
from keys import META, MetaKey

Fields = Any
Vector = dict[str, Any]


def domain_of(given: Fields) -> keys.Domain:
    """The default domain, of a `config` that has what the decoders of objects ask it for."""
    owner = raw(given.get("owner", ""))
    config = layout.Config(raw(given["repository"]), 0, 0, 0, 0, 0, owner, b"")
    return keys.Domain(config, keys.DEFAULT_DOMAIN, raw(given["structure"]))


def decode_number(data: bytes, read: Callable[[Decoder], int]) -> Fields:
    source = Decoder(data)
    value = read(source)
    source.end()
    return {"value": value}


def decode_slot(data: bytes, given: Fields) -> Fields:
    slot = slots.decode_slot(raw(given["slot_id"]), data)
    if "unlock" in given:
        unlock = raw(given["unlock"])
    else:
        unlock = slot.unlock_key(given["passphrase"].encode())
    repository = raw(given["repository"])
    return {
        "info": fields.of_info(slot.open_info(repository, raw(given["info_key"]))),
        "lock": fields.of_lock(slot.lock),
        "secrets": fields.of_secrets(slot.open(repository, unlock)),
        "unlock": unlock.hex(),
    }


def decode_session(data: bytes, given: Fields) -> Fields:
    session, domain = raw(given["session"]), domain_of(given)
    found = snapshot.open_session(domain, session, data)
    recipients = (Recipient(raw(given["recipient_seed"])),)
    lanes = []
    for number, lane in enumerate(found.lanes):
        key = keys.lane_key(recipients, domain.config, session, number, lane.wrapped)
        wrapped = [{"recipient": name.hex(), "wrapped": box.hex()} for name, box in lane.wrapped]
        lanes.append({"data_key": key.hex(), "keys": wrapped, "signing": lane.signing.hex()})
    return {
        "certificate": fields.of_certificate(found.certificate),
        "key": layout.session_key(session),
        "lanes": lanes,
        "signature": found.signature.hex(),
        "started": found.started,
    }


def decode_commit(data: bytes, given: Fields) -> Fields:
    session = raw(given["session"])
    commit = snapshot.open_commit(domain_of(given), session, data)
    summary = None
    if isinstance(commit, snapshot.Commit):
        summary = commit.summary(raw(given["repository"]), raw(given["meta_key"]))
    return fields.of_commit(commit, layout.commit_key(session), summary)


def decode_entry(data: bytes, given: Fields) -> Fields:
    slot = given["slot"]
    return fields.of_log_entry(log.open_entry(domain_of(given), slot, data), layout.log_key(slot))


def decode_checkpoint(data: bytes, given: Fields) -> Fields:
    slot = given["slot"]
    found = checkpoint.open_checkpoint(domain_of(given), slot, data)
    return fields.of_checkpoint(found, layout.checkpoint_key(slot))


def decode_checks(data: bytes, given: Fields) -> Fields:
    number = given["number"]
    found = checks.open_checks(domain_of(given), number, data)
    return fields.of_checks(found, layout.checks_key(number))


def part_key(given: Fields) -> str:
    return layout.part_key(given["slot"], raw(given["name"]), given["part"])


def decode_part(data: bytes, given: Fields) -> Decoder:
    return domain_of(given).open(part_key(given), data, codec.INDEX_LEN)


def decode_state(data: bytes, given: Fields) -> Fields:
    state = checkpoint.decode_state(checkpoint.piece_of(decode_part(data, given)))
    return {"key": part_key(given), "state": fields.of_state(state)}


def decode_index_part(data: bytes, given: Fields) -> Fields:
    packs = index.decode_part(decode_part(data, given))
    return {"key": part_key(given), "packs": [fields.of_pack(pack) for pack in packs]}


def delta_key(given: Fields) -> str:
    return layout.index_key(raw(given["session"]), given["lane"], given["number"])


def decode_delta(data: bytes, given: Fields) -> Fields:
    public = public_of(raw(given["lane_seed"]))
    packs = index.open_delta(domain_of(given), delta_key(given), public, data)
    return {"key": delta_key(given), "packs": [fields.of_pack(pack) for pack in packs]}


def encode_delta(v: Vector, nonce: bytes) -> bytes:
    given, key = v["given"], delta_key(v["given"])
    plain = encode.delta(v["fields"])
    message = raw(given["repository"]) + key.encode() + b"\x00" + digest(plain)
    plain += sign(raw(given["lane_seed"]), index.SIGN_INDEX, message)
    return encode.stored(plain, key, given, nonce)


def decode_header(data: bytes, given: Fields) -> Fields:
    header = pack.open_header(raw(given["structure"]), raw(given["repository"]), data)
    return fields.of_header(header)


def decode_pack(data: bytes, given: Fields) -> Fields:
    structure, repository, name = (raw(given[k]) for k in ("structure", "repository", "pack"))
    contents = pack.open_contents(structure, repository, name, data)
    return {
        "hash": digest(data).hex(),
        "kind": fields.PACK_KINDS[contents.kind],
        "padding": data[contents.end : contents.table].hex(),
        "records": [decode_record(record, data, given) for record in contents.records],
    }


def decode_record(record: pack.Record, data: bytes, given: Fields) -> Fields:
    """All of a record of a pack: opened, decompressed, its id computed."""
    structure, repository = raw(given["structure"]), raw(given["repository"])
    found = pack.record_bytes(record, data)
    header = pack.open_header(structure, repository, found[: pack.HEADER_LEN])
    boxes = pack.parts_of(header, found)
    ids = keys.IdKeys(raw(given["chunk_id_key"]), raw(given["node_id_key"]))
    if isinstance(header.key, MetaKey):
        meta = derive(META, raw(given["meta_scope"]), header.key.source)
        references, entries = pack.open_record(header, boxes, repository, [structure, meta])
        ids.check_node(header.id, header.key, references, entries)
        opened = {"node": fields.of_node(tree.decode_node(references, entries))}
    else:
        [plain] = pack.open_record(header, boxes, repository, [raw(given["lane_key"])])
        ids.check_chunk(header.id, plain)
        opened = {"plain": plain.hex()}
    if (header.kind, header.id) != (record.kind, record.id):
        raise Refused("invalid", "a record that is another than the table of contents says")
    return fields.of_record(record, header, opened)


def decode_node(data: bytes) -> Fields:
    source = Decoder(data)
    references = source.take(source.u32())
    return fields.of_node(tree.decode_node(references, source.rest()))


def derived(given: Fields) -> Fields:
    root, domain_id = raw(given["root"]), raw(given["domain"])
    slot_id, unlock = raw(given["slot_id"]), raw(given["unlock"])
    domain = derive(keys.DOMAIN, root, domain_id)
    id_key, chunker = derive(keys.ID, domain), derive(keys.CHUNKER, domain)
    meta_root = derive(keys.META_ROOT, domain)
    scope = derive(keys.META_SCOPE, meta_root, raw(given["key_id"]))
    signing = derive(keys.OWNER_SIGNING, root)
    secret = derive(keys.OWNER_RECIPIENT, root)
    seed = derive(keys.RECIPIENT, secret, domain_id)
    recipient = Recipient(seed)
    found = {
        "chunk_id_key": derive(keys.CHUNK_ID, id_key),
        "chunker_key": chunker,
        "domain_key": domain,
        "file_hash_key": derive(keys.FILE_HASH, id_key),
        "id_key": id_key,
        "link_group_key": derive(keys.LINK_GROUP, id_key),
        "meta_key": derive(keys.META, scope, raw(given["source"])),
        "meta_root": meta_root,
        "meta_scope": scope,
        "named_domain_id": derive(keys.DOMAIN_ID, root, given["domain_name"].encode())[:16],
        "node_cut_key": derive(cutting.NODE_CUT, chunker),
        "node_id_key": derive(keys.NODE_ID, id_key),
        "owner_signing_public": public_of(signing),
        "owner_signing_seed": signing,
        "recipient_id": recipient.id,
        "recipient_public": recipient.public,
        "recipient_secret": secret,
        "recipient_seed": seed,
        "slot_info_key": derive(slots.SLOT_INFO, secret),
        "slot_key": derive(slots.SLOT, unlock, slot_id),
        "source_id_key": derive(keys.SOURCE_ID, id_key),
        "structure_key": derive(keys.STRUCTURE, domain),
    }
    return {name: value.hex() for name, value in found.items()}


def ids(given: Fields) -> Fields:
    domain = keys.Domain(layout.Config(b"", 0, 0, 0, 0, 0, b"", b""), b"", b"")
    have = keys.Keys(keys.OWNER, domain, raw(given["id_key"]))
    canonical = encode.source(given["source"])
    name = MetaKey(raw(given["key_id"]), have.source_id(canonical))
    node, content = raw(given["node"]), raw(given["content"])
    source = Decoder(node)
    references = source.take(source.u32())
    link_key = derive(keys.LINK_GROUP, have.id_key())
    file_key = have.file_hash_key()
    path = b"\x00".join(given["path"].encode().split(b"/"))
    return {
        "chunk_id": have.ids.chunk(content).hex(),
        "file_hash": keyed(file_key, content).hex(),
        "key_name": keys.encode_key_name(name).hex(),
        "link_group": keyed(link_key, path)[:16].hex(),
        "node_id": have.ids.node(name, references, source.rest()).hex(),
        "source_canonical": canonical.hex(),
        "source_id": name.source.hex(),
    }


def gear(given: Fields) -> Fields:
    table = words(cutting.GEAR, raw(given["chunker_key"]), 256)
    return {
        "blake3": cutting.gear_digest(table).hex(),
        "first": [f"{word:016x}" for word in table[:4]],
        "last": f"{table[-1]:016x}",
    }


def random_bytes(seed: int, call: int, length: int) -> bytes:
    """Random bytes of the vectors, which are not random."""
    return blake3(encode.little(seed, 8) + encode.little(call, 8)).digest(length=length)


def cuts(given: Fields) -> Fields:
    corpus = bytearray(random_bytes(given["seed"], 0, given["corpus_bytes"]))
    begin, end = given["zeros_from"], given["zeros_to"]
    corpus[begin:end] = bytes(end - begin)
    sizes = (given["min_bytes"], given["avg_bytes"], given["max_bytes"])
    table = cutting.gear(raw(given["chunker_key"]))
    return {"lengths": cutting.cuts(bytes(corpus), table, *sizes)}


def node_cuts(given: Fields) -> Fields:
    chunker = raw(given["chunker_key"])
    return {
        "extents": [
            cutting.extent_node_ends(chunker, level, raw(key), n)
            for level, key, n in given["extents"]
        ],
        "paths": [
            cutting.path_node_ends(chunker, level, path.encode().replace(b"/", b"\x00"), i, node)
            for level, path, i, node in given["paths"]
        ],
    }


def encode_config(v: Vector) -> bytes:
    unsigned = encode.config(v["fields"], b"")
    return unsigned + sign(raw(v["given"]["owner_seed"]), layout.SIGN_CONFIG, unsigned)


def nonce_of(v: Vector) -> bytes:
    return raw(v["bytes"])[:24]


def encode_slot(v: Vector) -> bytes:
    header = 39 if v["fields"]["lock"]["type"] == "passphrase" else 11
    data = raw(v["bytes"])
    nonces = (data[header : header + 24], data[header + 296 : header + 320])
    return encode.slot(v["fields"], v["given"], nonces)


def encode_header(v: Vector) -> bytes:
    given = v["given"]
    ad = b"kist record header" + raw(given["repository"])
    return seal(raw(given["structure"]), ad, encode.header(v["fields"]), nonce_of(v))


def encode_commit(v: Vector) -> bytes:
    key = layout.commit_key(raw(v["given"]["session"]))
    return encode.stored(encode.commit(v["fields"]), key, v["given"], nonce_of(v))


def sealed(plain: Callable[[Fields], bytes]) -> Callable[[Vector], bytes]:
    """A sealed object, from what makes its content and the key in its fields."""
    return lambda v: encode.stored(plain(v["fields"]), v["fields"]["key"], v["given"], nonce_of(v))


Decode = Callable[[bytes, Fields], Fields]
Encode = Callable[[Vector], bytes]

# What has bytes: how they are decoded, and how they are made again. A pack is not made again:
# what a compressor gives differs from one of its versions to the next.
BYTES: dict[str, tuple[Decode, Encode | None]] = {
    "varint": (
        lambda b, g: decode_number(b, Decoder.varint),
        lambda v: encode.varint(v["fields"]["value"]),
    ),
    "signed": (
        lambda b, g: decode_number(b, Decoder.signed),
        lambda v: encode.signed(v["fields"]["value"]),
    ),
    "config": (lambda b, g: fields.of_config(layout.decode_config(b)), encode_config),
    "slot": (decode_slot, encode_slot),
    "session": (decode_session, sealed(encode.session)),
    "commit": (decode_commit, encode_commit),
    "log": (decode_entry, sealed(encode.entry)),
    "checkpoint": (decode_checkpoint, sealed(encode.checkpoint)),
    "checks": (decode_checks, sealed(encode.checks)),
    "state": (decode_state, sealed(lambda f: encode.counted(encode.state(f["state"])))),
    "index-part": (decode_index_part, sealed(encode.delta)),
    "index": (decode_delta, lambda v: encode_delta(v, nonce_of(v))),
    "record-header": (decode_header, encode_header),
    "pack": (decode_pack, None),
    "node": (lambda b, g: decode_node(b), lambda v: encode.NodeEncoder().node(v["fields"])),
    "opening": (lambda b, g: wire.decode_opening(b), lambda v: wire.MAGIC + b"\x00\x00"),
    "frame": (lambda b, g: wire.decode_frame(b), lambda v: encode.frame(v["fields"])),
    "message": (lambda b, g: wire.decode_message(b), lambda v: encode.message(v["fields"])),
    "relay-request": (
        lambda b, g: wire.decode_request(b),
        lambda v: encode.request(v["fields"]),
    ),
    "relay-answer": (lambda b, g: wire.decode_answer(b), lambda v: encode.answer(v["fields"])),
}

# What has a text.
TEXTS: dict[str, tuple[Callable[[str], slots.KeyFile], Callable[[Fields, Fields], str]]] = {
    "key-file": (slots.decode_key_file, encode.key_file),
    "kit": (slots.decode_kit, encode.kit),
}

COMPUTED: dict[str, Callable[[Fields], Fields]] = {
    "padded": lambda given: {"padded": [padded(length) for length in given["lengths"]]},
    "derive": derived,
    "ids": ids,
    "gear": gear,
    "cuts": cuts,
    "node-cuts": node_cuts,
}


def check(v: Vector) -> str | None:
    """What is wrong, if anything is."""
    form, given = v["form"], v.get("given", {})
    if form in COMPUTED:
        return differs(v["fields"], COMPUTED[form](given))
    if form in TEXTS:
        return check_text(v)
    if form not in BYTES:
        return f"the form {form} is not known"
    decode, encoder = BYTES[form]
    try:
        found = decode(raw(v["bytes"]), given)
    except Refused as refusal:
        return refused(v, refusal)
    if "error" in v:
        return f"is accepted, and should be refused as {v['error']}"
    if wrong := differs(v["fields"], found):
        return wrong
    if encoder is not None and encoder(v) != raw(v["bytes"]):
        return "the fields give other bytes"
    return None


def check_text(v: Vector) -> str | None:
    decode, encoder = TEXTS[v["form"]]
    try:
        found = fields.of_key_file(decode(v["text"]))
    except Refused as refusal:
        return refused(v, refusal)
    if "error" in v:
        return f"is accepted, and should be refused as {v['error']}"
    if encoder(v["fields"], v["given"]) != v["text"]:
        return "the fields give another text"
    return differs(v["fields"], found)


def refused(v: Vector, refusal: Refused) -> str | None:
    if v.get("error") == refusal.kind:
        return None
    return f"is refused: {refusal}; expected: {v.get('error', 'that it is accepted')}"


def differs(wanted: Fields, found: Fields) -> str | None:
    if wanted == found:
        return None
    if isinstance(wanted, dict) and isinstance(found, dict):
        names = [n for n in {**wanted, **found} if wanted.get(n) != found.get(n)]
        return f"decodes to something else in: {', '.join(names)}"
    return "decodes to something else"


def main() -> int:
    here = Path(__file__).resolve().parent.parent / "vectors"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else here
    paths = sorted(folder.glob("*/*.json"))
    failed = 0
    for path in paths:
        if wrong := check(json.loads(path.read_text())):
            failed += 1
            print(f"{path.relative_to(folder)}: {wrong}")
    print(f"{len(paths) - failed} passed, {failed} failed")
    return 1 if failed or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
