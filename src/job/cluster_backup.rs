//! Backing up a cluster: discover → hold the namespaces → session → manifests → volumes through movers →
//! one commit → give the namespaces back.
//!
//! Pods with hooks are frozen for as long as their volumes are read. Whatever happens between, they are
//! thawed, and no mover and no lease stays behind.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::archive::backup::{Moving, Outcome, Setting};
use crate::archive::chunk::Chunker;
use crate::archive::documents;
use crate::cluster::Cluster;
use crate::cluster::access;
use crate::cluster::discover::{Discovered, Selection, discover};
use crate::cluster::hook::{self, Hooks};
use crate::cluster::manifest::Manifest;
use crate::cluster::volume::{self, Claim, Way};
use crate::format::commit::{Root, RootKind};
use crate::format::id::SourceId;
use crate::format::summary::{self, Counts, Missing, Source, Summary};
use crate::job::backup::{OldTree, anew_if_fenced, finish, is_cut_short};
use crate::job::group::groups;
use crate::job::hold::{Holds, Movers};
use crate::job::live::{Read, Reading, TRIES};
use crate::job::volume::unless_cancelled;
use crate::job::{Error, Result};
use crate::progress::Progress;
use crate::repo::{
    Begun, Index, LANES, Lane, Repository, Snapshot, Snapshots, Stats, ToCommit, Writer, WriterSettings,
    begin, commit_again,
};

/// What to back up, and how.
pub struct Request {
    pub selection: Selection,
    pub tags: Vec<String>,
    /// Whether the pods' hooks are run.
    pub hooks: bool,
    pub movers: Movers,
    /// The kist that runs, for the summary.
    pub kist: String,
}

/// What a backup of a cluster did.
pub struct Done {
    pub snapshot: Snapshot,
    pub summary: Summary,
    /// What was removed that dead runs had left behind.
    pub swept: Vec<String>,
    /// The snapshots before it, and itself.
    pub known: Snapshots,
}

/// The source of a whole snapshot.
pub fn source(cluster: &str, selection: &Selection) -> Source {
    let object = match &selection.namespaces {
        None => "all".to_owned(),
        Some(names) => {
            format!("namespaces/{}", names.iter().map(String::as_str).collect::<Vec<_>>().join(","))
        }
    };
    Source::Cluster { cluster: cluster.to_owned(), object }
}

/// Backs up a cluster into one snapshot. After an interrupt nothing is committed; what was uploaded counts
/// for the next run.
pub async fn cluster(
    repo: &Repository,
    cluster: &Cluster,
    request: Request,
    progress: Arc<dyn Progress>,
) -> Result<Done> {
    repo.keys.check_adds()?;
    let mut swept = Vec::new();
    let once = async || once(repo, cluster, &request, &mut swept, progress.clone()).await;
    let (snapshot, summary, known) = anew_if_fenced(once).await?;
    Ok(Done { snapshot, summary, swept, known })
}

async fn once(
    repo: &Repository,
    cluster: &Cluster,
    request: &Request,
    swept: &mut Vec<String>,
    progress: Arc<dyn Progress>,
) -> Result<(Snapshot, Summary, Snapshots)> {
    let stop = progress.clone();
    let found = unless_cancelled(stop.as_ref(), discover(cluster, &request.selection)).await?;
    let claims = volume::claims(&found.manifests);
    let hooks = if request.hooks { hook::hooks(&found.manifests) } else { Hooks::default() };
    let read = claims.iter().filter(|claim| matches!(claim.way(), Way::Live { .. }));
    let namespaces: BTreeSet<String> = read
        .map(|claim| claim.namespace.clone())
        .chain(hooks.pods.iter().map(|pod| pod.namespace.clone()))
        .collect();
    let taking = Holds::take(cluster, &repo.world, namespaces, access::for_backup, stop.as_ref());
    let (holds, said) = taking.await?;
    swept.extend(said);
    let run = Run { repo, cluster, request, found: &found, claims: &claims, hooks: &hooks, holds: &holds };
    let done = run.carry_out(progress).await;
    holds.release().await;
    done
}

struct Run<'a> {
    repo: &'a Repository,
    cluster: &'a Cluster,
    request: &'a Request,
    found: &'a Discovered,
    claims: &'a [Claim],
    hooks: &'a Hooks,
    holds: &'a Holds,
}

impl Run<'_> {
    async fn carry_out(&self, progress: Arc<dyn Progress>) -> Result<(Snapshot, Summary, Snapshots)> {
        let (repo, source) = (self.repo, source(&self.cluster.uid, &self.request.selection));
        let source_id = repo.keys.ids()?.source_id(&source);
        let groups = groups(self.claims, &self.hooks.pods);
        let (claims, most) = (self.claims.len(), (LANES - 1) / TRIES);
        if claims > most {
            let (found, most) = (claims as u64, most as u64);
            return Err(crate::repo::Error::TooLarge { what: "the number of claims", found, most }.into());
        }
        let stop = progress.as_ref();
        // The order is law (spec chapter 8): session, log, commits, index.
        let begun = unless_cancelled(stop, begin(repo, (1 + TRIES * claims) as u32)).await?;
        let (mut before, index) = unless_cancelled(stop, begun.load_before(repo)).await?;
        let Begun { session, mut lanes, view, .. } = begun;
        let index = Arc::new(index);
        // Held to the end, as the movers' are: so the session is seen to be at work while they are waited for.
        let own = lanes.remove(0);
        let parent = before.parent_of(repo, source_id);
        let parent = parent.and_then(|parent| OldTree::of(repo, parent, source_id));
        let (saved, stats) =
            self.save_manifests(own.clone(), index, (source_id, parent), progress.clone()).await?;
        let time = repo.world.now();
        let reading = Reading {
            repo,
            cluster: self.cluster,
            claims: self.claims,
            hooks: &self.hooks.pods,
            holds: self.holds,
            movers: &self.request.movers,
            lanes: &lanes,
            before: &before,
            progress: progress.clone(),
        };
        let mut read = reading.all(&groups).await?;
        if progress.is_cancelled() {
            return Err(Error::Interrupted);
        }
        let mut roots = vec![Root { kind: RootKind::Manifests, source: source_id, node: saved.root }];
        roots.extend(read.roots.iter().map(|(source, node)| Root {
            kind: RootKind::Volume,
            source: *source,
            node: *node,
        }));
        let parent = before.parent_of(repo, source_id).map(Snapshot::name);
        read.sparse.push((source_id, saved.sparse));
        read.missing.extend(saved.missing);
        read.more_missing += saved.more_missing;
        let summary = self.summarize(source, parent, &stats, read);
        let complete = summary.missing.is_empty() && summary.more_missing == 0;
        let to_commit = ToCommit {
            view,
            time,
            source: source_id,
            complete,
            class: Vec::new(),
            held: false,
            roots,
            summary: summary.clone(),
        };
        let snapshot = commit_again(repo, session, &before, to_commit).await?;
        before.all.push(snapshot.clone());
        Ok((snapshot, summary, before))
    }

    async fn save_manifests(
        &self,
        lane: Lane,
        index: Arc<Index>,
        (source, parent): (SourceId, Option<OldTree>),
        progress: Arc<dyn Progress>,
    ) -> Result<(Outcome, Stats)> {
        let documents = to_documents(&self.found.manifests);
        let parent = parent.map(|old| old.parent(self.repo, &index));
        let stop = progress.clone();
        let writer =
            Writer::new(self.repo, index, lane, WriterSettings::limited(self.repo.store.upload_limit()));
        let (ids, meta) = (self.repo.keys.ids()?.clone(), self.repo.keys.own_meta_key(source)?);
        let work = move || {
            let chunker = Chunker::new(&writer.repo().config.chunker, &ids);
            let setting = Setting {
                writer: &writer,
                ids: &ids,
                chunker: &chunker,
                meta: &meta,
                moving: Moving::LeaveOut,
                progress: progress.as_ref(),
            };
            let saved = documents::save(documents, parent, setting);
            (writer, saved)
        };
        let (writer, saved) =
            tokio::task::spawn_blocking(work).await.expect("saving manifests does not panic");
        if is_cut_short(&saved, stop.as_ref()) {
            return Err(Error::Interrupted);
        }
        let saved = saved?;
        let (stats, _) = finish(writer, stop.as_ref()).await?;
        Ok((saved, stats))
    }

    fn summarize(&self, source: Source, parent: Option<String>, stats: &Stats, read: Read) -> Summary {
        let found = self.found;
        let problem = |problem: &crate::cluster::discover::Problem| Missing {
            what: problem.what.clone(),
            why: problem.why.clone(),
        };
        let mut missing: Vec<Missing> = found.problems.iter().map(problem).collect();
        missing
            .extend(self.hooks.problems.iter().map(|why| Missing { what: "hooks".into(), why: why.clone() }));
        for claim in self.claims {
            if let Way::No { why } = claim.way() {
                missing.push(Missing { what: format!("volume {}/{}", claim.namespace, claim.name), why });
            }
        }
        missing.extend(read.missing);
        let mut counts = Counts {
            new_bytes: stats.new_bytes,
            stored_bytes: stats.uploaded.pack_bytes,
            ..Default::default()
        };
        for volume in &read.volumes {
            let more = &volume.counts;
            counts.entries += more.entries;
            counts.files += more.files;
            counts.bytes += more.bytes;
            counts.read_bytes += more.read_bytes;
            counts.new_bytes += more.new_bytes;
            counts.stored_bytes += more.stored_bytes;
        }
        let namespaces = self.request.selection.namespaces.iter().flatten().cloned().collect();
        Summary {
            version: 0,
            kist: self.request.kist.clone(),
            source,
            tags: self.request.tags.clone(),
            parent,
            counts,
            missing,
            more_missing: read.more_missing,
            sparse: Summary::sparse(read.sparse),
            copied_from: None,
            cluster: Some(summary::Cluster {
                version: self.cluster.version.clone(),
                namespaces,
                manifests: found.manifests.len() as u64,
                excluded: found.excluded,
                volumes: read.volumes,
                hooks: read.hooks,
                remarks: volume::remarks(&found.manifests),
            }),
        }
    }
}

/// Manifests as documents, in tree order.
fn to_documents(manifests: &[Manifest]) -> Vec<(crate::format::entry::TreePath, Vec<u8>)> {
    let document = |manifest: &Manifest| {
        let body = serde_json::to_vec(&manifest.body).expect("a JSON value is plain data");
        Some((manifest.key.to_path()?, body))
    };
    let mut documents: Vec<_> = manifests.iter().filter_map(document).collect();
    documents.sort_by(|a, b| a.0.cmp(&b.0));
    documents.dedup_by(|a, b| a.0 == b.0);
    documents
}
