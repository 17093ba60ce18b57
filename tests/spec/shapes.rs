//! Types as the JSON of vectors. Two values never have the same JSON, so equal fields are equal values.

use kist::crypto::secret::Key;
use kist::format::checkpoint::{Checkpoint, Fact, Observed, Row, State};
use kist::format::checks::{Checks, Range};
use kist::format::commit::{Commit, RootKind};
use kist::format::config::{ChunkerKind, Config};
use kist::format::entry::{Attributes, Content, Entry, Extent, FileTime, Kind};
use kist::format::id::{RecordId, SessionId, hex};
use kist::format::index::IndexPack;
use kist::format::keys::{
    Bundle, Certificate, Domain, IdKeys, KeyName, Lock, RoleSecrets, Secrets, SlotInfo,
};
use kist::format::log::{self, Action, Hold, Scope, Verified};
use kist::format::node::Node;
use kist::format::pack::{Compression, PackKind, PartHeader};
use serde_json::{Value, json};

pub fn config(config: &Config) -> Value {
    json!({
        "repository": config.repo.to_string(),
        "features": config.features,
        "chunker": match config.chunker.kind { ChunkerKind::KeyedFastCdc => "keyed-fastcdc" },
        "min_bytes": config.chunker.min_bytes,
        "avg_bytes": config.chunker.avg_bytes,
        "max_bytes": config.chunker.max_bytes,
        "bundle_below_bytes": config.chunker.bundle_below_bytes,
        "owner": hex(&config.owner),
    })
}

pub fn lock(lock: &Lock) -> Value {
    match lock {
        Lock::Passphrase { params, salt } => json!({
            "type": "passphrase",
            "memory_kib": params.memory_kib,
            "passes": params.passes,
            "lanes": params.lanes,
            "salt": hex(salt),
        }),
        Lock::KeyFile => json!({"type": "key-file"}),
    }
}

pub fn certificate(certificate: &Certificate) -> Value {
    json!({
        "role": certificate.role.to_string(),
        "key": certificate.key.to_string(),
        "domain": certificate.domain.to_string(),
        "serial": certificate.serial,
        "signing": hex(&certificate.signing),
        "name": certificate.name,
        "signature": hex(&certificate.signature),
    })
}

fn domain(domain: &Domain) -> Value {
    json!({"id": domain.id().to_string(), "name": domain.name()})
}

fn keys(keys: &[Key]) -> Value {
    keys.iter().map(|key| json!(hex(key.expose()))).collect()
}

fn ids(ids: &IdKeys) -> Value {
    json!({"id": hex(ids.id.expose()), "chunker": hex(ids.chunker.expose())})
}

fn bundle(bundle: &Bundle) -> Value {
    json!({
        "certificate": certificate(&bundle.certificate),
        "domain": domain(&bundle.domain),
        "signing": hex(bundle.signing.expose()),
        "structure": hex(bundle.structure.expose()),
    })
}

pub fn slot_info(info: &SlotInfo) -> Value {
    json!({
        "role": info.role.to_string(),
        "key": info.key.to_string(),
        "serial": info.serial,
        "domain": domain(&info.domain),
        "name": info.name,
        "created": info.created.0,
        "trust": info.trust.to_string(),
        "unlock": hex(info.unlock.expose()),
    })
}

pub fn secrets(secrets: &Secrets) -> Value {
    let holds = match &secrets.holds {
        RoleSecrets::Owner(owner) => json!({
            "root": hex(owner.root.expose()),
            "epochs": keys(&owner.epochs),
            "like": owner.like.as_ref().map(ids),
        }),
        RoleSecrets::Writer(writer) => json!({
            "bundle": bundle(&writer.bundle),
            "ids": ids(&writer.ids),
            "meta_scope": hex(writer.meta_scope.expose()),
            "trust": writer.trust.to_string(),
            "recipients": writer.recipients.iter().map(|r| hex(&r.public)).collect::<Vec<_>>(),
        }),
        RoleSecrets::Maintainer(maintainer) => json!({"bundle": bundle(maintainer)}),
        RoleSecrets::Reader(reader) => json!({
            "bundle": bundle(&reader.bundle),
            "ids": ids(&reader.ids),
            "meta_root": hex(reader.meta_root.expose()),
            "seeds": keys(&reader.seeds),
        }),
    };
    let role = secrets.holds.role().to_string();
    json!({"config_digest": hex(&secrets.config_digest), "role": role, "holds": holds})
}

pub fn record_id(id: &RecordId) -> Value {
    match id {
        RecordId::Chunk(id) => json!({"chunk": id.to_string()}),
        RecordId::Node(id) => json!({"node": id.to_string()}),
    }
}

pub fn key_name(name: &KeyName) -> Value {
    match name {
        KeyName::Data { session, lane } => json!({"data": {"session": session.to_string(), "lane": lane}}),
        KeyName::Meta { scope, source } => {
            json!({"meta": {"scope": scope.to_string(), "source": source.to_string()}})
        }
    }
}

pub fn pack_kind(kind: PackKind) -> &'static str {
    match kind {
        PackKind::Data => "data",
        PackKind::Nodes => "nodes",
    }
}

pub fn part(part: &PartHeader) -> Value {
    let compression = match part.compression {
        Compression::None => "none",
        Compression::Zstd => "zstd",
    };
    json!({"compression": compression, "stored_len": part.stored_len, "raw_len": part.raw_len})
}

pub fn index_pack(pack: &IndexPack) -> Value {
    let record = |(id, offset, len)| json!({"id": record_id(&id), "offset": offset, "len": len});
    json!({
        "id": pack.id.to_string(),
        "kind": pack_kind(pack.kind),
        "len": pack.len,
        "hash": hex(&pack.hash),
        "origin": pack.origin.to_string(),
        "verified": pack.verified,
        "sessions": texts(&pack.sessions),
        "records": pack.places().map(record).collect::<Vec<_>>(),
    })
}

pub fn commit(commit: &Commit) -> Value {
    let root = |root: &kist::format::commit::Root| {
        let kind = match root.kind {
            RootKind::Files => "files",
            RootKind::Manifests => "manifests",
            RootKind::Volume => "volume",
        };
        json!({"kind": kind, "source": root.source.to_string(), "node": root.node.to_string()})
    };
    json!({
        "view": commit.view,
        "head": hex(&commit.head),
        "time": commit.time.0,
        "source": commit.source.to_string(),
        "complete": commit.complete,
        "sequence": commit.sequence,
        "previous": hex(&commit.previous),
        "class": hex(&commit.class),
        "held": commit.held,
        "roots": commit.roots.iter().map(root).collect::<Vec<_>>(),
        "sealed_summary": hex(&commit.summary),
        "certificate": certificate(&commit.certificate),
        "signature": hex(&commit.signature),
    })
}

pub fn log_entry(entry: &log::Entry) -> Value {
    json!({
        "previous": hex(&entry.previous),
        "time": entry.time.0,
        "action": action(&entry.action),
        "certificate": certificate(&entry.certificate),
        "signature": hex(&entry.signature),
    })
}

fn action(action: &Action) -> Value {
    match action {
        Action::Condemn { packs } => json!({"condemn": texts(packs)}),
        Action::Sweep { condemned, packs } => {
            json!({"sweep": {"condemned": condemned, "packs": texts(packs)}})
        }
        Action::Observe { sessions } => json!({"observe": texts(sessions)}),
        Action::Forget { sessions } => json!({"forget": texts(sessions)}),
        Action::Recall { sessions } => json!({"recall": texts(sessions)}),
        Action::Hold(placed) => json!({"hold": hold(placed)}),
        Action::Lift { holds } => json!({"lift": holds.iter().map(|id| hex(id)).collect::<Vec<_>>()}),
        Action::Verify { packs } => {
            let read = |read: &Verified| json!({"pack": read.pack.to_string(), "digest": hex(&read.digest)});
            json!({"verify": packs.iter().map(read).collect::<Vec<_>>()})
        }
        Action::Revoke { key, serial } => json!({"revoke": {"key": key.to_string(), "serial": serial}}),
        Action::Damaged { packs } => json!({"damaged": texts(packs)}),
        Action::Renew { epoch } => json!({"renew": {"epoch": epoch}}),
    }
}

fn hold(hold: &Hold) -> Value {
    let scope = match hold.scope {
        Scope::All => json!("all"),
        Scope::Source(id) => json!({"source": hex(&id)}),
        Scope::Snapshot(id) => json!({"snapshot": id.to_string()}),
    };
    json!({"id": hex(&hold.id), "scope": scope, "note": hold.note})
}

pub fn checks(checks: &Checks) -> Value {
    let range = |range: &Range| json!({"first": range.first, "last": range.last, "since": range.since.0, "upto": range.upto.0});
    let ranges = |all: &[Range]| all.iter().map(range).collect::<Vec<_>>();
    json!({
        "time": checks.time.0,
        "hashed": ranges(&checks.hashed),
        "opened": ranges(&checks.opened),
        "certificate": certificate(&checks.certificate),
        "signature": hex(&checks.signature),
    })
}

pub fn checkpoint(checkpoint: &Checkpoint) -> Value {
    let digests = |all: &[[u8; 32]]| all.iter().map(|digest| hex(digest)).collect::<Vec<_>>();
    json!({
        "entry": hex(&checkpoint.entry),
        "time": checkpoint.time.0,
        "epoch": checkpoint.epoch,
        "name": hex(&checkpoint.name),
        "state": digests(&checkpoint.state),
        "index": digests(&checkpoint.index),
        "certificate": certificate(&checkpoint.certificate),
        "signature": hex(&checkpoint.signature),
    })
}

pub fn state(state: &State) -> Value {
    let row = |(id, row): (&SessionId, &Row)| {
        json!({
            "session": id.to_string(),
            "digest": hex(&row.digest),
            "key": row.key.to_string(),
            "serial": row.serial,
            "sequence": row.sequence,
            "time": row.time.0,
            "source": row.source.to_string(),
            "class": hex(&row.class),
            "complete": row.complete,
            "held": row.held,
        })
    };
    let fact = |(id, fact): (&SessionId, &Fact)| {
        let observed =
            |seen: Observed| json!({"not_before": seen.not_before.0, "not_after": seen.not_after.0});
        json!({
            "session": id.to_string(),
            "observed": fact.observed.map(observed),
            "forgotten": fact.forgotten,
            "gone": fact.gone,
            "lifted": fact.lifted,
        })
    };
    let remembered = state.remembered.iter().map(|(key, all)| {
        let commits = all.iter().map(|(sequence, digest)| json!([sequence, hex(digest)])).collect::<Vec<_>>();
        json!({"key": key.to_string(), "commits": commits})
    });
    let revoked = state.revoked.iter().map(|(key, serial)| json!([key.to_string(), serial]));
    json!({
        "swept": texts(&state.swept),
        "damaged": texts(&state.damaged),
        "rows": state.rows.iter().map(row).collect::<Vec<_>>(),
        "facts": state.facts.iter().map(fact).collect::<Vec<_>>(),
        "remembered": remembered.collect::<Vec<_>>(),
        "holds": state.holds.values().map(hold).collect::<Vec<_>>(),
        "revoked": revoked.collect::<Vec<_>>(),
        "last_observed": state.last_observed.map(|time| time.0),
        "pending": state.pending,
    })
}

fn texts(ids: &[impl ToString]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

pub fn node(node: &Node) -> Value {
    match node {
        Node::Leaf(entries) => json!({"leaf": entries.iter().map(entry).collect::<Vec<_>>()}),
        Node::Inner { level, children } => {
            let child = |c: &kist::format::node::Child| json!({"last": hex(c.last.sort_key()), "node": c.node.to_string()});
            json!({"level": level, "children": children.iter().map(child).collect::<Vec<_>>()})
        }
        Node::ExtentLeaf(extents) => json!({"extents": extents.iter().map(extent).collect::<Vec<_>>()}),
        Node::ExtentInner { level, children } => {
            let child =
                |c: &kist::format::node::ExtentChild| json!({"len": c.len, "node": c.node.to_string()});
            json!({"level": level, "extent_children": children.iter().map(child).collect::<Vec<_>>()})
        }
    }
}

fn entry(entry: &Entry) -> Value {
    json!({
        "path": hex(entry.path.sort_key()),
        "attributes": attributes(&entry.attributes),
        "kind": kind(&entry.kind),
    })
}

fn attributes(attributes: &Attributes) -> Value {
    let time = |time: FileTime| json!({"secs": time.secs, "nanos": time.nanos});
    let xattr = |(name, value): &(Vec<u8>, Vec<u8>)| json!([hex(name), hex(value)]);
    json!({
        "mode": attributes.mode,
        "uid": attributes.uid,
        "gid": attributes.gid,
        "mtime": time(attributes.mtime),
        "ctime": time(attributes.ctime),
        "xattrs": attributes.xattrs.iter().map(xattr).collect::<Vec<_>>(),
        "link": attributes.link.map(|link| link.to_string()),
    })
}

fn kind(kind: &Kind) -> Value {
    match kind {
        Kind::Folder => json!("folder"),
        Kind::File { size, content, hash } => {
            let content = match content {
                Content::Extents(all) => json!({"extents": all.iter().map(extent).collect::<Vec<_>>()}),
                Content::Tree(root) => json!({"tree": root.to_string()}),
            };
            json!({"file": {"size": size, "content": content, "hash": hash.map(|h| hex(&h))}})
        }
        Kind::Symlink { target } => json!({"symlink": hex(target)}),
        Kind::Fifo => json!("fifo"),
        Kind::Socket => json!("socket"),
        Kind::CharDevice { major, minor } => json!({"char-device": [major, minor]}),
        Kind::BlockDevice { major, minor } => json!({"block-device": [major, minor]}),
    }
}

fn extent(extent: &Extent) -> Value {
    match extent {
        Extent::Data { chunk, offset, len } => {
            json!({"chunk": chunk.id.to_string(), "chunk_len": chunk.len, "offset": offset, "len": len})
        }
        Extent::Hole { len } => json!({"hole": len}),
    }
}
