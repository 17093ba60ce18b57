//! Copies of snapshots of clusters: each root is found again as what it is of, by what the summary says.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kist::archive::backup::{Moving, Outcome, Setting, backup};
use kist::archive::chunk::Chunker;
use kist::archive::documents;
use kist::archive::walk::{Options, Walk};
use kist::format::commit::{Root, RootKind};
use kist::format::entry::TreePath;
use kist::format::id::{RecordId, SourceId};
use kist::format::object;
use kist::format::summary::{Cluster, Counts, Source, Summary, Verdict, Volume};
use kist::job::find::Part;
use kist::job::restore;
use kist::progress::Silent;
use kist::repo::{Index, Reader, Repository, Snapshot, Snapshots, ToCommit, Writer, begin, commit};
use kist::store::Store;
use kist::store::testing::{Log, Recording};
use kist::world::Time;

use crate::copy::{Elsewhere, copy_all, data_read};
use crate::scene::{Scene, WRITER, check, described, noise};

const CLUSTER: &str = "uid-of-kube-system";

fn whole() -> Source {
    Source::Cluster { cluster: CLUSTER.into(), object: "all".into() }
}

fn source_of(claim: &str) -> Source {
    Source::volume(CLUSTER, "shop", claim, &format!("uid-of-{claim}"))
}

fn manifests() -> Vec<(TreePath, Vec<u8>)> {
    let path =
        |number| TreePath::from_slashes(format!("core/v1/Secret/shop/s{number:03}").as_bytes()).unwrap();
    (0..50).map(|number| (path(number), noise(700, number))).collect()
}

/// What a backup of a cluster leaves behind, made without one: volumes are folders.
async fn back_up(repo: &Repository, volumes: &BTreeMap<&'static str, PathBuf>) -> Snapshot {
    let kist::repo::Begun { session, mut lanes, view, .. } = begin(repo, 1).await.unwrap();
    let before = Snapshots::load(repo).await.unwrap();
    let index = Arc::new(Index::load_to_add(repo, session).await.unwrap());
    let writer = Writer::new(repo, index, lanes.pop().unwrap(), WRITER);
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
        let of_manifests = saved(whole_id, &|setting| documents::save(manifests(), None, setting).unwrap());
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
    let mut counts = Counts::default();
    for volume in &volumes {
        counts.entries += volume.counts.entries;
        counts.files += volume.counts.files;
        counts.bytes += volume.counts.bytes;
    }
    let summary = Summary {
        version: 0,
        kist: "test".into(),
        source: whole(),
        tags: vec!["nightly".into()],
        parent: None,
        counts,
        missing: Vec::new(),
        more_missing: 0,
        sparse: Default::default(),
        cluster: Some(Cluster { volumes, manifests: 50, ..Default::default() }),
        copied_from: None,
    };
    let (roots, whole_id) = (roots.collect(), repo.keys.ids().unwrap().source_id(&whole()));
    let (time, complete, class, held) = (repo.world.now(), true, Vec::new(), false);
    let what = ToCommit { view, time, source: whole_id, complete, class, held, roots, summary };
    commit(repo, session, &before, what).await.unwrap()
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

fn volumes(scene: &Scene) -> BTreeMap<&'static str, PathBuf> {
    let mut volumes = BTreeMap::new();
    for (seed, claim) in ["data", "logs", "media"].into_iter().enumerate() {
        let folder = scene.source().join(claim);
        fs::create_dir_all(folder.join("inner")).unwrap();
        fs::write(folder.join("large"), noise(200_000, 10 + seed as u64)).unwrap();
        for number in 0..60 {
            let name = format!("inner/file {number} of {claim}");
            fs::write(folder.join(name), noise(150, 100 * (1 + seed as u64) + number)).unwrap();
        }
        volumes.insert(claim, folder);
    }
    volumes
}

async fn restores(repo: &Repository, scene: &Scene, claim: &str, folder: &Path) {
    let target = tempfile::tempdir_in(scene.dir.path()).unwrap();
    let found = described(repo, "latest").await.unwrap();
    let part = Part::Volume(format!("shop/{claim}"));
    let request = restore::Request { part, overwrite: None, delete: false, dry_run: false };
    let root = TreePath::root();
    let report =
        restore::files(repo, &found, &root, target.path(), &request, Arc::new(Silent)).await.unwrap();
    assert!(report.lost.is_empty() && report.problems.is_empty(), "{claim}: {report:?}");
    assert_eq!(crate::compare::differences(folder, target.path()), Vec::<String>::new(), "{claim}");
}

async fn restores_manifests(repo: &Repository, snapshot: &Snapshot) {
    let reader = Arc::new(Reader::new(repo, Arc::new(Index::load(repo).await.unwrap())));
    let root = snapshot.commit.roots.iter().find(|root| root.kind == RootKind::Manifests).unwrap();
    assert_eq!(root.source, snapshot.commit.source);
    assert!(documents::load(&reader, root.node).await.unwrap() == manifests());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_a_cluster_comes_over_with_all_volumes_and_the_next_costs_the_changed_one() {
    let scene = Scene::new().await;
    let volumes = volumes(&scene);
    let elsewhere = Elsewhere::new(&scene).await;
    let target = elsewhere.open(&scene).await;
    for round in 0..2 {
        back_up(&scene.open(scene.store()).await.unwrap(), &volumes).await;
        let log = Log::default();
        let store = Store::over(Recording::over(Arc::new(scene.beneath.clone()), &log));
        let source = scene.open(store).await.unwrap();
        let (_, copied) = copy_all(&source, &target).await.unwrap();
        let [copied] = copied.as_slice() else { panic!("one is copied") };
        assert!(copied.snapshot.commit.complete && copied.snapshot.commit.roots.len() == 4);
        for (claim, folder) in &volumes {
            restores(&target, &scene, claim, folder).await;
        }
        restores_manifests(&target, &copied.snapshot).await;
        let summary = &copied.summary;
        assert_eq!((summary.source.clone(), summary.tags.as_slice()), (whole(), &["nightly".into()][..]));
        assert_eq!(summary.cluster.as_ref().unwrap().volumes.len(), 3);
        let read = data_read(&source, &log).await;
        match round {
            0 => assert!(read > 600_000, "{read} bytes"),
            _ => assert!((50_000..100_000).contains(&read), "{read} bytes"),
        }
        fs::write(volumes["logs"].join("new"), noise(50_000, 7)).unwrap();
    }
    assert!(check(&target).await.findings.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_lost_is_told_and_the_others_come_over() {
    let scene = Scene::new().await;
    let volumes = volumes(&scene);
    let source = scene.open(scene.store()).await.unwrap();
    let snapshot = back_up(&source, &volumes).await;
    let index = Index::load(&source).await.unwrap();
    let logs = source.keys.ids().unwrap().source_id(&source_of("logs"));
    let root = snapshot.commit.roots.iter().find(|root| root.source == logs).unwrap();
    let place = index.places(&RecordId::Node(root.node)).next().unwrap();
    source.store.delete(&object::pack_key(place.pack)).await.unwrap();
    let elsewhere = Elsewhere::new(&scene).await;
    let target = elsewhere.open(&scene).await;
    let (_, copied) = copy_all(&source, &target).await.unwrap();
    let copied = &copied[0];
    assert!(!copied.snapshot.commit.complete);
    assert!(copied.lost.iter().any(|lost| lost.what == "volume shop/logs"), "{:?}", copied.lost);
    let left: Vec<_> = copied.summary.cluster.iter().flat_map(|cluster| &cluster.volumes).collect();
    assert_eq!(left.iter().map(|volume| volume.name.as_str()).collect::<Vec<_>>(), ["data", "media"]);
    assert_eq!(copied.snapshot.commit.roots.len(), 3);
    let of_others = copied.lost.iter().filter(|lost| lost.what.starts_with("volume shop/media")).count();
    if of_others == 0 {
        restores(&target, &scene, "media", &volumes["media"]).await;
    }
    restores_manifests(&target, &copied.snapshot).await;
    assert!(check(&target).await.findings.is_empty());
}
