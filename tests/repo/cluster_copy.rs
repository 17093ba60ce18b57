//! Copies of snapshots of clusters: each root is found again as what it is of, by what the summary says.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kist::archive::documents;
use kist::format::commit::RootKind;
use kist::format::entry::TreePath;
use kist::format::id::RecordId;
use kist::format::object;
use kist::job::find::Part;
use kist::job::restore;
use kist::progress::Silent;
use kist::repo::{Index, Reader, Repository, Snapshot, TreeReader};
use kist::store::Store;
use kist::store::testing::{Log, Recording};

use crate::cluster::{self, Manifests, source_of, whole};
use crate::copy::{Elsewhere, copy_all, data_read};
use crate::scene::{Scene, WRITER, check, described, noise};

fn manifests() -> Manifests {
    let path =
        |number| TreePath::from_slashes(format!("core/v1/Secret/shop/s{number:03}").as_bytes()).unwrap();
    (0..50).map(|number| (path(number), noise(700, number))).collect()
}

async fn back_up(repo: &Repository, volumes: &BTreeMap<&'static str, PathBuf>) -> Snapshot {
    cluster::back_up(repo, manifests(), volumes, WRITER).await
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
    assert!(documents::load(&TreeReader::new(reader, snapshot, root)).await.unwrap() == manifests());
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
