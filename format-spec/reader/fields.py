"""What was decoded, as the fields of a vector: the shapes that `encode.py` takes."""

from typing import Any

import codec
import log
from checkpoint import Checkpoint, State
from checks import Checks, Range
from index import Pack
from keys import ROLES, Certificate, DataKey, KeyName
from layout import Config
from log import NEVER, SCOPES, Fact, Hold
from pack import Header, Record
from slots import Bundle, DomainName, Info, KeyFile, Owner, Passphrase, Secrets
from snapshot import ROOT_KINDS, Commit, Fence, Repack
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
        "serial": certificate.serial,
        "signature": certificate.signature.hex(),
        "signing": certificate.signing.hex(),
    }


def of_key_file(key: KeyFile) -> Fields:
    names = {"slot_id": key.slot_id, "repository": key.repository, "unlock": key.unlock}
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


def of_domain(domain: DomainName) -> Fields:
    return {"id": domain.id.hex(), "name": domain.text or "default"}


def of_info(info: Info) -> Fields:
    return {
        "created": info.created,
        "domain": of_domain(info.domain),
        "key": info.key_id.hex(),
        "name": info.name,
        "role": ROLES[info.role],
        "serial": info.serial,
        "trust": info.trust,
        "unlock": info.unlock.hex(),
    }


def hexes(things: list[bytes] | tuple[bytes, ...]) -> list[str]:
    return [thing.hex() for thing in things]


def of_secrets(secrets: Secrets) -> Fields:
    holds = secrets.holds
    if isinstance(holds, Owner):
        like = holds.like and {"id": holds.like[0].hex(), "chunker": holds.like[1].hex()}
        held: Fields = {"epochs": hexes(holds.epochs), "like": like, "root": holds.root.hex()}
        role = "owner"
    else:
        held = of_bundle(holds)
        role = ROLES[holds.certificate.role]
    return {"config_digest": secrets.pin.hex(), "holds": held, "role": role}


def of_bundle(bundle: Bundle) -> Fields:
    held: Fields = {
        "bundle": {
            "certificate": of_certificate(bundle.certificate),
            "domain": of_domain(bundle.domain),
            "signing": bundle.signing.hex(),
            "structure": bundle.structure.hex(),
        }
    }
    role = ROLES[bundle.certificate.role]
    if role != "maintainer":
        held["ids"] = {"chunker": bundle.chunker.hex(), "id": bundle.id.hex()}
    if role == "writer":
        recipients = hexes(bundle.recipients)
        held |= {"meta_scope": bundle.meta_scope.hex(), "trust": bundle.trust}
        held["recipients"] = recipients
    if role == "reader":
        held |= {"meta_root": bundle.meta_root.hex(), "seeds": hexes(bundle.seeds)}
    return held


def of_commit(commit: Commit | Fence | Repack, key: str, summary: Fields) -> Fields:
    match commit:
        case Fence():
            return "fence"
        case Repack(certificate, signature):
            said = {"certificate": of_certificate(certificate), "signature": signature.hex()}
            return {"key": key, "repack": said}
    roots = [
        {"kind": ROOT_KINDS[root.kind], "node": root.node.hex(), "source": root.source.hex()}
        for root in commit.roots
    ]
    return {
        "certificate": of_certificate(commit.certificate),
        "class": commit.class_.hex(),
        "complete": commit.complete,
        "head": commit.head.hex(),
        "held": commit.held,
        "key": key,
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


ACTIONS = {1: "condemn", 3: "observe", 4: "forget", 5: "recall", 7: "lift", 10: "damaged"}


def of_log_entry(entry: log.Entry, key: str) -> Fields:
    action: Fields
    if entry.hold is not None:
        action = {"hold": of_hold(entry.hold)}
    elif entry.kind == 8:
        action = {"verify": [{"digest": d.hex(), "pack": p.hex()} for p, d in entry.verified]}
    elif entry.kind == 9:
        action = {"revoke": {"key": entry.ids[0].hex(), "serial": entry.serial}}
    elif entry.kind == 2:
        action = {"sweep": {"condemned": entry.condemned, "packs": hexes(entry.ids)}}
    elif entry.kind == 11:
        action = {"renew": {"epoch": entry.serial}}
    else:
        action = {ACTIONS[entry.kind]: hexes(entry.ids)}
    return {
        "action": action,
        "certificate": of_certificate(entry.certificate),
        "key": key,
        "previous": entry.previous.hex(),
        "signature": entry.signature.hex(),
        "time": entry.time,
    }


def of_hold(hold: Hold) -> Fields:
    scope: Fields = SCOPES[hold.scope]
    if hold.scope:
        scope = {scope: hold.of.hex()}
    return {"id": hold.id.hex(), "note": hold.note, "scope": scope}


def of_checks(found: Checks, key: str) -> Fields:
    return {
        "certificate": of_certificate(found.certificate),
        "hashed": [of_range(one) for one in found.hashed],
        "key": key,
        "opened": [of_range(one) for one in found.opened],
        "signature": found.signature.hex(),
        "time": found.time,
    }


def of_range(found: Range) -> Fields:
    return {"first": found.first, "last": found.last, "since": found.since, "upto": found.upto}


def of_checkpoint(found: Checkpoint, key: str) -> Fields:
    return {
        "certificate": of_certificate(found.certificate),
        "entry": found.entry.hex(),
        "epoch": found.epoch,
        "index": hexes(found.index),
        "key": key,
        "name": found.name.hex(),
        "signature": found.signature.hex(),
        "state": hexes(found.state),
        "time": found.time,
    }


def of_fact(session: bytes, fact: Fact) -> Fields:
    observed = None
    if fact.observed is not None:
        observed = dict(zip(("not_before", "not_after"), fact.observed, strict=True))
    return {
        "forgotten": fact.forgotten,
        "gone": fact.gone,
        "lifted": fact.lifted,
        "observed": observed,
        "session": session.hex(),
    }


def of_state(state: State) -> Fields:
    rows = [
        {
            "class": row.class_.hex(),
            "complete": row.complete,
            "digest": row.digest.hex(),
            "held": row.held,
            "key": row.key_id.hex(),
            "sequence": row.sequence,
            "serial": row.serial,
            "session": session.hex(),
            "source": row.source.hex(),
            "time": row.time,
        }
        for session, row in state.rows.items()
    ]
    remembered = [
        {"commits": [[sequence, hash_.hex()] for sequence, hash_ in commits], "key": key.hex()}
        for key, commits in state.remembered.items()
    ]
    return {
        "damaged": hexes(state.damaged),
        "facts": [of_fact(session, fact) for session, fact in state.facts.items()],
        "holds": [of_hold(hold) for hold in state.holds],
        "last_observed": None if state.last_observed == NEVER else state.last_observed,
        "pending": state.pending,
        "remembered": remembered,
        "revoked": [[key.hex(), serial] for key, serial in state.revoked.items()],
        "rows": rows,
        "swept": hexes(state.swept),
    }


def of_pack(pack: Pack) -> Fields:
    return {
        "hash": pack.hash.hex(),
        "id": pack.id.hex(),
        "kind": PACK_KINDS[pack.kind],
        "len": pack.length,
        "origin": pack.origin.hex(),
        "records": [
            {"id": of_record_id(r.kind, r.id), "len": r.length, "offset": r.offset}
            for r in pack.records
        ],
        "sessions": hexes(pack.sessions),
        "verified": pack.verified,
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
    return {
        "chunk": extent.chunk.hex(),
        "chunk_len": extent.chunk_length,
        "len": extent.length,
        "offset": extent.offset,
    }


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
