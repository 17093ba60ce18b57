//! What whoever holds the store sees: nothing that was planted anywhere, neither in a byte nor in a name.

use std::fs;
use std::path::Path;

use kist::archive::backup::{Moving, Setting};
use kist::archive::chunk::Chunker;
use kist::archive::documents;
use kist::format::commit::{Root, RootKind};
use kist::format::entry::TreePath;
use kist::format::id::hex;
use kist::format::keys::{KeyFile, Role};
use kist::format::log::Scope;
use kist::format::summary::{Cluster, Counts, Source, Summary, Verdict, Volume};
use kist::progress::Silent;
use kist::repo::{
    self, Index, Limits, NewKey, PruneSettings, Repository, Snapshots, ToCommit, Unlock, Writer,
    WriterSettings,
};
use kist::store::{Store, StoreSettings, StoreUrl};

use crate::scene::{Scene, backup, check, init, noise, now};

/// What is planted in contents, names, attributes, and around them.
const SECRETS: [&str; 19] = [
    "planted-in-a-small-file",
    "planted-in-a-large-file",
    "planted-file-name",
    "planted-folder-name",
    "planted-link-target",
    "planted-attribute",
    "planted-passphrase",
    "planted-writer-name",
    "planted-owner-name",
    "planted-reader-name",
    "planted-maintainer-name",
    "planted-hold-note",
    "planted-domain-name",
    "planted-namespace",
    "planted-manifest-name",
    "planted-manifest-body",
    "planted-claim-name",
    "planted-tag",
    crate::scene::HOST,
];

fn plant(source: &Path) {
    let folder = source.join("planted-folder-name");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("planted-file-name"), "planted-in-a-small-file".repeat(20)).unwrap();
    let mut large = crate::scene::noise(200_000, 5);
    large[100_000..100_023].copy_from_slice(b"planted-in-a-large-file");
    fs::write(source.join("large"), large).unwrap();
    std::os::unix::fs::symlink("planted-link-target", folder.join("link")).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::lsetxattr(&folder, "trusted.planted", b"planted-attribute", flags).unwrap();
}

fn summary(source: Source) -> Summary {
    let volume = Volume {
        namespace: "planted-namespace".into(),
        name: "planted-claim-name".into(),
        uid: "uid".into(),
        way: "live".into(),
        transport: "direct".into(),
        why: String::new(),
        verdict: Verdict::Quiet,
        changed: None,
        rung: String::new(),
        node: None,
        counts: Counts::default(),
    };
    let cluster = Cluster {
        version: String::new(),
        namespaces: vec!["planted-namespace".into()],
        manifests: 1,
        excluded: 0,
        volumes: vec![volume],
        hooks: vec![],
        remarks: vec![],
    };
    Summary {
        copied_from: None,
        version: 0,
        kist: "test".into(),
        source,
        tags: vec!["planted-tag".into()],
        parent: None,
        counts: Counts::default(),
        missing: vec![],
        more_missing: 0,
        sparse: Default::default(),
        cluster: Some(cluster),
    }
}

/// A snapshot as a cluster's backup makes it: manifests, and a summary that names volumes.
async fn cluster_snapshot(repo: &Repository) {
    let repo::Begun { session, mut lanes, view, .. } = repo::begin(repo, 1).await.unwrap();
    let before = Snapshots::load(repo).await.unwrap();
    let index = std::sync::Arc::new(Index::load_to_add(repo, session).await.unwrap());
    let source = Source::Cluster { cluster: "uid".into(), object: "namespaces/planted-namespace".into() };
    let ids = repo.keys.ids().unwrap().clone();
    let source_id = ids.source_id(&source);
    let meta = repo.keys.own_meta_key(source_id).unwrap();
    let writer = Writer::new(repo, index, lanes.pop().unwrap(), WriterSettings::default());
    let work = move || {
        let path = b"core/v1/Secret/planted-namespace/planted-manifest-name";
        let path = TreePath::from_slashes(path).unwrap();
        let chunker = Chunker::new(&writer.repo().config.chunker, &ids);
        let setting = Setting {
            writer: &writer,
            ids: &ids,
            chunker: &chunker,
            meta: &meta,
            moving: Moving::LeaveOut,
            progress: &Silent,
        };
        let body = b"planted-manifest-body".to_vec();
        let root = documents::save(vec![(path, body)], None, setting).unwrap().root;
        (writer, root)
    };
    let (writer, node) = tokio::task::spawn_blocking(work).await.unwrap();
    writer.finish().await.unwrap();
    let summary = summary(source);
    let roots = vec![Root { kind: RootKind::Manifests, source: source_id, node }];
    let time = repo.world.now();
    let what = ToCommit {
        view,
        time,
        source: source_id,
        complete: true,
        class: b"gold".to_vec(),
        held: false,
        roots,
        summary,
    };
    repo::commit(repo, session, &before, what).await.unwrap();
}

/// What comes with the years: a hold, something forgotten and swept, packs that were rewritten, and a check by a reader.
async fn grow_old(writer: &Repository, maintainer: &Repository, reader: &Repository, source: &Path) {
    let passing = source.join("planted-file-name");
    fs::write(&passing, noise(150_000, 6)).unwrap();
    // In the packs of both some of what is kept lies.
    fs::write(source.join("more"), noise(150_000, 7)).unwrap();
    let forgotten = backup(writer, source).await.unwrap().snapshot.id;
    fs::remove_file(passing).unwrap();
    let kept = backup(writer, source).await.unwrap().snapshot.id;
    repo::observe(maintainer).await.unwrap();
    repo::hold(maintainer, Scope::Snapshot(kept), "planted-hold-note").await.unwrap();
    repo::forget(maintainer, &[forgotten]).await.unwrap();
    let limits = Limits { min_used_percent: 100, ..Limits::default() };
    let pruned = repo::prune(maintainer, PruneSettings { limits, ..now() }, &|_| {}).await.unwrap();
    assert!(pruned.plan.is_some_and(|plan| !plan.repack.is_empty()) && pruned.swept_packs > 0);
    let checked = check(reader).await;
    assert!(checked.findings.is_empty() && checked.report.verified > 0, "{checked:?}");
    for folder in ["gc/", "checkpoints/", "generations/", "checks/"] {
        assert!(!reader.store.list(folder).await.unwrap().is_empty(), "{folder}");
    }
}

/// Looks for secrets in every byte and name below a folder. Gives how many bytes there are.
fn look_for(secrets: &[Vec<u8>], place: &Path) -> usize {
    let mut looked_at = 0;
    for path in crate::compare::paths(place) {
        let name = path.as_os_str().as_encoded_bytes().to_vec();
        let full = place.join(&path);
        let bytes = if full.is_file() { fs::read(&full).unwrap() } else { Vec::new() };
        looked_at += bytes.len();
        for secret in secrets {
            let is_in = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
            let shown = String::from_utf8_lossy(secret);
            assert!(!is_in(&name) && !is_in(&bytes), "{shown:?} is in {path:?}");
        }
    }
    looked_at
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_planted_is_in_any_byte_or_name_of_the_store() {
    let scene = Scene::new().await;
    plant(&scene.source());
    let place = scene.dir.path().join("store");
    let url = StoreUrl::parse(place.to_str().unwrap()).unwrap();
    let settings = StoreSettings { create_folder: true, ..Default::default() };
    let store = Store::open(&url, &settings).unwrap();
    let passphrase = kist::crypto::secret::Passphrase::new(b"planted-passphrase".to_vec());
    let with = repo::Init { passphrase: Some(passphrase.clone()), ..init() };
    repo::init(store.clone(), &scene.world(), with).await.unwrap();
    let unlock = Unlock::Passphrase(passphrase);
    let owner = repo::open(store.clone(), &scene.world(), &unlock, None).await.unwrap();
    let mut files = Vec::new();
    for (role, name) in [
        (Role::Writer, "planted-writer-name"),
        (Role::Reader, "planted-reader-name"),
        (Role::Maintainer, "planted-maintainer-name"),
        (Role::Owner, "planted-owner-name"),
    ] {
        let new = NewKey { domain: Some("planted-domain-name".into()), ..NewKey::of(role, name) };
        files.push(repo::add_key(&owner, &new).await.unwrap());
    }
    files.push(repo::rotate_key(&owner, "planted-reader-name").await.unwrap().key);
    repo::rotate_owner(&owner).await.unwrap();
    let open = async |file: &KeyFile, domain| {
        let unlock = Unlock::KeyFile(file.clone());
        repo::open(store.clone(), &scene.world(), &unlock, domain).await.unwrap()
    };
    let (writer, of_domain) =
        (open(&files[0], None).await, open(&files[3], Some("planted-domain-name")).await);
    for opened in [&writer, &owner, &writer, &of_domain] {
        let done = backup(opened, &scene.source()).await.unwrap();
        let reads = if opened.keys.can_read_data() { opened } else { &of_domain };
        scene.restore_whole(reads, &done.snapshot.name(), "planted").await;
        cluster_snapshot(opened).await;
    }
    let (maintainer, reader) = (open(&files[2], None).await, open(&files[4], None).await);
    grow_old(&writer, &maintainer, &reader, &scene.source()).await;
    let mut secrets: Vec<Vec<u8>> = SECRETS.iter().map(|text| text.as_bytes().to_vec()).collect();
    let source = scene.source();
    secrets.extend(source.components().skip(3).map(|part| part.as_os_str().as_encoded_bytes().to_vec()));
    for file in &files {
        secrets.push(hex(file.unlock.expose()).into_bytes());
        secrets.push(file.unlock.expose().to_vec());
        secrets.extend(file.to_kit().lines().skip(4).map(|line| line.as_bytes()[3..].to_vec()));
    }
    let looked_at = look_for(&secrets, &place);
    assert!(looked_at > 600_000, "{looked_at} bytes");
}
