//! A stolen writer's key that names its own packs again, with false records: what it named truly before is not lost.

use std::collections::{BTreeMap, BTreeSet};

use kist::format::id::{PackId, SessionId};
use kist::format::index::{IndexPack, IndexRecord};
use kist::format::keys::Role;
use kist::format::object;
use kist::format::pack::{PackKind, Toc};
use kist::repo::{self, Index, Limits, NewKey, PruneSettings, Repository};

use crate::checks::name_falsely;
use crate::repair::{all, repair_with};
use crate::scene::{Scene, backup, change, check, check_structure, grow, noise, now, prune};

/// What is said truly of all packs of a writer's.
pub async fn namings(writer: &Repository) -> Vec<IndexPack> {
    let mut all = Vec::new();
    for info in Index::load(writer).await.unwrap().packs().iter().filter(|info| info.own) {
        let bytes = writer.store.get(&object::pack_key(info.id)).await.unwrap();
        let toc = Toc::open(&writer.keys.structure, writer.config.repo, info.id, &bytes).unwrap();
        let records =
            toc.records.iter().map(|record| IndexRecord { id: *record.id.bytes(), len: record.len });
        all.push(IndexPack {
            id: info.id,
            kind: info.kind,
            len: info.len,
            hash: info.hash,
            origin: info.origin,
            verified: false,
            sessions: info.sessions.clone(),
            records: records.collect(),
        });
    }
    all
}

/// What a thief may say instead: of the same bytes, that each record is another one of the pack, or one of nobody's, or
/// of the other kind; or of other bytes.
fn lies(pack: &IndexPack) -> Vec<IndexPack> {
    let mut turned = pack.clone();
    let ids: Vec<[u8; 32]> = pack.records.iter().map(|record| record.id).collect();
    let others = ids.iter().cycle().skip(1);
    turned.records.iter_mut().zip(others).for_each(|(record, id)| record.id = *id);
    let mut unknown = pack.clone();
    unknown.records.iter_mut().for_each(|record| record.id[0] ^= 1);
    let other = if pack.kind == PackKind::Data { PackKind::Nodes } else { PackKind::Data };
    let kind = IndexPack { kind: other, ..pack.clone() };
    let none = IndexPack { records: Vec::new(), ..pack.clone() };
    let len = IndexPack { len: pack.len + 7, ..turned.clone() };
    let hash = IndexPack { hash: [9; 32], ..unknown.clone() };
    let lies = [turned, unknown, kind, none, len, hash].into_iter();
    // Of a pack with one record, to turn it is no lie.
    lies.filter(|lie| lie.digest() != pack.digest()).collect()
}

/// How often each pack is named.
async fn named(repo: &Repository) -> BTreeMap<PackId, usize> {
    let mut named = BTreeMap::new();
    Index::load(repo).await.unwrap().packs().iter().for_each(|pack| *named.entry(pack.id).or_default() += 1);
    named
}

/// The snapshots of `shop`, whose source is what the last one has, restore; and a check tells each lie once, and whose
/// it is, and that nothing is lost.
async fn nothing_is_lost(
    scene: &Scene,
    what: &str,
    snapshot: SessionId,
    named: &BTreeMap<PackId, usize>,
    shop: &Repository,
) {
    let owner = scene.open(scene.store()).await.unwrap();
    scene.restore_whole(&owner, &snapshot.snapshot_name(), what).await;
    let maintainer = scene.add(NewKey::of(Role::Maintainer, &what.replace(" ", "-"))).await;
    let maintainer = scene.open_with(&maintainer).await;
    for checked in [check_structure(&owner).await, check(&maintainer).await, check(&owner).await] {
        let kinds: BTreeSet<_> = checked.findings.iter().map(|finding| finding.kind()).collect();
        let falsely: BTreeSet<String> = named
            .iter()
            .filter(|(_, namings)| **namings > 1)
            .map(|(pack, _)| object::pack_key(*pack))
            .collect();
        let expected: &[&str] = if falsely.is_empty() { &[] } else { &["pack-named"] };
        assert!(kinds.iter().eq(expected), "{what}: {checked:?}");
        let thief = shop.keys.certificate.key.to_string();
        assert!(checked.findings.iter().all(|finding| finding.to_string().contains(&thief)), "{what}");
        assert!(checked.touched.is_empty(), "{what}: {:?}", checked.touched);
        if checked.report.read_packs > 0 {
            let told: BTreeSet<String> =
                checked.findings.iter().map(|finding| finding.key().unwrap().to_owned()).collect();
            assert_eq!(told, falsely, "{what}");
            assert!(
                checked.findings.len() <= 2 * falsely.len(),
                "{what}: by its length, and by what is in it"
            );
        }
    }
}

/// The story: of two that named a pack with one hash the first that was read counted, and a prune kept that one alone.
async fn packs_are_named_again(is_verified: bool) {
    let scene = Scene::new().await;
    grow(&scene.source());
    let shop = scene.writer("shop").await;
    let shop = scene.open_with(&shop).await;
    let passing = scene.source().join("a passing file");
    let mut passed = Vec::new();
    for seed in [7, 8] {
        std::fs::write(&passing, noise(300_000, seed)).unwrap();
        passed.push(backup(&shop, &scene.source()).await.unwrap().snapshot.id);
    }
    std::fs::remove_file(passing).unwrap();
    change(&scene.source());
    let kept = backup(&shop, &scene.source()).await.unwrap().snapshot.id;
    let owner = scene.open(scene.store()).await.unwrap();
    if is_verified {
        assert!(check(&owner).await.report.verified > 10);
    }
    let mut told = BTreeMap::new();
    for pack in namings(&shop).await {
        let lies = lies(&pack);
        told.insert(pack.id, lies.len());
        for lie in lies {
            name_falsely(&shop, lie).await;
        }
    }
    let before = named(&owner).await;
    assert!(told.len() > 30 && before.iter().all(|(id, namings)| told[id] + 1 == *namings));
    nothing_is_lost(&scene, "before", kept, &before, &shop).await;
    // Each prune publishes an index that is made from the one before.
    for (round, id) in ["a prune", "another prune"].into_iter().zip(passed) {
        repo::observe(&owner).await.unwrap();
        repo::forget(&owner, &[id]).await.unwrap();
        let limits = Limits { max_repack_bytes: 0, ..Limits::default() };
        let pruned = repo::prune(&owner, PruneSettings { limits, ..now() }, &|_| {}).await.unwrap();
        assert!(pruned.swept_packs > 1, "{pruned:?}");
        let after = named(&owner).await;
        assert!(after.len() > 30 && after.iter().all(|(id, namings)| before[id] == *namings));
        nothing_is_lost(&scene, round, kept, &after, &shop).await;
    }
    // The writer's next backup has all that it needs, too.
    std::fs::write(scene.source().join("yet to come"), noise(9_000, 77)).unwrap();
    let next = backup(&shop, &scene.source()).await.unwrap().snapshot.id;
    scene.restore_whole(&owner, &next.snapshot_name(), "the next backup").await;
    // What is needed is written into new packs, and lies go with the old ones.
    assert!(prune(&owner).await.swept_packs > 30);
    nothing_is_lost(&scene, "a repack", next, &BTreeMap::new(), &shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_a_stolen_key_names_again_lose_nothing_before_and_after_a_prune() {
    packs_are_named_again(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verified_packs_that_a_stolen_key_names_again_lose_nothing_before_and_after_a_prune() {
    packs_are_named_again(true).await;
}

/// A lie that says of records that are lost where they lie hides nothing from a check that reads.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_is_told_although_a_stolen_key_says_that_it_lies_elsewhere() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let shop = scene.writer("shop").await;
    let shop = scene.open_with(&shop).await;
    backup(&shop, &scene.source()).await.unwrap();
    let packs = namings(&shop).await;
    let mut data = packs.iter().filter(|pack| pack.kind == PackKind::Data);
    let (lost, sound) = (data.next().unwrap(), data.next().unwrap());
    let mut lie = sound.clone();
    lie.records = lost.records.iter().map(|record| IndexRecord { len: 1, ..*record }).collect();
    name_falsely(&shop, lie).await;
    shop.store.delete(&object::pack_key(lost.id)).await.unwrap();
    let owner = scene.open(scene.store()).await.unwrap();
    let checked = check(&owner).await;
    let kinds: BTreeSet<_> = checked.findings.iter().map(|finding| finding.kind()).collect();
    assert_eq!(kinds, BTreeSet::from(["pack-missing", "pack-named"]), "{checked:?}");
    assert!(!checked.touched.is_empty());
    // Who can open nothing holds places against tables.
    let maintainer = scene.open_with(&scene.add(NewKey::of(Role::Maintainer, "nightly")).await).await;
    assert!(!check(&maintainer).await.touched.is_empty());
    // Nor from a repair; and the next backup does not refer to where it is not.
    let (outcome, _) = repair_with(&owner, all()).await.unwrap();
    assert_eq!(outcome.lost.len(), 1);
    let next = backup(&shop, &scene.source()).await.unwrap().snapshot.id;
    scene.restore_whole(&owner, &next.snapshot_name(), "the next backup").await;
}
