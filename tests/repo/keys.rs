//! Managing keys: listed, removed, rotated, and every moment at which that may be cut short.

use std::cell::Cell;
use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;

use kist::crypto::kdf::Params;
use kist::crypto::secret::Passphrase;
use kist::format::keys::{KeyFile, Role};
use kist::repo::{self, Class, Error, NewKey, Repository, Unlock};
use kist::store::testing::{Failure, Faulty, Log, Moment, Recording};
use kist::store::{Store, Verb};
use object_store::memory::InMemory;

use crate::crash::{End, killed, killed_at_each};
use crate::scene::{Scene, backup, check, noise, over};

/// A little to back up; more at each call.
fn sow(scene: &Scene, number: u64) {
    fs::write(scene.source().join(format!("file {number}")), noise(3000, number)).unwrap();
}

fn is_denied(opened: repo::Result<Repository>) -> bool {
    opened.err().is_some_and(|error| error.class() == Class::Denied)
}

async fn names(scene: &Scene) -> Vec<String> {
    let owner = scene.open(scene.store()).await.unwrap();
    let listed = repo::list_keys(&owner).await.unwrap();
    assert!(listed.unreadable.is_empty(), "{:?}", listed.unreadable);
    listed.keys.into_iter().map(|key| key.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_lists_all_keys_of_all_domains() {
    let scene = Scene::new().await;
    let roles = [Role::Writer, Role::Maintainer, Role::Reader];
    for (role, domain) in roles.iter().zip(["shop", "bank", "default"]) {
        scene.add(NewKey { domain: Some(domain.into()), ..NewKey::of(*role, &role.to_string()) }).await;
    }
    let owner = scene.open(scene.store()).await.unwrap();
    let phrase = Passphrase::new(b"a second one".to_vec());
    repo::add_passphrase(&owner, "by heart", &phrase, Params::CHEAP).await.err().unwrap();
    repo::add_passphrase(&owner, "by-heart", &phrase, Params::CHEAP).await.unwrap();
    let keys = repo::list_keys(&owner).await.unwrap().keys;
    let shown: Vec<_> = keys.iter().map(|key| (key.role, key.name.as_str(), key.domain.name())).collect();
    let expected = [
        (Role::Owner, "owner", "default"),
        (Role::Writer, "writer", "shop"),
        (Role::Maintainer, "maintainer", "bank"),
        (Role::Reader, "reader", "default"),
        (Role::Owner, "by-heart", "default"),
    ];
    assert_eq!(shown, expected);
    assert!(keys.iter().all(|key| key.serial == 0 && key.by_passphrase == (key.name == "by-heart")));
    let unlock = Unlock::Passphrase(phrase);
    repo::open(scene.store(), &scene.world(), &unlock, Some("shop")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_found_by_its_name_or_the_beginning_of_an_id_and_never_guessed() {
    let scene = Scene::new().await;
    scene.writer("shop").await;
    scene.writer("bank").await;
    let owner = scene.open(scene.store()).await.unwrap();
    let taken = repo::add_key(&owner, &NewKey::of(Role::Reader, "shop")).await.err().unwrap();
    assert!(matches!(taken, Error::KeyNameTaken { .. }) && taken.class() == Class::Usage, "{taken}");
    let listed = repo::list_keys(&owner).await.unwrap();
    let shop = listed.find("shop").unwrap()[0];
    for id in [shop.slot.to_string(), shop.key.to_string()] {
        assert_eq!(listed.find(&id[..12]).unwrap(), [shop]);
        assert_eq!(listed.slots(&id).unwrap(), [shop.slot]);
    }
    for nothing in ["shopp", "", "0000", "00"] {
        assert!(matches!(listed.find(nothing), Err(Error::NoKey { .. })), "{nothing}");
    }
    let (mut two, other) = (repo::KeyList::default(), listed.find("bank").unwrap()[0].clone());
    two.keys = vec![shop.clone(), repo::KeyInfo { name: "shop".into(), ..other }];
    assert!(matches!(two.find("shop"), Err(Error::AmbiguousKey { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_key_opens_nothing_and_the_owner_s_last_one_stays() {
    let scene = Scene::new().await;
    let writer = scene.writer("shop").await;
    let owner = scene.open(scene.store()).await.unwrap();
    let slot = |which: &'static str| {
        let owner = owner.clone();
        async move { repo::list_keys(&owner).await.unwrap().slots(which).unwrap()[0] }
    };
    repo::remove_key(&owner, slot("shop").await).await.unwrap();
    assert!(is_denied(repo::open(scene.store(), &scene.world(), &writer, None).await));
    let last = repo::remove_key(&owner, slot("owner").await).await.err().unwrap();
    assert!(matches!(last, Error::LastOwner { .. }), "{last}");
    // With another one it goes, and the other one stays.
    let second = scene.add(NewKey::of(Role::Owner, "second")).await;
    repo::remove_key(&owner, slot("owner").await).await.unwrap();
    assert!(is_denied(scene.open(scene.store()).await));
    let owner = scene.open_with(&second).await;
    let only = repo::list_keys(&owner).await.unwrap().keys[0].slot;
    assert!(matches!(repo::remove_key(&owner, only).await, Err(Error::LastOwner { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_keeps_a_removed_slot_is_told_of() {
    let scene = Scene::new().await;
    let writer = scene.writer("shop").await;
    let refusing = Faulty::over(Arc::new(scene.beneath.clone()));
    let refusing = refusing.fail(&[Verb::Delete], 0..9, Moment::Before, Failure::Denied);
    let owner = scene.open(Store::over(refusing.wrap())).await.unwrap();
    let slot = repo::list_keys(&owner).await.unwrap().slots("shop").unwrap()[0];
    let kept = repo::remove_key(&owner, slot).await.err().unwrap();
    assert!(matches!(kept, Error::KeyKept { .. }) && kept.class() == Class::Denied, "{kept}");
    assert!(kept.to_string().contains(&format!("keys/{slot} is still there")), "{kept}");
    scene.open_with(&writer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_goes_on_where_it_was_and_its_old_file_opens_nothing() {
    let scene = Scene::new().await;
    sow(&scene, 1);
    let owner = scene.open(scene.store()).await.unwrap();
    for role in [Role::Writer, Role::Maintainer, Role::Reader, Role::Owner] {
        let name = format!("a-{role}");
        let old = scene.add(NewKey::of(role, &name)).await;
        let before = scene.open_with(&old).await;
        let first = match role {
            Role::Writer => Some(backup(&before, &scene.source()).await.unwrap()),
            _ => None,
        };
        let rotated = repo::rotate_key(&owner, &name).await.unwrap();
        let new = Unlock::KeyFile(rotated.key);
        // Until the new file is kept both open.
        scene.open_with(&old).await;
        let after = scene.open_with(&new).await;
        for slot in rotated.replaced {
            repo::remove_key(&owner, slot).await.unwrap();
        }
        assert!(is_denied(repo::open(scene.store(), &scene.world(), &old, None).await), "{role}");
        scene.open_with(&new).await;
        let listed = repo::list_keys(&owner).await.unwrap();
        let [info] = listed.find(&name).unwrap()[..] else { panic!("{role}: two slots") };
        assert_eq!((info.serial, info), (1, &rotated.info));
        assert_eq!(after.keys.certificate.key, before.keys.certificate.key);
        if role != Role::Owner {
            assert_eq!(after.keys.certificate.serial, 1);
            assert_ne!(after.keys.certificate.signing, before.keys.certificate.signing);
        }
        if let Some(first) = first {
            let again = backup(&after, &scene.source()).await.unwrap();
            assert_eq!(again.parent.unwrap().id, first.snapshot.id, "it reads its own names");
            assert_eq!(again.stats.new_chunks, 0, "its packs are its own");
            assert_eq!(again.snapshot.commit.sequence, first.snapshot.commit.sequence + 1);
            scene.restore_whole(&owner, &again.snapshot.name(), "rotated").await;
        }
    }
    let phrase = Passphrase::new(b"x".to_vec());
    repo::add_passphrase(&owner, "by-heart", &phrase, Params::CHEAP).await.unwrap();
    assert!(matches!(repo::rotate_key(&owner, "by-heart").await, Err(Error::Passphrase { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_epoch_shuts_out_who_was_removed_and_nobody_else() {
    let scene = Scene::new().await;
    sow(&scene, 1);
    let phrase = Passphrase::new(b"by heart".to_vec());
    let owner = scene.open(scene.store()).await.unwrap();
    repo::add_passphrase(&owner, "by-heart", &phrase, Params::CHEAP).await.unwrap();
    let writer = scene.writer("shop").await;
    let (kept, stolen) = (scene.add(NewKey::of(Role::Reader, "kept")).await, "stolen");
    let stolen_reader = scene.open_with(&scene.add(NewKey::of(Role::Reader, stolen)).await).await;
    let stolen_owner = scene.open_with(&scene.add(NewKey::of(Role::Owner, "lost-page")).await).await;
    let old = backup(&scene.open_with(&writer).await, &scene.source()).await.unwrap().snapshot.name();
    for name in [stolen, "lost-page"] {
        for slot in repo::list_keys(&owner).await.unwrap().slots(name).unwrap() {
            repo::remove_key(&owner, slot).await.unwrap();
        }
    }
    let log = Log::default();
    let recorded = Store::over(Recording::over(Arc::new(scene.beneath.clone()), &log));
    repo::rotate_owner(&scene.open(recorded).await.unwrap()).await.unwrap();
    let effects = log.effects();
    assert!(
        effects.len() < 10 && effects.iter().all(|effect| effect.key.starts_with("keys/")),
        "{effects:?}"
    );

    sow(&scene, 2);
    let new = backup(&scene.open_with(&writer).await, &scene.source()).await.unwrap();
    assert!(new.parent.is_some() && new.stats.new_chunks < 10, "the writer goes on where it was");
    let new = new.snapshot.name();
    let by_heart = Unlock::Passphrase(phrase);
    for unlock in [&scene.owner, &kept, &by_heart] {
        let opened = scene.open_with(unlock).await;
        scene.restore_whole(&opened, &new, "the new one").await;
        assert!(check(&opened).await.findings.is_empty(), "all of the old one too");
    }
    for thief in [&stolen_reader, &stolen_owner] {
        let outcome = scene.restore(thief, &new).await.unwrap();
        assert!(outcome.lost.iter().any(|(what, _)| what.ends_with("file 2")), "{outcome:?}");
        let outcome = scene.restore(thief, &old).await.unwrap();
        assert!(outcome.lost.is_empty(), "what it could read it reads: {outcome:?}");
    }
    // Whoever has the root alone learns nothing of the slots from now on.
    let listed = repo::list_keys(&stolen_owner).await.unwrap();
    assert_eq!((listed.keys.len(), listed.unreadable.len()), (0, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_among_the_slots_and_opens_for_nobody_is_named_and_stops_a_new_epoch() {
    let scene = Scene::new().await;
    let junk = "keys/00112233445566778899aabbccddeeff";
    scene.store().put(junk, vec![7; 4443].into()).await.unwrap();
    let owner = scene.open(scene.store()).await.unwrap();
    let listed = repo::list_keys(&owner).await.unwrap();
    assert_eq!((listed.keys.len(), listed.unreadable.len()), (1, 1));
    let refused = repo::rotate_owner(&owner).await.err().unwrap();
    assert!(
        matches!(refused, Error::UnreadableKey { .. }) && refused.to_string().contains(junk),
        "{refused}"
    );
    // Other keys are made all the same, and it can be removed by the beginning of its id.
    scene.writer("shop").await;
    for slot in repo::list_keys(&owner).await.unwrap().slots("00112233").unwrap() {
        repo::remove_key(&owner, slot).await.unwrap();
    }
    repo::rotate_owner(&owner).await.unwrap();
    assert_eq!(names(&scene).await, ["owner", "shop"]);
}

/// The story: whoever holds the bucket put the slot of a removed reader back, and the owner's next work on keys sealed it
/// again, with the seeds of the new epoch.
#[tokio::test(flavor = "multi_thread")]
async fn a_removed_slot_that_was_put_back_is_told_and_gets_nothing_new() {
    let scene = Scene::new().await;
    sow(&scene, 1);
    let owner = scene.open(scene.store()).await.unwrap();
    let of_bank = NewKey { domain: Some("bank".into()), ..NewKey::of(Role::Reader, "of-bank") };
    let mut back = Vec::new();
    for new in [NewKey::of(Role::Reader, "drill"), NewKey::of(Role::Writer, "shop"), of_bank] {
        let Unlock::KeyFile(file) = scene.add(new).await else { panic!("none has a passphrase") };
        let key = kist::format::object::slot_key(file.slot);
        let stored = scene.store().get(&key).await.unwrap();
        repo::remove_key(&owner, file.slot).await.unwrap();
        scene.store().put(&key, stored.clone()).await.unwrap();
        back.push((file, key, stored));
    }
    let kept = scene.add(NewKey::of(Role::Reader, "kept")).await;
    assert_eq!(repo::rotate_owner(&owner).await.unwrap(), 2, "the owner's and the kept one");
    let owner = scene.open(scene.store()).await.unwrap();
    scene.add(NewKey::of(Role::Maintainer, "nightly")).await;
    repo::rotate_key(&owner, "nightly").await.unwrap();
    let listed = repo::list_keys(&owner).await.unwrap();
    for (file, key, stored) in &back {
        assert_eq!(scene.store().get(key).await.unwrap(), *stored, "{key} was sealed again");
        let shown = listed.keys.iter().find(|key| key.slot == file.slot).unwrap();
        assert!(shown.is_revoked && !shown.is_old, "{shown:?}");
    }
    assert_eq!(listed.keys.iter().filter(|key| key.is_revoked).count(), back.len());
    sow(&scene, 2);
    let done = backup(&owner, &scene.source()).await.unwrap();
    scene.restore_whole(&scene.open_with(&kept).await, &done.snapshot.name(), "kept").await;
    let thief = scene.open_with(&Unlock::KeyFile(back[0].0.clone())).await;
    let outcome = scene.restore(&thief, &done.snapshot.name()).await.unwrap();
    assert!(outcome.lost.iter().any(|(what, _)| what.ends_with("file 2")), "{outcome:?}");
    // It goes as it went before.
    for (file, ..) in back {
        repo::remove_key(&owner, file.slot).await.unwrap();
    }
    assert_eq!(names(&scene).await, ["owner", "kept", "nightly", "nightly"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_state_of_a_slot_that_was_put_back_is_told_and_brought_up_to_date() {
    let scene = Scene::new().await;
    let owner = scene.open(scene.store()).await.unwrap();
    let Unlock::KeyFile(file) = scene.writer("shop").await else { panic!("it has a key file") };
    let key = kist::format::object::slot_key(file.slot);
    let old = scene.store().get(&key).await.unwrap();
    repo::rotate_owner(&owner).await.unwrap();
    let owner = scene.open(scene.store()).await.unwrap();
    let is_old = async || {
        let listed = repo::list_keys(&owner).await.unwrap();
        listed.keys.iter().filter(|key| key.is_old).map(|key| key.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(is_old().await, [""; 0]);
    scene.store().put(&key, old).await.unwrap();
    assert_eq!(is_old().await, ["shop"]);
    scene.writer("another").await;
    assert_eq!(is_old().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kit_opens_as_the_owner_until_it_is_removed() {
    let scene = Scene::new().await;
    let Unlock::KeyFile(file) = scene.add(NewKey::of(Role::Owner, "recovery")).await else { panic!() };
    let typed = file.to_kit().to_lowercase().replace('0', "o");
    let opened = scene.open_with(&Unlock::KeyFile(KeyFile::from_kit(&typed).unwrap())).await;
    repo::rotate_owner(&opened).await.unwrap();
    let opened = scene.open_with(&Unlock::KeyFile(file.clone())).await;
    let slot = repo::list_keys(&opened).await.unwrap().slots("recovery").unwrap()[0];
    assert_eq!(slot, file.slot);
    repo::remove_key(&scene.open(scene.store()).await.unwrap(), slot).await.unwrap();
    assert!(is_denied(repo::open(scene.store(), &scene.world(), &Unlock::KeyFile(file), None).await));
}

/// The keys of a repository with one of each role, and two owners.
struct Ring {
    readers: Vec<Unlock>,
    writer: Unlock,
    maintainer: Unlock,
}

impl Ring {
    async fn new(scene: &Scene) -> Self {
        let second = scene.add(NewKey::of(Role::Owner, "second")).await;
        let reader = scene.add(NewKey::of(Role::Reader, "drill")).await;
        let maintainer = scene.add(NewKey::of(Role::Maintainer, "nightly")).await;
        let writer = scene.writer("shop").await;
        Self { readers: vec![scene.owner.clone(), second, reader], writer, maintainer }
    }

    /// Every key opens, and what the writer writes everyone reads who may.
    async fn is_whole(&self, scene: &Scene, beneath: &InMemory, what: &str) {
        let open = async |unlock: &Unlock| {
            let opened = repo::open(over(beneath.clone()), &scene.world(), unlock, None).await;
            opened.unwrap_or_else(|error| panic!("{what}: {error}"))
        };
        let maintainer = open(&self.maintainer).await;
        // A file that no other run has backed up.
        fs::write(scene.source().join("fresh"), noise(3000, maintainer.world.now().0 as u64)).unwrap();
        let done = backup(&open(&self.writer).await, &scene.source()).await.unwrap();
        for unlock in &self.readers {
            scene.restore_whole(&open(unlock).await, &done.snapshot.name(), what).await;
        }
        assert!(crate::scene::check_structure(&maintainer).await.findings.is_empty(), "{what}");
    }
}

/// What is done with keys, to be cut short.
#[derive(Clone, Copy, Debug)]
enum Work {
    Epoch,
    Rotate,
    Add,
    Remove,
}

impl Work {
    async fn run(self, owner: &Repository) -> repo::Result<()> {
        match self {
            Work::Epoch => repo::rotate_owner(owner).await.map(drop),
            // The file of the rotated key is lost with the run: nobody has kept it.
            Work::Rotate => repo::rotate_key(owner, "shop").await.map(drop),
            Work::Add => repo::add_key(owner, &NewKey::of(Role::Reader, "one-more")).await.map(drop),
            Work::Remove => {
                let spare = repo::list_keys(owner).await?.slots("spare")?;
                repo::remove_key(owner, spare[0]).await
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_on_keys_killed_between_any_two_effects_leaves_every_key_file_opening() {
    let scene = Scene::new().await;
    sow(&scene, 1);
    let ring = Ring::new(&scene).await;
    scene.add(NewKey::of(Role::Reader, "spare")).await;
    let most = Cell::new(0);
    for work in [Work::Epoch, Work::Rotate, Work::Add, Work::Remove] {
        for end in [End::Before, End::After] {
            let run = async |store: Store| work.run(&scene.open(store).await.unwrap()).await.is_ok();
            killed_at_each(&scene.beneath, end, run, async |nth, beneath, is_done| {
                let what = format!("{work:?} killed at effect {nth}, {end:?}");
                ring.is_whole(&scene, &beneath, &what).await;
                if is_done {
                    most.set(most.get().max(nth));
                    return ControlFlow::Break(());
                }
                // By whichever owner: what was cut short is finished, and all goes on.
                for unlock in &ring.readers[..2] {
                    let store = over(beneath.clone());
                    let owner = repo::open(store, &scene.world(), unlock, None).await.unwrap();
                    let listed = repo::list_keys(&owner).await.unwrap();
                    assert!(listed.unreadable.is_empty(), "{what}: {:?}", listed.unreadable);
                    repo::rotate_owner(&owner).await.unwrap_or_else(|error| panic!("{what}: {error}"));
                    ring.is_whole(&scene, &beneath, &format!("{what}, then rotated")).await;
                }
                ControlFlow::Continue(())
            })
            .await;
        }
    }
    let most = most.get();
    assert!(most >= 7, "a new epoch has {most} effects");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_added_after_a_new_epoch_was_cut_short_finishes_it_first() {
    let scene = Scene::new().await;
    sow(&scene, 1);
    let ring = Ring::new(&scene).await;
    for nth in 1..9 {
        let what = format!("cut short after {nth} effects");
        let beneath = scene.beneath.fork();
        let dying = scene.open(killed(&beneath, nth, End::Before)).await.unwrap();
        let _ = repo::rotate_owner(&dying).await;
        // By the owner whose slot may not have the new epoch yet.
        let second = repo::open(over(beneath.clone()), &scene.world(), &ring.readers[1], None).await.unwrap();
        let new = repo::add_key(&second, &NewKey::of(Role::Writer, "new")).await.unwrap();
        let new = Ring {
            writer: Unlock::KeyFile(new),
            readers: ring.readers.clone(),
            maintainer: ring.maintainer.clone(),
        };
        new.is_whole(&scene, &beneath, &what).await;
        ring.is_whole(&scene, &beneath, &what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_whose_file_was_lost_is_done_again_and_leaves_one_slot() {
    let scene = Scene::new().await;
    let writer = scene.writer("shop").await;
    let owner = scene.open(scene.store()).await.unwrap();
    repo::rotate_key(&owner, "shop").await.unwrap();
    scene.open_with(&writer).await;
    let rotated = repo::rotate_key(&owner, "shop").await.unwrap();
    assert_eq!((rotated.info.serial, rotated.replaced.len()), (2, 2));
    for slot in rotated.replaced {
        repo::remove_key(&owner, slot).await.unwrap();
    }
    assert_eq!(names(&scene).await, ["owner", "shop"]);
    assert!(is_denied(repo::open(scene.store(), &scene.world(), &writer, None).await));
    scene.open_with(&Unlock::KeyFile(rotated.key)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_have_an_end_and_say_so() {
    let scene = Scene::new().await;
    let owner = async || scene.open(scene.store()).await.unwrap();
    for _ in 1..kist::format::limits::EPOCHS {
        repo::rotate_owner(&owner().await).await.unwrap();
    }
    let full = repo::rotate_owner(&owner().await).await.err().unwrap();
    assert!(matches!(full, Error::TooLarge { .. }), "{full}");
    sow(&scene, 1);
    let done = backup(&owner().await, &scene.source()).await.unwrap();
    let reader = scene.open_with(&scene.add(NewKey::of(Role::Reader, "late")).await).await;
    scene.restore_whole(&reader, &done.snapshot.name(), "after 64 epochs").await;
}
