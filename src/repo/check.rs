//! Checking a repository: all bytes of every pack against the index, the structure of every
//! snapshot, and, for who can read, every record.
//!
//! Findings are collected, never the end of the run; each names the object and what is wrong with it.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;

use crate::crypto::hash;
use crate::format::id::{KeyId, NodeId, RecordId};
use crate::format::object;
use crate::format::pack::Toc;
use crate::repo::index::PackInfo;
use crate::repo::pack_builder::{open_record, record_key_name};
use crate::repo::{Error, Index, Reader, Repository, Result, Snapshot, Snapshots};
use crate::store::Class as StoreClass;

/// Packs that are read at the same time; of 16 MiB each by default.
const PARALLEL_PACKS: usize = 3;
/// Inner nodes that are walked at the same time.
const PARALLEL_NODES: usize = 8;

/// Something that is not as it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Finding {
    #[error("{key}: can't be used")]
    Object {
        key: String,
        #[source]
        source: Error,
    },
    #[error("{key}: the pack is missing")]
    PackMissing { key: String },
    #[error("{key}: has {found} bytes, the index says {expected}")]
    PackLength { key: String, expected: u64, found: u64 },
    #[error("{key}: its bytes are not those that were written")]
    PackHash { key: String },
    #[error("{key}: its table of contents does not fit the index")]
    PackTable { key: String },
    #[error("{key}: {id} can't be opened")]
    Record { key: String, id: RecordId },
    /// Something of the gc log was held back, changed or put back.
    #[error("{what}")]
    Log { what: String },
    #[error("snapshot {snapshot}: the commit that its writer made before it is missing or changed")]
    Gap { snapshot: String },
    #[error("snapshot {snapshot}: needs {id}, which is in no pack")]
    Unreachable { snapshot: String, id: RecordId },
    #[error("snapshot {snapshot}: {id} can't be read")]
    Node {
        snapshot: String,
        id: RecordId,
        #[source]
        source: Error,
    },
}

/// What was looked at and what was found.
#[derive(Default)]
pub struct Report {
    pub packs: u64,
    pub pack_bytes: u64,
    pub snapshots: u64,
    pub nodes: u64,
    /// Records opened; only with all data read.
    pub records: u64,
    pub findings: Vec<Finding>,
}

/// Checks everything. `read_data` opens every record, which takes the owner's or a reader's key.
/// `progress` is told of each pack's bytes.
pub async fn check(repo: &Repository, read_data: bool, progress: &(dyn Fn(u64) + Sync)) -> Result<Report> {
    if read_data {
        repo.keys.check_reads_data()?;
    }
    // Commits first, then the index: what a commit needs was indexed before it.
    let mut snapshots = Snapshots::load(repo).await?;
    if !gaps(&snapshots).is_empty() {
        // Two commits may come while a listing runs, and the listing show the second only.
        snapshots = Snapshots::load(repo).await?;
    }
    let mut index = Index::load(repo).await?;
    let mut report = Report { findings: gaps(&snapshots), ..Default::default() };
    report.findings.extend(crate::repo::log::verify(repo).await?.map(|what| Finding::Log { what }));
    let problems = std::mem::take(&mut index.problems);
    for source in problems.into_iter().chain(snapshots.problems) {
        let key = match &source {
            Error::Object { key, .. } => key.clone(),
            _ => "an object".to_owned(),
        };
        report.findings.push(Finding::Object { key, source });
    }
    let reader = Arc::new(Reader::new(repo, Arc::new(index)));
    check_packs(&reader, read_data, &mut report, progress).await?;
    let mut seen = HashSet::new();
    for snapshot in &snapshots.all {
        report.snapshots += 1;
        let roots = snapshot.commit.roots.iter().map(|root| root.node).collect();
        check_tree(&reader, &snapshot.name(), roots, &mut seen, &mut report).await?;
    }
    Ok(report)
}

/// Where a writer's chain of commits is broken (spec chapter 7): the only trace of a commit that is gone. A
/// fork is no damage, and of the newest commit there is no trace.
fn gaps(snapshots: &Snapshots) -> Vec<Finding> {
    let there = snapshots.every().map(|snapshot| (snapshot.commit.certificate.key, snapshot.digest));
    let remembered = |(key, all): (&KeyId, &Vec<(u64, [u8; 32])>)| {
        let key = *key;
        all.iter().map(move |(_, digest)| (key, *digest)).collect::<Vec<_>>()
    };
    let digests: HashSet<_> = there.chain(snapshots.remembered.iter().flat_map(remembered)).collect();
    let oldest = |key: &KeyId| snapshots.remembered.get(key).and_then(|all| Some(all.first()?.0));
    let is_gap = |snapshot: &&Snapshot| {
        let commit = &snapshot.commit;
        let key = commit.certificate.key;
        // What is older than all that is remembered of its writer was judged when its epoch ended.
        let is_judged = oldest(&key).is_some_and(|oldest| commit.sequence <= oldest);
        commit.previous != [0; 32] && !is_judged && !digests.contains(&(key, commit.previous))
    };
    let gaps = snapshots.all.iter().filter(is_gap);
    gaps.map(|snapshot| Finding::Gap { snapshot: snapshot.name() }).collect()
}

async fn check_packs(
    reader: &Arc<Reader>,
    read_data: bool,
    report: &mut Report,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<()> {
    let packs: Vec<PackInfo> = reader.index().packs().to_vec();
    let mut checking = futures::stream::iter(packs)
        .map(|pack| check_pack(reader.clone(), pack, read_data))
        .buffer_unordered(PARALLEL_PACKS);
    while let Some(checked) = checking.next().await {
        let checked = checked?;
        report.packs += 1;
        report.pack_bytes += checked.bytes;
        report.records += checked.records;
        report.findings.extend(checked.findings);
        progress(checked.bytes);
    }
    Ok(())
}

#[derive(Default)]
struct CheckedPack {
    bytes: u64,
    records: u64,
    findings: Vec<Finding>,
}

async fn check_pack(reader: Arc<Reader>, pack: PackInfo, read_data: bool) -> Result<CheckedPack> {
    let key = object::pack_key(pack.id);
    let bytes = match reader.repo().store.get(&key).await {
        Ok(bytes) => bytes,
        Err(error) if error.class() == StoreClass::Missing => {
            let findings = vec![Finding::PackMissing { key }];
            return Ok(CheckedPack { findings, ..Default::default() });
        }
        // A disk that can't read one file (Other) has others.
        Err(error) if matches!(error.class(), StoreClass::Corrupt | StoreClass::Other) => {
            let findings = vec![Finding::Object { key, source: error.into() }];
            return Ok(CheckedPack { findings, ..Default::default() });
        }
        Err(error) => return Err(error.into()),
    };
    let work = move || check_bytes(&reader, &pack, &key, &bytes, read_data);
    Ok(tokio::task::spawn_blocking(work).await.expect("checking a pack does not panic"))
}

fn check_bytes(reader: &Reader, pack: &PackInfo, key: &str, bytes: &[u8], read_data: bool) -> CheckedPack {
    let key = || key.to_owned();
    let mut checked = CheckedPack { bytes: bytes.len() as u64, ..Default::default() };
    if bytes.len() as u64 != u64::from(pack.len) {
        let (expected, found) = (pack.len.into(), bytes.len() as u64);
        checked.findings.push(Finding::PackLength { key: key(), expected, found });
    } else if hash::plain(bytes) != pack.hash {
        checked.findings.push(Finding::PackHash { key: key() });
    }
    let keys = &reader.repo().keys;
    let Ok(toc) = Toc::open(&keys.structure, keys.repo, pack.id, bytes) else {
        checked.findings.push(Finding::PackTable { key: key() });
        return checked;
    };
    for record in &toc.records {
        let indexed = reader
            .index()
            .places(&record.id)
            .find(|place| (place.pack, place.offset, place.len) == (pack.id, record.offset, record.len));
        let Some(place) = indexed else {
            checked.findings.push(Finding::PackTable { key: key() });
            continue;
        };
        let bytes = &bytes[record.offset as usize..record.offset as usize + record.len as usize];
        if !read_data {
            continue;
        }
        checked.records += 1;
        let opens = match record.id {
            RecordId::Chunk(id) => reader.open_chunk(id, &place, bytes).is_ok(),
            RecordId::Node(id) => node_opens(reader, id, bytes),
        };
        if !opens {
            checked.findings.push(Finding::Record { key: key(), id: record.id });
        }
    }
    checked
}

fn node_opens(reader: &Reader, id: NodeId, bytes: &[u8]) -> bool {
    let keys = &reader.repo().keys;
    let Some(name) = record_key_name(keys, bytes) else { return false };
    let Ok(mut parts) = open_record(keys, &RecordId::Node(id), bytes, |name| keys.meta_key(name)) else {
        return false;
    };
    let (Some(entries), Some(refs)) = (parts.pop(), parts.pop()) else { return false };
    let parts = crate::format::node::NodeParts { refs, entries };
    keys.ids().is_ok_and(|ids| ids.node_id(&name, &parts) == id)
        && crate::format::node::Node::decode(&parts).is_ok()
}

/// Walks the references of a snapshot; nodes seen in an earlier one are not walked again.
async fn check_tree(
    reader: &Arc<Reader>,
    snapshot: &str,
    roots: Vec<NodeId>,
    seen: &mut HashSet<NodeId>,
    report: &mut Report,
) -> Result<()> {
    let mut next = roots;
    while !next.is_empty() {
        next.retain(|id| seen.insert(*id));
        let walking = std::mem::take(&mut next);
        let mut walked = futures::stream::iter(walking)
            .map(|id| async move { (id, reader.node_refs(id).await) })
            .buffered(PARALLEL_NODES);
        while let Some((id, refs)) = walked.next().await {
            report.nodes += 1;
            let id = RecordId::Node(id);
            match refs {
                Ok((_, _, refs)) => {
                    let missing = refs.chunks.iter().map(|chunk| RecordId::Chunk(*chunk));
                    let missing = missing.filter(|chunk| !reader.index().contains(chunk));
                    let snapshot = || snapshot.to_owned();
                    report
                        .findings
                        .extend(missing.map(|id| Finding::Unreachable { snapshot: snapshot(), id }));
                    next.extend(refs.nodes);
                }
                Err(Error::Unknown { .. }) => {
                    report.findings.push(Finding::Unreachable { snapshot: snapshot.to_owned(), id });
                }
                Err(Error::Store(error)) if error.class() == StoreClass::Transient => {
                    return Err(error.into());
                }
                Err(source) => {
                    report.findings.push(Finding::Node { snapshot: snapshot.to_owned(), id, source });
                }
            }
        }
    }
    Ok(())
}
