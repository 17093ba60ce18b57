//! The summary of a snapshot: what people want to know about it, as JSON, sealed in the commit.
//!
//! Spec: chapter 7. Sealed with the meta key of the commit's source. Fields may be added;
//! a reader passes over those that it does not know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::format::id::{ChunkPrefix, SourceId};
use crate::format::limits;

/// What a snapshot is of. Snapshots of one source follow each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Source {
    /// Paths of a host, absolute and sorted; bytes that are not UTF-8 are escaped as `\xNN`.
    Files { host: String, paths: Vec<String> },
    /// Something of a cluster; `cluster` is the UID of its kube-system namespace, `object` says what.
    Cluster { cluster: String, object: String },
}

impl Source {
    /// One volume of a cluster. A claim that was made anew is another.
    pub fn volume(cluster: &str, namespace: &str, claim: &str, uid: &str) -> Self {
        let object = format!("volumes/{namespace}/{claim}/{uid}");
        Self::Cluster { cluster: cluster.to_owned(), object }
    }

    /// The bytes whose keyed hash is the source's id: each part with its length before it.
    pub fn canonical(&self) -> Vec<u8> {
        let (kind, parts): (u8, Vec<&str>) = match self {
            Source::Files { host, paths } => {
                (1, std::iter::once(host.as_str()).chain(paths.iter().map(String::as_str)).collect())
            }
            Source::Cluster { cluster, object } => (2, vec![cluster, object]),
        };
        let mut out = crate::format::codec::Writer::new();
        out.u8(kind);
        parts.iter().for_each(|part| out.bytes(part.as_bytes()));
        out.into_bytes()
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Files { host, paths } => write!(f, "{host}:{}", paths.join(" ")),
            Source::Cluster { cluster, object } => write!(f, "{cluster}/{object}"),
        }
    }
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Counts {
    /// Entries of the tree, of any type.
    pub entries: u64,
    pub files: u64,
    /// Sizes of all files together.
    pub bytes: u64,
    /// Bytes read from files in this run.
    pub read_bytes: u64,
    /// Plaintext of the records that were new to the repository.
    pub new_bytes: u64,
    /// Bytes of packs that were uploaded.
    pub stored_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Version of this shape.
    pub version: u32,
    /// The kist that wrote it.
    pub kist: String,
    pub source: Source,
    #[serde(default)]
    pub tags: Vec<String>,
    /// The snapshot that this one was compared with.
    #[serde(default)]
    pub parent: Option<String>,
    #[serde(default)]
    pub counts: Counts,
    /// What is missing, and why; empty if the snapshot is complete.
    #[serde(default)]
    pub missing: Vec<Missing>,
    /// How many more are missing than are listed.
    #[serde(default)]
    pub more_missing: u64,
    /// Bundle chunks of which a tree uses little, most waste first; by the source id of its root, in hex.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sparse: BTreeMap<String, Vec<ChunkPrefix>>,
    /// Only of clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// Only of copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_from: Option<CopiedFrom>,
}

impl Summary {
    /// The source of one of its volumes; none of a snapshot of files.
    pub fn source_of(&self, volume: &Volume) -> Option<Source> {
        match &self.source {
            Source::Cluster { cluster, .. } => {
                Some(Source::volume(cluster, &volume.namespace, &volume.name, &volume.uid))
            }
            Source::Files { .. } => None,
        }
    }

    /// What the roots of some sources make little use of, as a summary lists it: of each no more than there is
    /// room for.
    pub fn sparse(roots: Vec<(SourceId, Vec<ChunkPrefix>)>) -> BTreeMap<String, Vec<ChunkPrefix>> {
        let roots: Vec<_> = roots.into_iter().filter(|(_, chunks)| !chunks.is_empty()).collect();
        let most = limits::SPARSE_CHUNKS.min(limits::ALL_SPARSE_CHUNKS / roots.len().max(1));
        let listed = |(source, mut chunks): (SourceId, Vec<_>)| {
            chunks.truncate(most);
            (source.to_string(), chunks)
        };
        roots.into_iter().map(listed).collect()
    }

    /// Those of the root of a source.
    pub fn sparse_of(&self, source: SourceId) -> &[ChunkPrefix] {
        self.sparse.get(&source.to_string()).map_or(&[], Vec::as_slice)
    }
}

/// Which snapshot this one was copied from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopiedFrom {
    /// The other repository's id.
    pub repository: String,
    /// The snapshot's name there.
    pub snapshot: String,
    /// What that one has and this one lacks: files, or parts of a tree, that could not be read.
    #[serde(default)]
    pub lost: u64,
}

/// What a snapshot of a cluster says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Cluster {
    /// The API server's version.
    pub version: String,
    /// Those that were selected; empty: all.
    pub namespaces: Vec<String>,
    pub manifests: u64,
    /// Objects that a label leaves out.
    pub excluded: u64,
    pub volumes: Vec<Volume>,
    pub hooks: Vec<Hook>,
    /// What one should know and what makes nothing incomplete.
    pub remarks: Vec<String>,
}

/// How the content of a volume came into the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    pub namespace: String,
    /// Of the claim.
    pub name: String,
    pub uid: String,
    /// How it was read: `live`.
    pub way: String,
    /// How its bytes went to the store: `direct` or `relay`, and why so.
    pub transport: String,
    pub why: String,
    pub verdict: Verdict,
    /// What changed meanwhile, if something did.
    #[serde(default)]
    pub changed: Option<String>,
    /// As whom the mover ran: `root` or `consumer`.
    pub rung: String,
    #[serde(default)]
    pub node: Option<String>,
    #[serde(default)]
    pub counts: Counts,
}

/// Whether a volume is as it was at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Hooks froze every pod that uses it, and nothing changed: crash-consistent.
    Frozen,
    /// Nothing changed while it was read.
    Quiet,
    /// It changed while it was read: files may be of different times.
    Torn,
}

/// What a hook did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// `namespace/name`.
    pub pod: String,
    /// `pre` or `post`.
    pub phase: String,
    pub ok: bool,
    #[serde(default)]
    pub message: String,
}

/// Something selected that is not in the snapshot, or not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    pub what: String,
    pub why: String,
}
