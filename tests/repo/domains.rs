//! Domains: nothing crosses from one to another, whoever asks.

use std::collections::BTreeSet;

use kist::format::id::RecordId;
use kist::format::keys::{Role, Slot, Trust};
use kist::format::{object, session};
use kist::repo::{self, Class, Error, Index, NewKey, Repository, Snapshots, Unlock};

use crate::roles::is_role;
use crate::scene::{Scene, backup, check, grow, names, record_ids, repo_error};

async fn key(scene: &Scene, role: Role, domain: &str) -> Unlock {
    let name = format!("{role}-of-{domain}");
    scene.add(NewKey { domain: Some(domain.into()), ..NewKey::of(role, &name) }).await
}

async fn records(repo: &Repository) -> BTreeSet<RecordId> {
    record_ids(repo).await.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn domains_share_no_object_and_no_id_and_each_reader_reads_its_own() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let mut done = Vec::new();
    for domain in ["default", "shop", "bank"] {
        let writer = scene.open_with(&key(&scene, Role::Writer, domain).await).await;
        assert_eq!(writer.keys.domain_name(), domain);
        done.push((domain, backup(&writer, &scene.source()).await.unwrap()));
    }
    // The same source: all was uploaded three times.
    let chunks: BTreeSet<u64> = done.iter().map(|(_, done)| done.stats.new_chunks).collect();
    let mut seen = BTreeSet::new();
    for (domain, done) in &done {
        assert!(done.stats.new_chunks > 100, "{chunks:?}");
        let name = done.snapshot.name();
        let as_owner = scene.open_in(domain).await;
        for repo in [&as_owner, &scene.open_with(&key(&scene, Role::Reader, domain).await).await] {
            assert_eq!(names(repo).await, std::slice::from_ref(&name), "{domain}");
            scene.restore_whole(repo, &name, domain).await;
            assert!(check(repo).await.findings.is_empty());
        }
        for record in records(&as_owner).await {
            assert!(seen.insert(record), "{record} is in two domains");
        }
    }
    let top = scene.store();
    for folder in ["packs", "index", "sessions", "commits"] {
        let at_top = top.list(folder).await.unwrap().len();
        let all = top.list("").await.unwrap();
        let of_domains = all.iter().filter(|object| object.key.contains(&format!("/{folder}/"))).count();
        assert!(at_top > 0 && of_domains > at_top, "{folder}: {at_top}, {of_domains}");
    }
    let places = top.list("domains").await.unwrap();
    assert!(places.iter().all(|object| !object.key.contains("shop") && !object.key.contains("/keys/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_chooses_a_domain() {
    let scene = Scene::new().await;
    for role in [Role::Writer, Role::Maintainer, Role::Reader] {
        let unlock = key(&scene, role, "shop").await;
        repo::open(scene.store(), &scene.world(), &unlock, Some("shop")).await.unwrap();
        for other in ["bank", "default"] {
            let refused = repo::open(scene.store(), &scene.world(), &unlock, Some(other)).await;
            let refused = refused.err().unwrap();
            assert!(matches!(refused, Error::OtherDomain { .. }), "{refused}");
            assert_eq!(refused.class(), Class::Denied);
        }
    }
    for name in ["", "a b", "a/b", &"x".repeat(65)] {
        let refused = repo::open(scene.store(), &scene.world(), &scene.owner, Some(name)).await;
        assert!(matches!(refused.err().unwrap(), Error::DomainName { .. }), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_moved_from_one_domain_to_another_count_for_nothing() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let shop = scene.open_with(&key(&scene, Role::Writer, "shop").await).await;
    backup(&shop, &scene.source()).await.unwrap();
    let bank = scene.open_in("bank").await;
    for object in shop.store.list("").await.unwrap() {
        bank.store.put(&object.key, shop.store.get(&object.key).await.unwrap()).await.unwrap();
    }
    let index = Index::load(&bank).await.unwrap();
    assert!(index.is_empty() && index.sessions.is_empty() && !index.problems.is_empty());
    let snapshots = Snapshots::load(&bank).await.unwrap();
    assert_eq!((snapshots.all.len(), snapshots.problems.len()), (0, 1));
    // And who works there is not hindered.
    let done = backup(&bank, &scene.source()).await.unwrap();
    scene.restore_whole(&bank, &done.snapshot.name(), "beside a stranger's objects").await;
}

/// A thief of a writer's bundle of one domain and a maintainer's of another: with the second he can seal
/// objects of that domain, and with the first he can sign.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_of_one_domain_is_none_in_another() {
    let scene = Scene::new().await;
    let owner = scene.open_in("bank").await;
    let mut bundles = Vec::new();
    for (role, domain) in [(Role::Writer, "shop"), (Role::Maintainer, "bank")] {
        let Unlock::KeyFile(file) = key(&scene, role, domain).await else { unreachable!("made so") };
        let slot = scene.store().get(&object::slot_key(file.slot)).await.unwrap();
        let secrets = Slot::decode(&slot).unwrap().open(&file.unlock, file.repo, file.slot).unwrap();
        bundles.push(secrets.holds.bundle().unwrap().clone());
    }
    let (repo, id) = (owner.config.repo, kist::format::id::SessionId::new(0, [9; 12]));
    let mut forged = session::Session {
        started: owner.world.now(),
        certificate: bundles[0].certificate.clone(),
        lanes: vec![],
        signature: [0; 64],
    };
    forged.sign(&bundles[0].signing, repo, id);
    let key = object::session_key(id);
    let nonce = owner.world.bytes();
    let sealed = object::seal_object(&bundles[1].structure, nonce, repo, &key, forged.encode());
    owner.store.put(&key, sealed.into()).await.unwrap();
    let index = Index::load(&owner).await.unwrap();
    assert!(index.sessions.is_empty());
    let why = crate::scene::chain(&index.problems[0]);
    assert!(why.contains("certificate: domain is not valid"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_s_trust_is_what_the_owner_gave_it() {
    let scene = Scene::new().await;
    let new = |name: &str, trust| NewKey { trust, ..NewKey::of(Role::Writer, name) };
    for (name, trust) in [("careful", Trust::Own), ("thrifty", Trust::Shared)] {
        let opened = scene.open_with(&scene.add(new(name, trust)).await).await;
        assert_eq!(opened.keys.trust(), trust);
    }
    let unlock = scene.add(NewKey { trust: Trust::Shared, ..NewKey::of(Role::Reader, "drill") }).await;
    let reader = scene.open_with(&unlock).await;
    assert_eq!(reader.keys.trust(), Trust::Own, "who writes nothing has nothing to trust");
    assert!(is_role(&repo_error(backup(&reader, &scene.source()).await.err().unwrap())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_made_like_another_makes_the_same_ids_and_opens_nothing_of_it() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let first = scene.open(scene.store()).await.unwrap();
    backup(&first, &scene.source()).await.unwrap();
    let like = first.keys.like_keys(first.config.chunker).unwrap();
    let other = kist::store::Store::memory();
    let init = repo::Init {
        like: Some(like),
        chunker: kist::format::config::Chunker::DEFAULT,
        ..crate::scene::init()
    };
    let (_, file) = repo::init(other.clone(), &scene.world(), init).await.unwrap();
    let unlock = Unlock::KeyFile(file.unwrap());
    let second = repo::open(other, &scene.world(), &unlock, None).await.unwrap();
    assert_eq!(second.config.chunker, first.config.chunker);
    backup(&second, &scene.source()).await.unwrap();
    let chunks = |all: BTreeSet<RecordId>| -> BTreeSet<RecordId> {
        all.into_iter().filter(|id| matches!(id, RecordId::Chunk(_))).collect()
    };
    let (of_first, of_second) = (chunks(records(&first).await), chunks(records(&second).await));
    assert!(of_first == of_second && of_first.len() > 100);
    assert!(first.config.repo != second.config.repo && first.keys.structure != second.keys.structure);
    let writer = scene.open_with(&scene.writer("shop").await).await;
    assert!(is_role(&writer.keys.like_keys(writer.config.chunker).err().unwrap()), "the owner's to give");
}
