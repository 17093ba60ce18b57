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

import cutting
import encode
import fields
import index
import keys
import layout
import pack
import snapshot
import tree
import wire
from codec import Decoder, Refused, padded
from crypto import Recipient, derive, digest, keyed, public_of, seal, sign, words
from encode import raw
from keys import CHUNKER, DOMAIN, FILE_HASH, ID, META, META_SCOPE, STRUCTURE, MetaKey

Fields = Any
Vector = dict[str, Any]


def config_of(given: Fields) -> layout.Config:
    """A `config` that has what the decoders of objects ask it for."""
    return layout.Config(raw(given["repository"]), 0, 0, 0, 0, 0, raw(given["owner"]), b"")


def decode_number(data: bytes, read: Callable[[Decoder], int]) -> Fields:
    source = Decoder(data)
    value = read(source)
    source.end()
    return {"value": value}


def decode_slot(data: bytes, given: Fields) -> Fields:
    slot = keys.decode_slot(raw(given["key_id"]), data)
    if "unlock" in given:
        unlock = raw(given["unlock"])
    else:
        unlock = slot.unlock_key(given["passphrase"].encode())
    secrets = slot.open(raw(given["repository"]), unlock)
    return {
        "lock": fields.of_lock(slot.lock),
        "secrets": fields.of_secrets(secrets),
        "unlock": unlock.hex(),
    }


def decode_session(data: bytes, given: Fields) -> Fields:
    session = raw(given["session"])
    config = config_of(given)
    found = snapshot.open_session(raw(given["structure"]), config, session, data)
    recipient = Recipient(raw(given["recipient_seed"]))
    return {
        "certificate": fields.of_certificate(found.certificate),
        "key": layout.session_key(session),
        "lanes": [
            {
                "data_key": keys.lane_key(recipient, config, session, number, lane.wrapped).hex(),
                "keys": [
                    {"recipient": name.hex(), "wrapped": wrapped.hex()}
                    for name, wrapped in lane.wrapped
                ],
                "signing": lane.signing.hex(),
            }
            for number, lane in enumerate(found.lanes)
        ],
        "signature": found.signature.hex(),
        "started": found.started,
    }


def decode_commit(data: bytes, given: Fields) -> Fields:
    session, config = raw(given["session"]), config_of(given)
    commit = snapshot.open_commit(raw(given["structure"]), config, session, data)
    if commit is None:
        return "fence"
    return fields.of_commit(commit, commit.summary(config.repository, raw(given["meta_key"])))


def delta_key(given: Fields) -> str:
    return layout.index_key(raw(given["session"]), given["lane"], given["number"])


def decode_delta(data: bytes, given: Fields) -> Fields:
    public = public_of(raw(given["lane_seed"]))
    structure, repository = raw(given["structure"]), raw(given["repository"])
    packs = index.open_delta(structure, repository, delta_key(given), public, data)
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
    key_id, source, unlock = (raw(given[name]) for name in ("key_id", "source", "unlock"))
    domain = derive(DOMAIN, root, domain_id)
    id_key, chunker = derive(ID, domain), derive(CHUNKER, domain)
    signing = derive(keys.OWNER_SIGNING, root)
    seed = derive(keys.OWNER_RECIPIENT, root)
    recipient = Recipient(seed)
    scope = derive(META_SCOPE, domain, key_id)
    found = {
        "chunk_id_key": derive(keys.CHUNK_ID, id_key),
        "chunker_key": chunker,
        "domain_key": domain,
        "file_hash_key": derive(FILE_HASH, id_key),
        "id_key": id_key,
        "link_group_key": derive(keys.LINK_GROUP, id_key),
        "meta_key": derive(META, scope, source),
        "meta_scope": scope,
        "node_cut_key": derive(cutting.NODE_CUT, chunker),
        "node_id_key": derive(keys.NODE_ID, id_key),
        "owner_recipient_id": recipient.id,
        "owner_recipient_public": recipient.public,
        "owner_recipient_seed": seed,
        "owner_signing_public": public_of(signing),
        "owner_signing_seed": signing,
        "slot_key": derive(keys.SLOT, unlock, key_id),
        "source_id_key": derive(keys.SOURCE_ID, id_key),
        "structure_key": derive(STRUCTURE, domain),
    }
    return {name: value.hex() for name, value in found.items()}


def ids(given: Fields) -> Fields:
    have = keys.Keys(structure=b"", id=raw(given["id_key"]))
    canonical = encode.source(given["source"])
    name = MetaKey(raw(given["key_id"]), have.source_id(canonical))
    node, content = raw(given["node"]), raw(given["content"])
    source = Decoder(node)
    references = source.take(source.u32())
    link_key = derive(keys.LINK_GROUP, have.id)
    file_key = have.file_hash_key()
    path = b"\x00".join(given["path"].encode().split(b"/"))
    return {
        "chunk_id": have.ids().chunk(content).hex(),
        "file_hash": keyed(file_key, content).hex(),
        "key_name": keys.encode_key_name(name).hex(),
        "link_group": keyed(link_key, path)[:16].hex(),
        "node_id": have.ids().node(name, references, source.rest()).hex(),
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
    return encode.slot(v["fields"], v["given"], raw(v["bytes"])[header : header + 24])


def encode_header(v: Vector) -> bytes:
    given = v["given"]
    ad = b"kist record header" + raw(given["repository"])
    return seal(raw(given["structure"]), ad, encode.header(v["fields"]), nonce_of(v))


def encode_session(v: Vector) -> bytes:
    f = v["fields"]
    return encode.stored(encode.session(f), f["key"], v["given"], nonce_of(v))


def encode_commit(v: Vector) -> bytes:
    key = layout.commit_key(raw(v["given"]["session"]))
    return encode.stored(encode.commit(v["fields"]), key, v["given"], nonce_of(v))


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
    "session": (decode_session, encode_session),
    "commit": (decode_commit, encode_commit),
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
    if form == "key-file":
        return check_key_file(v)
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


def check_key_file(v: Vector) -> str | None:
    try:
        found = fields.of_key_file(keys.decode_key_file(v["text"]))
    except Refused as refusal:
        return refused(v, refusal)
    if "error" in v:
        return f"is accepted, and should be refused as {v['error']}"
    if encode.key_file(v["fields"], v["given"]["comment"]) != v["text"]:
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
