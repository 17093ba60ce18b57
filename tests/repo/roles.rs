//! What a writer can do, and what it can't: add and find what changed, but read no content, not even its
//! own; and what whoever holds the store sees of all this.

use std::collections::BTreeSet;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use kist::format::id::RecordId;
use kist::format::pack::PackKind;
use kist::job::find::Part;
use kist::job::{self, list};
use kist::repo::{self, Class, Error, Index, Reader, Repository, Unlock};
use kist::store::testing::{Log, Recording};
use kist::store::{Store, StoreSettings, StoreUrl};
use rustix::fs::inotify;

use crate::scene::{Scene, backup, change, described, grow, init, repo_error, restore_into};

async fn open(scene: &Scene, unlock: &Unlock) -> Repository {
    repo::open(scene.store(), &scene.world(), unlock).await.unwrap()
}

fn is_role(error: &Error) -> bool {
    matches!(error, Error::Role { .. }) && error.class() == Class::Denied
}

/// Watches the folders of a tree for files that are opened.
struct Opened(OwnedFd);

impl Opened {
    fn watch(root: &Path) -> Self {
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        for path in crate::compare::paths(root) {
            let path = root.join(path);
            if path.is_dir() {
                inotify::add_watch(&watch, &path, inotify::WatchFlags::OPEN).unwrap();
            }
        }
        Self(watch)
    }

    /// The names of the files that were opened; folders don't count.
    fn files(&self) -> BTreeSet<String> {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        let mut names = BTreeSet::new();
        while let Ok(event) = reader.next() {
            if !event.events().contains(inotify::ReadFlags::ISDIR) {
                names.extend(event.file_name().map(|name| name.to_str().unwrap().to_owned()));
            }
        }
        names
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_s_second_backup_opens_no_file_and_uploads_no_data() {
    // Where nobody changes the folders above.
    let scene = Scene::at("/srv").await;
    grow(&scene.source());
    let writer = scene.writer("shop").await;
    let first = Opened::watch(&scene.source());
    backup(&open(&scene, &writer).await, &scene.source()).await.unwrap();
    assert!(first.files().contains("a large file"));
    let log = Log::default();
    let recorded = Store::over(Recording::over(Arc::new(scene.beneath.clone()), &log));
    let again = repo::open(recorded, &scene.world(), &writer).await.unwrap();
    let second = Opened::watch(&scene.source());
    let done = backup(&again, &scene.source()).await.unwrap();
    assert_eq!(second.files(), BTreeSet::new());
    let effects: Vec<_> = log.effects().into_iter().map(|event| event.key).collect();
    let id = done.snapshot.id;
    assert_eq!(effects, [kist::format::object::session_key(id), kist::format::object::commit_key(id)]);
    assert_eq!((done.summary.counts.read_bytes, done.stats.new_bytes), (0, 0));
    let owner = scene.open(scene.store()).await.unwrap();
    scene.restore_whole(&owner, &done.snapshot.name(), "the second").await;
    // A change costs what has changed.
    change(&scene.source());
    let third = Opened::watch(&scene.source());
    let done = backup(&open(&scene, &writer).await, &scene.source()).await.unwrap();
    assert_eq!(third.files().len(), 2, "the new file and the changed one");
    scene.restore_whole(&owner, &done.snapshot.name(), "the third").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_can_t_restore_nor_open_a_chunk_that_it_has_written() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let opened = open(&scene, &scene.writer("shop").await).await;
    let done = backup(&opened, &scene.source()).await.unwrap();
    let target = scene.dir.path().join("target");
    let refused = restore_into(&opened, &done.snapshot.name(), &scene.source(), &target).await;
    let refused = repo_error(refused.err().unwrap());
    assert!(is_role(&refused), "{refused}");
    assert!(!target.exists(), "nothing is made");
    let reader = Arc::new(Reader::new(&opened, Arc::new(Index::load(&opened).await.unwrap())));
    let mut tried = 0;
    for id in reader.index().records() {
        if let RecordId::Chunk(id) = id {
            let refused = reader.chunk(*id).await.err().unwrap();
            assert!(is_role(&refused), "{refused}");
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried} chunks");
    let made = repo::add_writer(&opened, "another").await.err().unwrap();
    assert!(is_role(&made), "{made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_reads_the_names_of_its_own_and_of_nobody_else() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let (shop, bank) = (scene.writer("shop").await, scene.writer("bank").await);
    let (shop, bank) = (open(&scene, &shop).await, open(&scene, &bank).await);
    let of_shop = backup(&shop, &scene.source()).await.unwrap();
    // The same source: the other's snapshot is no parent, and its packs are not relied on.
    let of_bank = backup(&bank, &scene.source()).await.unwrap();
    assert!(of_bank.parent.is_none());
    assert_eq!(of_bank.stats.new_chunks, of_shop.stats.new_chunks);
    for (opened, own, other) in [(&shop, &of_shop, &of_bank), (&bank, &of_bank, &of_shop)] {
        let names = |snapshot: String| async move {
            let found = described(opened, &snapshot).await.unwrap();
            let root = list::tree_path("")?;
            let mut listing = list::list(opened, None, &found, &Part::Files, root, true).await?;
            let mut count = 0;
            while listing.next().await?.is_some() {
                count += 1;
            }
            Ok::<_, job::Error>((found.info.is_some(), count))
        };
        let (has_summary, count) = names(own.snapshot.name()).await.unwrap();
        assert!(has_summary && count > 600, "{count}");
        let refused = names(other.snapshot.name()).await.err().unwrap();
        assert!(matches!(refused, job::Error::Unreadable { .. }), "{refused}");
        assert!(described(opened, &other.snapshot.name()).await.unwrap().info.is_none());
        assert!(repo::summary(opened, &other.snapshot).unwrap().is_none());
        let reader = Arc::new(Reader::new(opened, Arc::new(Index::load(opened).await.unwrap())));
        let refused = reader.node(other.snapshot.commit.roots[0].node).await.err().unwrap();
        assert!(is_role(&refused), "{refused}");
    }
    let owner = scene.open(scene.store()).await.unwrap();
    for done in [&of_shop, &of_bank] {
        scene.restore_whole(&owner, &done.snapshot.name(), "the owner").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_checks_every_byte_but_no_content() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let owner = scene.open(scene.store()).await.unwrap();
    backup(&owner, &scene.source()).await.unwrap();
    let writer = scene.writer("shop").await;
    let opened = open(&scene, &writer).await;
    let report = repo::check(&opened, false, &|_| {}).await.unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let stored: u64 = scene.store().list("packs").await.unwrap().iter().map(|pack| pack.size).sum();
    assert_eq!((report.pack_bytes, report.snapshots), (stored, 1));
    let refused = repo::check(&opened, true, &|_| {}).await.err().unwrap();
    assert!(is_role(&refused), "{refused}");
    // One flipped byte of another's pack, and it is found.
    let store = scene.copy();
    let index = Index::load(&owner).await.unwrap();
    let pack = index.packs().iter().find(|pack| pack.kind == PackKind::Data).unwrap().id;
    let key = kist::format::object::pack_key(pack);
    let mut bytes = store.get(&key).await.unwrap().to_vec();
    bytes[200] ^= 1;
    store.put(&key, bytes.into()).await.unwrap();
    let rotten = repo::open(store, &scene.world(), &writer).await.unwrap();
    let report = repo::check(&rotten, false, &|_| {}).await.unwrap();
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    assert!(report.findings[0].to_string().contains(&key), "{}", report.findings[0]);
}

/// What is planted in contents, names, attributes, and around them.
const SECRETS: [&str; 9] = [
    "planted-in-a-small-file",
    "planted-in-a-large-file",
    "planted-file-name",
    "planted-folder-name",
    "planted-link-target",
    "planted-attribute",
    "planted-passphrase",
    "planted-writer-name",
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
    let owner = repo::open(store.clone(), &scene.world(), &unlock).await.unwrap();
    let bundle = repo::add_writer(&owner, "planted-writer-name").await.unwrap();
    let text = bundle.to_text("x");
    let writer = repo::open(store, &scene.world(), &Unlock::KeyFile(bundle)).await.unwrap();
    for opened in [&writer, &owner, &writer] {
        let done = backup(opened, &scene.source()).await.unwrap();
        scene.restore_whole(&owner, &done.snapshot.name(), "planted").await;
    }
    let mut secrets: Vec<Vec<u8>> = SECRETS.iter().map(|text| text.as_bytes().to_vec()).collect();
    let source = scene.source();
    secrets.extend(source.components().skip(3).map(|part| part.as_os_str().as_encoded_bytes().to_vec()));
    let hex = text.lines().find_map(|line| line.strip_prefix("kist-key-0:")).unwrap();
    // The unlock key, behind the ids of the repository and the slot.
    secrets.push(hex.as_bytes()[64..128].to_vec());
    secrets.push(kist::format::id::unhex(&hex[64..128]).unwrap());
    let mut looked_at = 0;
    for path in crate::compare::paths(&place) {
        let name = path.as_os_str().as_encoded_bytes().to_vec();
        let full = place.join(&path);
        let bytes = if full.is_file() { fs::read(&full).unwrap() } else { Vec::new() };
        looked_at += bytes.len();
        for secret in &secrets {
            let is_in = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
            let shown = String::from_utf8_lossy(secret);
            assert!(!is_in(&name) && !is_in(&bytes), "{shown:?} is in {path:?}");
        }
    }
    assert!(looked_at > 400_000, "{looked_at} bytes");
}
