//! Objects that are not as they were written: each kind, damaged in each way, and each verb after it.
//!
//! Always: nothing wrong is restored, what is lost is named, everything else comes back; check names the
//! object; and the next backup says complete only if its snapshot restores whole. What only a reading of
//! data could show, a backup can't see, for it reads none and may not: bytes that changed inside of a data
//! pack whose length is right. That is for check.

use bytes::Bytes;
use kist::format::id::RecordId;
use kist::format::object;
use kist::format::pack::{PackKind, TRAILER_LEN, Toc};
use kist::format::refs::ChunkRef;
use kist::job;
use kist::job::find::{Filter, list};
use kist::repo::{Class, Error, Fetch, Index, Reader, Repository};
use kist::store::testing::{Failure, Faulty, Moment};
use kist::store::{Store, Verb};
use std::collections::HashMap;
use std::sync::Arc;

use crate::scene::{
    ABOVE, Outcome, Scene, backup, chain, change, check, grow, init, over, record_ids, repo_error,
};
use object_store::memory::InMemory;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Cut,
    FlippedAtStart,
    FlippedInTheMiddle,
    FlippedAtEnd,
    Emptied,
    Deleted,
    Swapped,
}

const ALL: [Damage; 7] = [
    Damage::Cut,
    Damage::FlippedAtStart,
    Damage::FlippedInTheMiddle,
    Damage::FlippedAtEnd,
    Damage::Emptied,
    Damage::Deleted,
    Damage::Swapped,
];

fn flip(bytes: &mut [u8], at: usize) {
    bytes[at] ^= 1;
}

/// Damages the object at `key`; `other` is one of its kind. Whether a listing shows it.
async fn damage(store: &Store, key: &str, other: &str, how: Damage) -> bool {
    let before = store.get(key).await.unwrap();
    let mut bytes = before.to_vec();
    match how {
        Damage::Cut => drop(bytes.pop()),
        Damage::FlippedAtStart => flip(&mut bytes, 0),
        Damage::FlippedInTheMiddle => flip(&mut bytes, before.len() / 2),
        Damage::FlippedAtEnd => flip(&mut bytes, before.len() - 1),
        Damage::Emptied => bytes.clear(),
        Damage::Deleted => {
            store.delete(key).await.unwrap();
            return true;
        }
        Damage::Swapped => {
            bytes = store.get(other).await.unwrap().to_vec();
            store.put(other, before.clone()).await.unwrap();
        }
    }
    let is_seen = bytes.len() != before.len();
    store.put(key, bytes.into()).await.unwrap();
    is_seen
}

/// A repository with two snapshots of a folder that is now as it was at the second.
struct Past {
    scene: Scene,
    first: kist::job::backup::Done,
    second: kist::job::backup::Done,
}

impl Past {
    async fn new() -> Self {
        let scene = Scene::new().await;
        grow(&scene.source());
        let opened = scene.open(scene.store()).await.unwrap();
        let first = backup(&opened, &scene.source()).await.unwrap();
        change(&scene.source());
        // Opened again, because the clock of a world stands still.
        let opened = scene.open(scene.store()).await.unwrap();
        let second = backup(&opened, &scene.source()).await.unwrap();
        assert!(check(&opened).await.findings.is_empty());
        Self { scene, first, second }
    }

    async fn packs(&self, kind: PackKind) -> Vec<String> {
        let index = Index::load(&self.scene.open(self.scene.store()).await.unwrap()).await.unwrap();
        let packs = index.packs().iter().filter(|pack| pack.kind == kind);
        packs.map(|pack| object::pack_key(pack.id)).collect()
    }

    async fn restore_second(&self, opened: &Repository) -> Result<Outcome, job::Error> {
        self.scene.restore(opened, &self.second.snapshot.name()).await
    }
}

/// The findings of a check, as people see them.
async fn found(opened: &Repository) -> Vec<String> {
    let without_data = crate::scene::check_structure(opened).await.findings;
    let findings = check(opened).await.findings;
    assert!(findings.len() >= without_data.len());
    findings.iter().map(|finding| chain(finding)).collect()
}

/// The next backup of the damaged repository, and what its snapshot gives.
async fn backed_up_again(past: &Past, opened: &Repository, what: &str) -> Outcome {
    let done = backup(opened, &past.scene.source()).await;
    let done = done.unwrap_or_else(|error| panic!("{what}: {}", chain(&error)));
    assert!(done.snapshot.commit.complete, "{what}");
    let restored = past.scene.restore(opened, &done.snapshot.name()).await;
    restored.unwrap_or_else(|error| panic!("{what}: {}", chain(&error)))
}

/// What holds of every damage to what lies below `config` and slots.
async fn facts(past: &Past, key: &str, opened: &Repository, what: &str, is_seen: bool) {
    let named = found(opened).await;
    assert!(named.iter().any(|finding| finding.contains(key)), "{what}: {named:?}");
    match past.restore_second(opened).await {
        Ok(outcome) => assert!(outcome.is_honest(), "{what}: {outcome:?}"),
        Err(error) => assert_eq!(repo_error(error).class(), Class::Corrupt, "{what}"),
    }
    let outcome = backed_up_again(past, opened, what).await;
    match is_seen {
        true => assert!(outcome.is_whole(), "{what}, next backup: {outcome:?}"),
        false => assert!(outcome.is_honest(), "{what}, next backup: {outcome:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_data_pack_costs_its_files_and_no_others() {
    let past = Past::new().await;
    let packs = past.packs(PackKind::Data).await;
    assert!(packs.len() > 12, "{} packs", packs.len());
    for (at, key) in [0, packs.len() / 2, packs.len() - 1].map(|at| (at, &packs[at])) {
        let other = &packs[(at + 1) % packs.len()];
        for how in ALL {
            let what = format!("{key} {how:?}");
            let opened = past.scene.open(past.scene.copy()).await.unwrap();
            let is_seen = damage(&opened.store, key, other, how).await;
            let outcome = past.restore_second(&opened).await.unwrap();
            let must_lose = matches!(how, Damage::Emptied | Damage::Deleted | Damage::Swapped);
            assert!(!must_lose || !outcome.lost.is_empty(), "{what}");
            assert!(outcome.lost.len() < 400, "{what}: {}", outcome.lost.len());
            facts(&past, key, &opened, &what, is_seen).await;
        }
    }
}

/// By itself, and together with others.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_is_not_as_long_as_a_node_says_is_refused() {
    let past = Past::new().await;
    let opened = past.scene.open(past.scene.store()).await.unwrap();
    let reader = Arc::new(Reader::new(&opened, Arc::new(Index::load(&opened).await.unwrap())));
    let chunk = record_ids(&opened).await.into_iter().find_map(|id| match id {
        RecordId::Chunk(id) => Some(id),
        RecordId::Node(_) => None,
    });
    let said = |len| ChunkRef { id: chunk.unwrap(), len };
    let mut sound = Vec::new();
    for len in 1..=16 * 1024 {
        if let Ok(plain) = reader.chunk(said(len)).await {
            assert_eq!(plain.len(), len as usize);
            sound.push(len);
        }
    }
    assert_eq!(sound.len(), 1, "{sound:?}");
    let wanted = [said(sound[0]), said(sound[0] + 1)];
    let mut fetch = Fetch::new(reader, |chunk, (), read| (chunk, read));
    let mut read = fetch.ask(wanted.iter().map(|chunk| (*chunk, ())).collect(), |_| false).await;
    read.extend(fetch.rest().await);
    let read: HashMap<_, _> = read.into_iter().collect();
    assert_eq!(read[&wanted[0]].as_ref().unwrap().len(), sound[0] as usize);
    assert!(matches!(read[&wanted[1]], Err(Error::Damaged { .. })));
}

/// All are tried: among them are the root's, leaves', and those of the large file's extents.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_node_pack_costs_what_is_below_its_nodes_and_the_next_backup_nothing() {
    let past = Past::new().await;
    let packs = past.packs(PackKind::Nodes).await;
    assert!(packs.len() > 5, "{} packs", packs.len());
    let mut parts_lost = 0;
    for (at, key) in packs.iter().enumerate() {
        let other = &packs[(at + 1) % packs.len()];
        for how in ALL {
            let what = format!("{key} {how:?}");
            let opened = past.scene.open(past.scene.copy()).await.unwrap();
            damage(&opened.store, key, other, how).await;
            if let Ok(outcome) = past.restore_second(&opened).await {
                parts_lost += usize::from(!outcome.lost.is_empty());
            }
            // The parent's nodes are all read, so a change within is seen too.
            facts(&past, key, &opened, &what, true).await;
        }
    }
    assert!(parts_lost > packs.len(), "{parts_lost}");
}

/// No parent's tree leads to them, so nothing has read them yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_node_that_a_killed_run_has_left_is_not_relied_on() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let faults = Faulty::over(Arc::new(scene.beneath.clone()));
    let dying = faults.fail(&[Verb::Create], 0..1, Moment::Before, Failure::Denied).wrap();
    let dying = scene.open(Store::over(dying)).await.unwrap();
    assert!(backup(&dying, &scene.source()).await.is_err());
    let index = Index::load(&dying).await.unwrap();
    let mut tried = 0;
    for pack in index.packs().iter().filter(|pack| pack.kind == PackKind::Nodes) {
        let key = object::pack_key(pack.id);
        let opened = scene.open(scene.copy()).await.unwrap();
        damage(&opened.store, &key, "", Damage::FlippedAtStart).await;
        let done = backup(&opened, &scene.source()).await.unwrap();
        scene.restore_whole(&opened, &done.snapshot.name(), &key).await;
        assert_eq!(done.stats.new_chunks, 0, "{key}");
        assert!((1..=1 + ABOVE).contains(&done.stats.new_nodes), "{key}: {}", done.stats.new_nodes);
        tried += 1;
    }
    // How many there are is chance: records go to packs as they come.
    assert!(tried >= 3, "{tried} packs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_of_a_pack_s_padding_is_found_and_costs_nothing() {
    let past = Past::new().await;
    let mut tried = 0;
    for kind in [PackKind::Data, PackKind::Nodes] {
        for key in past.packs(kind).await {
            let opened = past.scene.open(past.scene.copy()).await.unwrap();
            let Some(padding) = padding(&opened, &key).await else { continue };
            let mut bytes = opened.store.get(&key).await.unwrap().to_vec();
            flip(&mut bytes, padding);
            opened.store.put(&key, bytes.into()).await.unwrap();
            let named = found(&opened).await;
            assert_eq!(named.len(), 1, "{named:?}");
            assert!(named[0].contains(&key), "{named:?}");
            tried += 1;
            if tried % 8 == 1 {
                assert!(past.restore_second(&opened).await.unwrap().is_whole(), "{key}");
                assert!(backed_up_again(&past, &opened, &key).await.is_whole(), "{key}");
            }
        }
    }
    assert!(tried > 8, "{tried} packs with padding");
}

/// The offset of a byte of padding.
async fn padding(opened: &Repository, key: &str) -> Option<usize> {
    let bytes = opened.store.get(key).await.unwrap();
    let id = kist::format::id::PackId::parse(key.rsplit('/').next().unwrap()).unwrap();
    let toc = Toc::open(&opened.keys.structure, opened.config.repo, id, &bytes).unwrap();
    let start = toc.records.last().map(|record| (record.offset + record.len) as usize).unwrap();
    let end = bytes.len() - TRAILER_LEN - Toc::sealed_len(toc.records.len());
    (start < end).then_some(start + (end - start) / 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_delta_costs_what_only_it_knew_and_the_next_backup_uploads_that_again() {
    let past = Past::new().await;
    let listed = past.scene.store().list("index").await.unwrap();
    assert!(listed.len() > 2, "{listed:?}");
    for (at, delta) in listed.iter().enumerate() {
        let other = &listed[(at + 1) % listed.len()].key;
        for how in ALL {
            let what = format!("{} {how:?}", delta.key);
            let opened = past.scene.open(past.scene.copy()).await.unwrap();
            damage(&opened.store, &delta.key, other, how).await;
            // What is gone has left no name; what needs it has.
            let key = if how == Damage::Deleted { "which is in no pack" } else { &delta.key };
            facts(&past, key, &opened, &what, true).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_session_costs_what_it_wrote_and_the_next_backup_uploads_that_again() {
    let past = Past::new().await;
    for (done, other) in [(&past.first, &past.second), (&past.second, &past.first)] {
        let key = object::session_key(done.snapshot.id);
        for how in ALL {
            let what = format!("{key} {how:?}");
            let opened = past.scene.open(past.scene.copy()).await.unwrap();
            damage(&opened.store, &key, &object::session_key(other.snapshot.id), how).await;
            // Its name is in those of its deltas.
            facts(&past, &done.snapshot.name(), &opened, &what, true).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_commit_costs_its_snapshot_alone() {
    let past = Past::new().await;
    let (first, second) = (&past.first.snapshot, &past.second.snapshot);
    for (damaged, other) in [(first, second), (second, first)] {
        let key = object::commit_key(damaged.id);
        for how in ALL {
            let what = format!("{key} {how:?}");
            let opened = past.scene.open(past.scene.copy()).await.unwrap();
            damage(&opened.store, &key, &object::commit_key(other.id), how).await;
            let (there, problems) = list(&opened, None, &Filter::default()).await.unwrap();
            let (left, told) = match how {
                Damage::Deleted => (1, 0),
                Damage::Swapped => (0, 2),
                _ => (1, 1),
            };
            assert_eq!((there.len(), problems.len()), (left, told), "{what}");
            let named = found(&opened).await;
            let expected = match (how, damaged.id == first.id) {
                // The chain shows that one is gone; after the newest nothing follows.
                (Damage::Deleted, true) => Some(format!("snapshot {}", second.name())),
                (Damage::Deleted, false) => None,
                _ => Some(key.clone()),
            };
            match expected {
                Some(text) => assert!(named.iter().any(|found| found.contains(&text)), "{what}: {named:?}"),
                None => assert!(named.is_empty(), "{what}: {named:?}"),
            }
            let restored = past.scene.restore(&opened, &damaged.name()).await.err().unwrap();
            match restored {
                job::Error::NoSuchSnapshot { .. } => assert_eq!(how, Damage::Deleted, "{what}"),
                error => assert_eq!(repo_error(error).class(), Class::Corrupt, "{what}"),
            }
            if how != Damage::Swapped && other.id == second.id {
                past.scene.restore_whole(&opened, &other.name(), &what).await;
            }
            assert!(backed_up_again(&past, &opened, &what).await.is_whole(), "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_config_or_slot_is_told_for_what_it_is_and_nothing_is_opened() {
    use Damage::{Cut, Deleted, Emptied, FlippedAtEnd, FlippedAtStart, FlippedInTheMiddle, Swapped};
    let scene = Scene::new().await;
    scene.writer("another").await;
    let elsewhere = over(InMemory::new());
    kist::repo::init(elsewhere.clone(), &scene.world(), init()).await.unwrap();
    let other_config = elsewhere.get("config").await.unwrap();
    let slots = scene.store().list("keys").await.unwrap();
    let kist::repo::Unlock::KeyFile(owner) = &scene.owner else { unreachable!("made so") };
    let own = object::slot_key(owner.slot);
    let other_slot = slots.iter().find(|slot| slot.key != own).unwrap().key.clone();
    let of_config = |how| match how {
        Cut | FlippedAtStart | FlippedInTheMiddle | FlippedAtEnd | Emptied => Class::Corrupt,
        Deleted => Class::Usage,
        Swapped => Class::Denied,
    };
    let of_slot = |how| match how {
        Cut | FlippedAtStart | Emptied => Class::Corrupt,
        FlippedInTheMiddle | FlippedAtEnd | Deleted | Swapped => Class::Denied,
    };
    for how in ALL {
        let store = over(scene.beneath.fork());
        store.put("probe/config", Bytes::clone(&other_config)).await.unwrap();
        damage(&store, "config", "probe/config", how).await;
        let refused = scene.open(store).await.err().unwrap();
        assert_eq!(refused.class(), of_config(how), "config {how:?}: {}", chain(&refused));
        let store = scene.copy();
        damage(&store, &own, &other_slot, how).await;
        let refused = scene.open(store).await.err().unwrap();
        assert_eq!(refused.class(), of_slot(how), "slot {how:?}: {}", chain(&refused));
        // Another's slot hinders nobody.
        let store = scene.copy();
        if how != Swapped {
            damage(&store, &other_slot, &own, how).await;
            scene.open(store).await.unwrap();
        }
    }
}
