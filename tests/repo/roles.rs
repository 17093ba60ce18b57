//! What each role can do with its real bundle, and what it can't. A writer adds and finds what changed, but
//! reads no content, not even its own; a maintainer checks what it can't open; a reader reads and adds nothing.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use kist::format::id::RecordId;
use kist::format::keys::{KeyName, Role};
use kist::format::log::Scope;
use kist::format::pack::PackKind;
use kist::format::refs::ChunkRef;
use kist::job::find::Part;
use kist::job::{self, list};
use kist::repo::{self, Class, Error, Index, Limits, NewKey, Reader, Repository, Snapshots, Unlock};
use kist::store::Store;
use kist::store::testing::{Log, Recording};
use rustix::fs::inotify;

use crate::scene::{
    Scene, backup, change, check, check_structure, described, grow, now, record_ids, repo_error, restore_into,
};

async fn open(scene: &Scene, unlock: &Unlock) -> Repository {
    scene.open_with(unlock).await
}

pub fn is_role(error: &Error) -> bool {
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
    let again = repo::open(recorded, &scene.world(), &writer, None).await.unwrap();
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
    for id in record_ids(&opened).await {
        if let RecordId::Chunk(id) = id {
            let refused = reader.chunk(ChunkRef { id, len: 1 }).await.err().unwrap();
            assert!(is_role(&refused), "{refused}");
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried} chunks");
    let made = repo::add_key(&opened, &NewKey::of(Role::Writer, "another")).await.err().unwrap();
    assert!(is_role(&made), "{made}");
    let listed = repo::list_keys(&opened).await.err().unwrap();
    assert!(is_role(&listed), "{listed}");
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
    let report = check_structure(&opened).await;
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let stored: u64 = scene.store().list("packs").await.unwrap().iter().map(|pack| pack.size).sum();
    assert_eq!((report.report.pack_bytes, report.report.snapshots), (stored, 1));
    let read = check(&opened).await.report;
    assert_eq!((read.read_bytes, read.records, read.verified), (stored, 0, 0));
    assert!(is_role(&read.unremembered.unwrap()), "a writer says not what was read");
    // One flipped byte of another's pack, and it is found.
    let store = scene.copy();
    let index = Index::load(&owner).await.unwrap();
    let pack = index.packs().iter().find(|pack| pack.kind == PackKind::Data).unwrap().id;
    let key = kist::format::object::pack_key(pack);
    let mut bytes = store.get(&key).await.unwrap().to_vec();
    bytes[200] ^= 1;
    store.put(&key, bytes.into()).await.unwrap();
    let rotten = repo::open(store, &scene.world(), &writer, None).await.unwrap();
    let report = check(&rotten).await;
    assert!(report.findings.iter().all(|finding| finding.key() == Some(&key)), "{:?}", report.findings);
    let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind()).collect();
    assert_eq!(kinds, ["pack-hash", "record"], "the table of contents tells which record it is");
}

/// Opens with a key, and notes what is asked of the store.
async fn recorded(scene: &Scene, unlock: &Unlock) -> (Repository, Log) {
    let log = Log::default();
    let store = Store::over(Recording::over(Arc::new(scene.beneath.clone()), &log));
    (repo::open(store, &scene.world(), unlock, None).await.unwrap(), log)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maintainer_opens_no_name_and_no_byte_and_can_t_tell_what_is_there_yet_checks_the_structure() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let owner = scene.open(scene.store()).await.unwrap();
    let writer = scene.writer("shop").await;
    let snapshots = [backup(&open(&scene, &writer).await, &scene.source()).await.unwrap().snapshot, {
        backup(&owner, &scene.source()).await.unwrap().snapshot
    }];
    let unlock = scene.add(NewKey::of(Role::Maintainer, "nightly")).await;
    let (opened, log) = recorded(&scene, &unlock).await;
    let keys = &opened.keys;
    assert!(keys.can_maintain() && !keys.can_add() && !keys.can_read_data() && !keys.can_read_names());
    assert!(is_role(&keys.ids().err().unwrap()), "it makes no ids");
    let reader = Arc::new(Reader::new(&opened, Arc::new(Index::load(&opened).await.unwrap())));
    for snapshot in &snapshots {
        let name = KeyName::Meta { scope: snapshot.commit.certificate.key, source: snapshot.commit.source };
        assert!(keys.meta_key(&name).is_none() && is_role(&keys.for_mover(name).err().unwrap()));
        assert!(repo::summary(&opened, snapshot).unwrap().is_none());
        assert!(described(&opened, &snapshot.name()).await.unwrap().info.is_none());
        let refused = reader.node(snapshot.commit.roots[0].node).await.err().unwrap();
        assert!(is_role(&refused), "{refused}");
        let (_, level, refs) = reader.node_refs(snapshot.commit.roots[0].node).await.unwrap();
        assert!(level > 0 && !refs.nodes.is_empty(), "it sees what refers to what");
        let target = scene.dir.path().join("target");
        let refused = restore_into(&opened, &snapshot.name(), &scene.source(), &target).await;
        assert!(is_role(&repo_error(refused.err().unwrap())) && !target.exists());
    }
    let mut tried = 0;
    for id in record_ids(&opened).await {
        if let RecordId::Chunk(id) = id {
            assert!(is_role(&reader.chunk(ChunkRef { id, len: 1 }).await.err().unwrap()));
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried} chunks");
    let refused = repo_error(backup(&opened, &scene.source()).await.err().unwrap());
    assert!(is_role(&refused), "{refused}");
    let report = check_structure(&opened).await;
    assert!(report.findings.is_empty() && report.report.snapshots == 2, "{:?}", report.findings);
    assert_eq!(log.effects(), []);
    let read = check(&opened).await;
    assert!(read.findings.is_empty() && read.report.read_packs > 10 && read.report.records == 0, "{read:?}");
    assert!(read.report.unremembered.is_none() && log.effects().len() == 1, "it hashes, and remembers that");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_restores_everything_in_its_domain_and_adds_nothing() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let owner = scene.open(scene.store()).await.unwrap();
    let mut names = vec![backup(&owner, &scene.source()).await.unwrap().snapshot.name()];
    for writer in ["shop", "bank"] {
        let opened = open(&scene, &scene.writer(writer).await).await;
        names.push(backup(&opened, &scene.source()).await.unwrap().snapshot.name());
    }
    let unlock = scene.add(NewKey::of(Role::Reader, "drill")).await;
    let (opened, log) = recorded(&scene, &unlock).await;
    let keys = &opened.keys;
    assert!(keys.can_read_data() && keys.can_read_names() && !keys.can_add() && !keys.can_maintain());
    for name in &names {
        scene.restore_whole(&opened, name, "the reader").await;
        assert!(described(&opened, name).await.unwrap().info.is_some());
    }
    let report = check(&opened).await;
    assert!(report.findings.is_empty() && report.report.records > 100, "{:?}", report.findings);
    let refused = repo_error(backup(&opened, &scene.source()).await.err().unwrap());
    assert!(is_role(&refused), "{refused}");
    assert!(is_role(&repo::begin(&opened, 1).await.err().unwrap()));
    assert!(is_role(&repo::add_key(&opened, &NewKey::of(Role::Reader, "more")).await.err().unwrap()));
    assert!(is_role(&repo::rotate_owner(&opened).await.err().unwrap()));
    let effects: Vec<_> = log.effects().into_iter().map(|event| event.key).collect();
    assert_eq!(effects, ["checks/1", "gc/1"], "it says what it has read, and nothing else");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_writer_and_a_reader_may_not_do_changes_nothing() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let owner = scene.open(scene.store()).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(backup(&owner, &scene.source()).await.unwrap().snapshot.id);
    }
    let hold = repo::hold(&owner, Scope::Snapshot(ids[1]), "a note").await.unwrap();
    repo::forget(&owner, &ids[2..]).await.unwrap();
    for role in [Role::Writer, Role::Reader] {
        let unlock = scene.add(NewKey::of(role, &role.to_string())).await;
        let (opened, log) = recorded(&scene, &unlock).await;
        let slot = repo::list_keys(&owner).await.unwrap().slots("owner").unwrap()[0];
        let how = job::repair::Request { cut: true, ..crate::repair::all() };
        let refused: [(&str, Option<Error>); 11] = [
            ("forget", repo::forget(&opened, &ids[..1]).await.err()),
            ("recall", repo::recall(&opened, &ids[2..]).await.err()),
            ("observe", repo::observe(&opened).await.err()),
            ("hold", repo::hold(&opened, Scope::All, "mine").await.err()),
            ("lift", repo::lift(&opened, &[hold]).await.err()),
            ("prune", repo::prune(&opened, now(), &|_| {}).await.err()),
            ("prune --dry-run", repo::prune_plan(&opened, Limits::default()).await.err()),
            ("repair", crate::repair::repair_with(&opened, how).await.err().map(repo_error)),
            ("key remove", repo::remove_key(&opened, slot).await.err()),
            ("key rotate", repo::rotate_key(&opened, "owner").await.err()),
            ("key rotate --owner", repo::rotate_owner(&opened).await.err()),
        ];
        for (what, error) in refused {
            let error = error.unwrap_or_else(|| panic!("{what} by a {role}"));
            assert!(is_role(&error), "{what} by a {role}: {error}");
        }
        assert_eq!(log.effects(), [], "{role}");
    }
}

/// The store may take what somebody without the right puts there. It does not count.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_signed_by_who_may_not_add_is_no_snapshot() {
    use kist::crypto::{seal, sign};
    use kist::format::commit::summary_context;
    use kist::format::object;
    let scene = Scene::new().await;
    grow(&scene.source());
    let owner = scene.open(scene.store()).await.unwrap();
    let done = backup(&owner, &scene.source()).await.unwrap();
    for role in [Role::Maintainer, Role::Reader] {
        let Unlock::KeyFile(file) = scene.add(NewKey::of(role, &role.to_string())).await else { panic!() };
        // Its own slot, opened by hand: everything that whoever steals the bundle has.
        let slot = owner.top.get(&object::slot_key(file.slot)).await.unwrap();
        let slot = kist::format::keys::Slot::decode(&slot).unwrap();
        let secrets = slot.open(&file.unlock, file.repo, file.slot).unwrap();
        let bundle = secrets.holds.bundle().unwrap();
        assert_eq!(sign::public(&bundle.signing), bundle.certificate.signing);
        let repo::Begun { session, .. } = repo::begin(&owner, 0).await.unwrap();
        let mut commit = done.snapshot.commit.clone();
        commit.certificate = bundle.certificate.clone();
        let context = summary_context(owner.config.repo, session);
        commit.summary = seal::seal(&bundle.structure, owner.world.bytes(), &context, b"{}");
        commit.sign(&bundle.signing, owner.config.repo, session);
        let key = object::commit_key(session);
        let (repo, nonce) = (owner.config.repo, owner.world.bytes());
        let forged = object::seal_object(&bundle.structure, nonce, repo, &key, commit.encode());
        owner.store.put(&key, forged.into()).await.unwrap();
        let seen = Snapshots::load(&owner).await.unwrap();
        assert_eq!(seen.all.len(), 1, "{role}");
        assert!(crate::scene::chain(seen.problems.last().unwrap()).contains("adds no snapshot"), "{role}");
    }
}
