"""What was decoded, as the fields of a vector: the shapes that `encode.py` takes."""

from typing import Any

import codec
from index import Pack
from keys import ROLES, Certificate, DataKey, KeyFile, KeyName, Passphrase, Secrets
from layout import Config, commit_key
from pack import Header, Record
from snapshot import ROOT_KINDS, Commit
from tree import Entry, Extent, Node, Time

Fields = Any

PACK_KINDS = {codec.CHUNK: "data", codec.NODE: "nodes"}
ENTRY_KINDS = {1: "folder", 4: "fifo", 5: "socket"}


def of_config(config: Config) -> Fields:
    return {
        "avg_bytes": config.average,
        "bundle_below_bytes": config.bundle_below,
        "chunker": "keyed-fastcdc",
        "digest": config.pin.hex(),
        "features": config.features,
        "max_bytes": config.largest,
        "min_bytes": config.smallest,
        "owner": config.owner.hex(),
        "repository": config.repository.hex(),
    }


def of_record_id(kind: int, name: bytes) -> Fields:
    return {"chunk" if kind == codec.CHUNK else "node": name.hex()}


def of_key_name(name: KeyName) -> Fields:
    if isinstance(name, DataKey):
        return {"data": {"lane": name.lane, "session": name.session.hex()}}
    return {"meta": {"scope": name.scope.hex(), "source": name.source.hex()}}


def of_certificate(certificate: Certificate) -> Fields:
    return {
        "domain": certificate.domain.hex(),
        "key": certificate.key_id.hex(),
        "name": certificate.name,
        "role": ROLES[certificate.role],
        "signature": certificate.signature.hex(),
        "signing": certificate.signing.hex(),
    }


def of_key_file(key: KeyFile) -> Fields:
    names = {"key_id": key.key_id, "repository": key.repository, "unlock": key.unlock}
    return {name: value.hex() for name, value in names.items()}


def of_lock(lock: Passphrase | None) -> Fields:
    if lock is None:
        return {"type": "key-file"}
    return {
        "lanes": lock.lanes,
        "memory_kib": lock.memory_kib,
        "passes": lock.passes,
        "salt": lock.salt.hex(),
        "type": "passphrase",
    }


def of_secrets(secrets: Secrets) -> Fields:
    holds: Fields = {"role": "owner", "root": secrets.root.hex()}
    if secrets.certificate is not None:
        holds = {
            "certificate": of_certificate(secrets.certificate),
            "chunker": secrets.chunker.hex(),
            "id": secrets.id.hex(),
            "meta_scope": secrets.meta_scope.hex(),
            "recipients": [recipient.hex() for recipient in secrets.recipients],
            "role": ROLES[secrets.role],
            "signing": secrets.signing.hex(),
            "structure": secrets.structure.hex(),
        }
    return {"config_digest": secrets.pin.hex(), "holds": holds}


def of_commit(commit: Commit, summary: Fields) -> Fields:
    roots = [
        {"kind": ROOT_KINDS[root.kind], "node": root.node.hex(), "source": root.source.hex()}
        for root in commit.roots
    ]
    return {
        "certificate": of_certificate(commit.certificate),
        "complete": commit.complete,
        "key": commit_key(commit.session),
        "meta_key_name": of_key_name(commit.meta_key(commit.source)),
        "previous": commit.previous.hex(),
        "roots": roots,
        "sealed_summary": commit.sealed_summary.hex(),
        "sequence": commit.sequence,
        "signature": commit.signature.hex(),
        "source": commit.source.hex(),
        "summary": summary,
        "time": commit.time,
        "view": commit.view,
    }


def of_pack(pack: Pack) -> Fields:
    return {
        "hash": pack.hash.hex(),
        "id": pack.id.hex(),
        "kind": PACK_KINDS[pack.kind],
        "len": pack.length,
        "records": [
            {"id": of_record_id(r.kind, r.id), "len": r.length, "offset": r.offset}
            for r in pack.records
        ],
    }


def of_header(header: Header) -> Fields:
    parts: list[Fields] = [
        {
            "compression": "zstd" if part.zstd else "none",
            "raw_len": part.raw,
            "stored_len": part.stored,
        }
        for part in header.parts
    ]
    if header.kind == codec.CHUNK:
        parts.append({"compression": "none", "raw_len": 0, "stored_len": 0})
    return {
        "id": of_record_id(header.kind, header.id),
        "key": of_key_name(header.key),
        "parts": parts,
        "record_len": header.record_len(),
    }


def of_record(record: Record, header: Header, opened: Fields) -> Fields:
    return {
        **of_header(header),
        **opened,
        "offset": record.offset,
        "short_hash": record.short_hash.hex(),
    }


def of_node(node: Node) -> Fields:
    match node.tree, node.level:
        case 1, 0:
            return {"leaf": [of_entry(entry) for entry in node.entries]}
        case 2, 0:
            return {"extents": [of_extent(extent) for extent in node.extents]}
        case 1, level:
            below: list[Fields] = [
                {"last": child.last.hex(), "node": child.node.hex()} for child in node.children
            ]
            return {"children": below, "level": level}
        case _, level:
            below = [{"len": child.length, "node": child.node.hex()} for child in node.children]
            return {"extent_children": below, "level": level}


def of_extent(extent: Extent) -> Fields:
    if extent.chunk is None:
        return {"hole": extent.length}
    return {"chunk": extent.chunk.hex(), "len": extent.length, "offset": extent.offset}


def of_time(time: Time) -> Fields:
    return {"nanos": time.nanoseconds, "secs": time.seconds}


def of_entry(entry: Entry) -> Fields:
    attributes = {
        "ctime": of_time(entry.ctime),
        "gid": entry.gid,
        "link": entry.link_group.hex() if entry.link_group is not None else None,
        "mode": entry.mode,
        "mtime": of_time(entry.mtime),
        "uid": entry.uid,
        "xattrs": [[name.hex(), value.hex()] for name, value in entry.xattrs],
    }
    return {"attributes": attributes, "kind": of_kind(entry), "path": entry.path.hex()}


def of_kind(entry: Entry) -> Fields:
    match entry.type:
        case 2:
            content: Fields = {"extents": [of_extent(extent) for extent in entry.extents]}
            if entry.extent_tree is not None:
                content = {"tree": entry.extent_tree.hex()}
            hash_ = entry.hash.hex() if entry.hash is not None else None
            return {"file": {"content": content, "hash": hash_, "size": entry.size}}
        case 3:
            return {"symlink": entry.target.hex()}
        case 6 | 7:
            name = "char-device" if entry.type == 6 else "block-device"
            return {name: list(entry.device)}
    return ENTRY_KINDS[entry.type]
