//! A snapshot of a cluster, made without one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use kist::archive::backup::{Moving, Outcome, Setting, backup};
use kist::archive::chunk::Chunker;
use kist::archive::documents;
use kist::archive::walk::{Options, Walk};
use kist::format::commit::{Root, RootKind};
use kist::format::entry::TreePath;
use kist::format::id::SourceId;
use kist::format::summary::{Cluster, Counts, Source, Summary, Verdict, Volume};
use kist::progress::Silent;
use kist::repo::{Index, Repository, Snapshot, Snapshots, ToCommit, Writer, WriterSettings, begin, commit};
use kist::world::Time;

const CLUSTER: &str = "uid-of-kube-system";

/// By their paths, in that order.
pub type Manifests = Vec<(TreePath, Vec<u8>)>;

pub fn whole() -> Source {
    Source::Cluster { cluster: CLUSTER.into(), object: "all".into() }
}

pub fn source_of(claim: &str) -> Source {
    Source::volume(CLUSTER, "shop", claim, &format!("uid-of-{claim}"))
}

/// What a backup of a cluster leaves behind; volumes are folders, by their claims.
pub async fn back_up(
    repo: &Repository,
    manifests: Manifests,
    volumes: &BTreeMap<&'static str, PathBuf>,
    settings: WriterSettings,
) -> Snapshot {
    let documents = manifests.len() as u64;
    let kist::repo::Begun { session, mut lanes, view, .. } = begin(repo, 1).await.unwrap();
    let before = Snapshots::load(repo).await.unwrap();
    let index = Arc::new(Index::load_to_add(repo, session).await.unwrap());
    let writer = Writer::new(repo, index, lanes.pop().unwrap(), settings);
    let volumes = volumes.clone();
    let work = move || {
        let mut trees: Vec<(RootKind, SourceId, &'static str, Outcome)> = Vec::new();
        let repo = writer.repo();
        let keys = &repo.keys;
        let ids = keys.ids().unwrap();
        let chunker = Chunker::new(&repo.config.chunker, ids);
        let saved = |source: SourceId, save: &dyn Fn(Setting<'_>) -> Outcome| {
            let (meta, moving, progress) = (keys.own_meta_key(source).unwrap(), Moving::LeaveOut, &Silent);
            save(Setting { writer: &writer, ids, chunker: &chunker, meta: &meta, moving, progress })
        };
        let whole_id = ids.source_id(&whole());
        let of_manifests =
            saved(whole_id, &|setting| documents::save(manifests.clone(), None, setting).unwrap());
        trees.push((RootKind::Manifests, whole_id, "", of_manifests));
        for (claim, folder) in &volumes {
            let source = ids.source_id(&source_of(claim));
            let link_group = |first: &TreePath| ids.link_group(first);
            let options = Options {
                exclude: &Default::default(),
                one_file_system: false,
                exclude_caches: false,
                link_group: &link_group,
                clock: &|| Time(0),
            };
            let walk = || Walk::of_folder(folder, options.clone()).unwrap();
            let tree = saved(source, &|setting| backup(walk(), None, setting).unwrap());
            trees.push((RootKind::Volume, source, claim, tree));
        }
        (writer, trees)
    };
    let (writer, trees) = tokio::task::spawn_blocking(work).await.unwrap();
    writer.finish().await.unwrap();
    let roots =
        trees.iter().map(|(kind, source, _, tree)| Root { kind: *kind, source: *source, node: tree.root });
    let of_volumes = trees.iter().filter(|(kind, ..)| *kind == RootKind::Volume);
    let volumes: Vec<Volume> = of_volumes.map(|(.., claim, tree)| volume(claim, tree.counts)).collect();
    let summary = summary(volumes, documents);
    let (roots, whole_id) = (roots.collect(), repo.keys.ids().unwrap().source_id(&whole()));
    let (time, complete, class, held) = (repo.world.now(), true, Vec::new(), false);
    let what = ToCommit { view, time, source: whole_id, complete, class, held, roots, summary };
    commit(repo, session, &before, what).await.unwrap()
}

fn summary(volumes: Vec<Volume>, manifests: u64) -> Summary {
    let mut counts = Counts::default();
    for volume in &volumes {
        counts.entries += volume.counts.entries;
        counts.files += volume.counts.files;
        counts.bytes += volume.counts.bytes;
    }
    Summary {
        version: 0,
        kist: "test".into(),
        source: whole(),
        tags: vec!["nightly".into()],
        parent: None,
        counts,
        missing: Vec::new(),
        more_missing: 0,
        sparse: Default::default(),
        cluster: Some(Cluster { volumes, manifests, ..Default::default() }),
        copied_from: None,
    }
}

fn volume(claim: &str, counts: Counts) -> Volume {
    Volume {
        namespace: "shop".into(),
        name: claim.into(),
        uid: format!("uid-of-{claim}"),
        way: "live".into(),
        transport: "direct".into(),
        why: String::new(),
        verdict: Verdict::Quiet,
        changed: None,
        rung: "root".into(),
        node: None,
        counts,
    }
}
