//! Checks in parts, what they say is lost, and what they verify.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};

use kist::format::id::RecordId;
use kist::format::index::{IndexDelta, IndexPack, IndexRecord};
use kist::format::keys::Role;
use kist::format::object;
use kist::format::pack::PackKind;
use kist::job::repair::Request;
use kist::progress::{Progress, Unit};
use kist::repo::{self, Begun, Index, Limits, Lost, NewKey, PruneSettings, Reading, Repository, Unlock};
use kist::world::Time;

use crate::repair::{all, flip, repair_with};
use crate::scene::{
    Checked, Scene, backup, change, check, check_as, check_structure, check_until, grow, noise, now,
    record_ids,
};

const FIFTH: u64 = (1 << 32) / 5 + 1;

async fn part(repo: &Repository, share: Option<u64>, before: Option<Time>) -> Checked {
    check_as(repo, Some(Reading { share, before })).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_read_every_pack_once_and_then_the_oldest_again_whoever_checks() {
    let scene = Scene::new().await;
    grow(&scene.source());
    backup(&scene.open(scene.store()).await.unwrap(), &scene.source()).await.unwrap();
    let reader = scene.add(NewKey::of(Role::Reader, "drill")).await;
    let packs = scene.store().list("packs").await.unwrap().len() as u64;
    let mut read = 0;
    for round in 0..5 {
        // Nothing is kept but what lies in the store.
        let opened = match round % 2 {
            0 => scene.open(scene.store()).await.unwrap(),
            _ => scene.open_with(&reader).await,
        };
        let checked = part(&opened, Some(FIFTH), None).await;
        assert!(checked.findings.is_empty() && checked.report.unremembered.is_none(), "{checked:?}");
        assert!(checked.report.read_packs < packs, "a part");
        read += checked.report.read_packs;
    }
    assert!(read >= packs && read < packs + 5, "{read} of {packs}");
    let again = part(&scene.open(scene.store()).await.unwrap(), Some(FIFTH), None).await;
    assert!(again.report.read_packs > 0, "it begins again with what was read first");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_lately_is_passed_over_but_for_what_came_since_and_what_was_only_hashed() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let owner = scene.open(scene.store()).await.unwrap();
    let maintainer = scene.open_with(&scene.add(NewKey::of(Role::Maintainer, "nightly")).await).await;
    backup(&owner, &scene.source()).await.unwrap();
    let before = Some(owner.world.now());
    let hashed = part(&maintainer, None, before).await.report;
    assert!(hashed.read_packs > 10 && hashed.records == 0);
    let opened = part(&owner, None, before).await.report;
    assert_eq!(opened.read_packs, hashed.read_packs, "nobody had opened the records");
    change(&scene.source());
    let fresh = scene.open(scene.store()).await.unwrap();
    backup(&fresh, &scene.source()).await.unwrap();
    let all = scene.store().list("packs").await.unwrap().len() as u64;
    let young = part(&owner, None, before).await.report;
    assert!(young.read_packs > 0 && young.read_packs <= all, "what came since is read: {young:?}");
    assert!(part(&owner, Some(FIFTH), before).await.report.read_packs == 0, "of a part there is none due");
    assert!(part(&owner, None, Some(Time(i64::MAX))).await.report.read_packs == all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_in_which_something_was_found_is_read_again_until_nothing_is() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let owner = scene.open(scene.store()).await.unwrap();
    backup(&owner, &scene.source()).await.unwrap();
    let pack = scene.store().list("packs").await.unwrap().remove(3);
    let whole = owner.store.get(&pack.key).await.unwrap();
    let mut bytes = whole.to_vec();
    bytes[100] ^= 1;
    owner.store.put(&pack.key, bytes.into()).await.unwrap();
    let recent = Some(Time(0));
    assert!(!part(&owner, None, None).await.findings.is_empty());
    let again = part(&owner, Some(u64::MAX), recent).await;
    assert!(!again.findings.is_empty() && again.report.read_packs == 1, "{again:?}");
    owner.store.put(&pack.key, whole).await.unwrap();
    assert_eq!(part(&owner, Some(u64::MAX), recent).await.report.read_packs, 1);
    assert_eq!(part(&owner, Some(u64::MAX), recent).await.report.read_packs, 0, "it is sound again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_maintainer_finds_is_opened_again_though_the_owner_has_opened_it_lately() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let owner = scene.open(scene.store()).await.unwrap();
    backup(&owner, &scene.source()).await.unwrap();
    assert!(part(&owner, None, None).await.findings.is_empty());
    let pack = scene.store().list("packs").await.unwrap().remove(3);
    flip(&owner.store, &pack.key, |_| 100).await;
    let maintainer = scene.open_with(&scene.add(NewKey::of(Role::Maintainer, "maintainer")).await).await;
    assert!(!part(&maintainer, None, None).await.findings.is_empty());
    let again = part(&owner, Some(u64::MAX), Some(Time(0))).await;
    assert!(!again.findings.is_empty() && again.report.read_packs == 1, "{again:?}");
}

/// Ends after so many packs.
pub struct After(pub AtomicI64);

impl Progress for After {
    fn advance(&self, unit: Unit, _: u64) {
        if unit == Unit::PackBytes {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst) <= 0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_check_remembers_what_it_has_read_and_the_next_reads_the_rest() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let owner = scene.open(scene.store()).await.unwrap();
    backup(&owner, &scene.source()).await.unwrap();
    let all = scene.store().list("packs").await.unwrap().len() as u64;
    let first = check_until(&owner, Some(Reading::default()), &After(AtomicI64::new(7))).await.unwrap();
    assert!(first.report.interrupted && first.report.read_packs == 7, "{:?}", first.report);
    let rest = part(&owner, Some(u64::MAX), Some(Time(0))).await.report;
    assert_eq!(rest.read_packs, all - 7);
    assert_eq!(part(&owner, Some(u64::MAX), Some(Time(0))).await.report.read_packs, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_can_t_be_read_is_found_and_the_one_before_it_counts() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let owner = scene.open(scene.store()).await.unwrap();
    backup(&owner, &scene.source()).await.unwrap();
    check(&owner).await;
    part(&owner, Some(1), None).await;
    owner.store.put("checks/2", vec![0; 512].into()).await.unwrap();
    let checked = part(&owner, Some(u64::MAX), Some(Time(0))).await;
    assert_eq!(checked.report.read_packs, 0, "the first one counts");
    assert!(checked.findings.iter().any(|finding| finding.key() == Some("checks/2")), "{checked:?}");
    assert!(owner.store.get("checks/3").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_is_told_by_snapshot_path_and_range_and_to_a_maintainer_by_snapshot() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let owner = scene.open(scene.store()).await.unwrap();
    let first = backup(&owner, &scene.source()).await.unwrap().snapshot.name();
    change(&scene.source());
    let second = backup(&scene.open(scene.store()).await.unwrap(), &scene.source()).await.unwrap();
    let second = second.snapshot.name();
    let index = Index::load(&owner).await.unwrap();
    let mut with_ranges = 0;
    for pack in index.packs().iter().filter(|pack| pack.kind == PackKind::Data) {
        let copied = scene.open(scene.copy()).await.unwrap();
        copied.store.delete(&object::pack_key(pack.id)).await.unwrap();
        let checked = check_structure(&copied).await;
        assert!(checked.findings.iter().any(|finding| finding.kind() == "pack-missing"), "{checked:?}");
        for name in [&first, &second] {
            let outcome = scene.restore(&copied, name).await.unwrap();
            let lost: BTreeSet<String> = outcome.lost.into_iter().map(|(what, _)| what).collect();
            let source = scene.source().to_str().unwrap().to_owned();
            let mut told = BTreeSet::new();
            for touched in checked.touched.iter().filter(|touched| touched.snapshot == *name) {
                let Lost::File { path, size, ranges } = &touched.lost else { panic!("{touched:?}") };
                assert!(!ranges.is_empty() && ranges.iter().all(|range| range.end <= *size), "{touched:?}");
                with_ranges += usize::from(ranges[0].end - ranges[0].start < *size);
                let path = String::from_utf8(path.to_slashes()).unwrap();
                told.insert(format!("/{path}").strip_prefix(&source).unwrap().to_owned());
            }
            if *name == second {
                assert_eq!(told, lost, "{name} without {}", pack.id);
            }
        }
    }
    assert!(with_ranges > 10, "{with_ranges} large files lose a part");
    let maintainer = scene.open_with(&scene.add(NewKey::of(Role::Maintainer, "nightly")).await).await;
    maintainer.store.delete(&object::pack_key(index.packs().get(0).id)).await.unwrap();
    let checked = check_structure(&maintainer).await;
    assert!(!checked.touched.is_empty());
    assert!(
        checked.touched.iter().all(|touched| matches!(touched.lost, Lost::Records { count } if count > 0))
    );
}

/// The story: only a check that read data told that a session's keys were gone, and backups went on to refer to what
/// nothing opens.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_session_is_told_by_a_check_of_the_structure_and_a_repair_has_what_it_sealed_uploaded_again() {
    for is_pruned in [false, true] {
        let scene = Scene::new().await;
        grow(&scene.source());
        let owner = scene.open(scene.store()).await.unwrap();
        let first = backup(&owner, &scene.source()).await.unwrap().snapshot;
        change(&scene.source());
        let second = backup(&owner, &scene.source()).await.unwrap().snapshot;
        if is_pruned {
            repo::forget(&owner, &[first.id]).await.unwrap();
            // Packs have records of both sessions then.
            let limits = Limits { min_used_percent: 100, ..Limits::default() };
            repo::prune(&owner, PruneSettings { limits, ..now() }, &|_| {}).await.unwrap();
        }
        let key = object::session_key(first.id);
        owner.store.delete(&key).await.unwrap();
        let maintainer = scene.open_with(&scene.add(NewKey::of(Role::Maintainer, "nightly")).await).await;
        for checker in [&owner, &maintainer] {
            let checked = check_structure(checker).await;
            let is_named = checked.findings.iter().any(|found| found.key() == Some(&key));
            // Without it deltas of an epoch that has not ended don't count, and that is what is told.
            assert!(is_named || (!is_pruned && !checked.findings.is_empty()), "{checked:?}");
            let touched: BTreeSet<_> = checked.touched.iter().map(|touched| &touched.snapshot).collect();
            assert!(touched.contains(&second.name()), "{checked:?}");
        }
        let plan = Request { reading: None, ..all() };
        let (outcome, _) = repair_with(&owner, plan).await.unwrap();
        assert!(!outcome.lost.is_empty());
        let healed = backup(&owner, &scene.source()).await.unwrap().snapshot;
        scene.restore_whole(&owner, &healed.name(), "the next backup").await;
    }
}

/// Names a pack in the writer's own name, in a session that it has begun.
pub async fn name_falsely(writer: &Repository, pack: IndexPack) {
    put_delta(writer, &repo::begin(writer, 1).await.unwrap(), vec![pack]).await;
}

/// Puts the first delta of a session.
pub async fn put_delta(writer: &Repository, begun: &Begun, packs: Vec<IndexPack>) {
    let key = object::index_key(begun.session, 0, 0);
    let delta = IndexDelta { packs };
    let plain = delta.encode(&begun.lanes[0].signing, writer.config.repo, &key);
    let sealed =
        object::seal_object(&writer.keys.structure, writer.world.bytes(), writer.config.repo, &key, plain);
    writer.store.put(&key, sealed.into()).await.unwrap();
}

/// The bundle of the writer `shop` was stolen: a pack that was verified is named again, as holding a chunk that others
/// are about to back up.
#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_writer_s_false_word_of_a_verified_pack_hurts_nobody_s_backup() {
    let scene = Scene::new().await;
    grow(&scene.source());
    let shop: Unlock = scene.writer("shop").await;
    let shop = scene.open_with(&shop).await;
    backup(&shop, &scene.source()).await.unwrap();
    let owner = scene.open(scene.store()).await.unwrap();
    let checked = check(&owner).await;
    assert!(checked.findings.is_empty() && checked.report.verified > 10, "{checked:?}");
    assert_eq!(check(&owner).await.report.verified, 0, "they are verified already");
    // Others use what was verified.
    let bank_key = scene.writer("bank").await;
    let bank = scene.open_with(&bank_key).await;
    assert_eq!(backup(&bank, &scene.source()).await.unwrap().stats.new_chunks, 0);
    // What bank is going to write, and where shop says that it lies: in a verified pack of its own.
    std::fs::write(scene.source().join("yet to come"), noise(9_000, 77)).unwrap();
    let index = Index::load(&shop).await.unwrap();
    let tried = repo::open(scene.copy(), &scene.world(), &bank_key, None).await.unwrap();
    backup(&tried, &scene.source()).await.unwrap();
    let after = record_ids(&tried).await;
    let new = after.iter().filter(|id| matches!(id, RecordId::Chunk(_)) && !index.contains(id));
    let records: Vec<_> = new.map(|id| IndexRecord { id: *id.bytes(), len: 1200 }).collect();
    assert!(!records.is_empty());
    let pack = index.packs().iter().find(|pack| pack.kind == PackKind::Data).unwrap();
    let mut hash = pack.hash;
    hash[0] ^= 1;
    name_falsely(
        &shop,
        IndexPack {
            id: pack.id,
            kind: PackKind::Data,
            len: pack.len,
            hash,
            origin: pack.origin,
            verified: false,
            sessions: pack.sessions.clone(),
            records: records[..1].to_vec(),
        },
    )
    .await;
    let done = backup(&bank, &scene.source()).await.unwrap();
    assert!(done.stats.new_chunks > 0, "it is not believed");
    scene.restore_whole(&owner, &done.snapshot.name(), "bank").await;
    let checked = check(&owner).await;
    let kinds: BTreeSet<_> = checked.findings.iter().map(|finding| finding.kind()).collect();
    assert_eq!(kinds, BTreeSet::from(["pack-named"]), "{checked:?}");
    assert!(checked.touched.is_empty(), "nothing is lost");
}
