//! A repository with a prune behind it: what stayed comes back with every key that reads, and the log, its
//! checkpoints and generations are held together.

use std::fs;
use std::path::Path;

use kist::format::index::{IndexDelta, IndexPack, IndexRecord};
use kist::format::object;
use kist::format::pack::Toc;
use kist::repo::{self, Index};

use crate::compare::{differences, paths};
use crate::damage::{assert_right_or_absent, flip};
use crate::programs::opened;
use crate::scene::Scene;
use crate::trees::pseudo_random;

fn write(scene: &Scene, names: std::ops::Range<u64>, seed: u64) {
    for name in names {
        let content = pseudo_random(200_000, 100 * seed + name);
        fs::write(scene.source.join(format!("file {name}")), content).unwrap();
    }
}

/// Snapshots of an owner and a writer, two of them forgotten, then a prune that packs anew, and one more backup:
/// its commit, its delta and a forget lie behind the checkpoint. Gives the names of the last two snapshots.
pub fn pruned(scene: &Scene, writer: &str, maintainer: &str) -> [String; 2] {
    write(scene, 0..6, 1);
    let first = scene.backup();
    let second = scene.backup_as(writer);
    write(scene, 0..4, 2);
    let stays = scene.backup_as(writer);
    scene.does(&["--key-file", maintainer, "forget", &first, &second]);
    scene.does(&["--key-file", maintainer, "prune", "--min-used", "95"]);
    let third = scene.backup();
    scene.does(&["--key-file", maintainer, "forget", &third]);
    scene.does(&["key", "rotate", "--owner"]);
    write(scene, 5..7, 3);
    [stays, scene.backup_as(writer)]
}

#[test]
fn what_a_prune_left_comes_back_with_every_key_that_reads_and_with_no_other() {
    let scene = Scene::new();
    let [writer, maintainer, reader] = ["writer", "maintainer", "reader"].map(|role| scene.key_of(role));
    let kit = scene.dir.path().join("kit").to_str().unwrap().to_owned();
    scene.does(&["key", "recovery", "--out", &kit]);
    let [stays, last] = pruned(&scene, &writer, &maintainer);

    for key in [["--key-file", &reader], ["--kit", &kit]] {
        let (run, _target, copy) = scene.restore(&[key[0], key[1], "--snapshot", &last]);
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
        assert_eq!(differences(&scene.source, &copy), Vec::<String>::new());
    }
    scene.comes_back("latest");
    let (run, _target, copy) = scene.restore(&["--snapshot", &stays]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(fs::read(copy.join("file 0")).unwrap() == pseudo_random(200_000, 200));
    assert!(fs::read(copy.join("file 5")).unwrap() == pseudo_random(200_000, 105));
    for key in [&writer, &maintainer] {
        let (run, _target, copy) = scene.restore(&["--key-file", key, "--snapshot", &last]);
        assert!(run.code == 1 && run.err.contains("opens no content"), "{run:?}");
        assert!(!copy.exists());
    }
}

#[test]
fn what_is_forgotten_is_no_snapshot_and_is_one_again_when_it_is_recalled() {
    let scene = Scene::new();
    write(&scene, 0..2, 1);
    let name = scene.backup();
    scene.does(&["forget", &name]);
    let (run, _target, _) = scene.restore(&["--snapshot", &name]);
    assert!(run.code == 1 && run.err.contains("0 snapshots"), "{run:?}");
    scene.does(&["recall", &name]);
    scene.comes_back(&name);
}

#[test]
fn snapshots_of_a_domain_come_back_with_its_name() {
    let scene = Scene::new();
    write(&scene, 0..2, 1);
    scene.does(&["--no-catalog", "--domain", "shop", "backup", "files", scene.source.to_str().unwrap()]);
    let (run, _target, _) = scene.restore(&[]);
    assert!(run.code == 1 && run.err.contains("0 snapshots"), "{run:?}");
    let (run, _target, copy) = scene.restore(&["--domain", "shop"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(differences(&scene.source, &copy), Vec::<String>::new());
}

/// The slot of the newest checkpoint. What lies below it in the log is not read any more.
pub fn newest_checkpoint(repo: &Path) -> u64 {
    let slots = fs::read_dir(repo.join("checkpoints")).unwrap();
    slots.map(|slot| slot.unwrap().file_name().to_str().unwrap().parse().unwrap()).max().unwrap()
}

#[test]
fn a_changed_byte_in_the_log_a_checkpoint_or_a_generation_is_named_and_costs_no_wrong_byte() {
    let scene = Scene::new();
    let [writer, maintainer] = ["writer", "maintainer"].map(|role| scene.key_of(role));
    let [_, last] = pruned(&scene, &writer, &maintainer);
    let newest = newest_checkpoint(&scene.repo);
    let is_read = |path: &Path| {
        let mut parts = path.iter().map(|part| part.to_str().unwrap());
        match parts.next() {
            Some("gc") => parts.next().unwrap().parse::<u64>().unwrap() >= newest,
            kind => matches!(kind, Some("checkpoints" | "generations")),
        }
    };
    let objects =
        paths(&scene.repo).into_iter().filter(|path| scene.repo.join(path).is_file() && is_read(path));
    let objects: Vec<_> = objects.collect();
    assert!(objects.len() >= 5, "{objects:?}");
    for object in objects {
        let path = scene.repo.join(&object);
        for at in [0, fs::metadata(&path).unwrap().len() - 1] {
            flip(&path, at);
            let (run, _target, copy) = scene.restore(&["--snapshot", &last]);
            flip(&path, at);
            assert!([0, 1, 4].contains(&run.code) && !run.err.is_empty(), "{object:?} at {at}: {run:?}");
            // What a part of the index says, a delta behind the checkpoint may say too.
            match run.code {
                0 => assert_eq!(differences(&scene.source, &copy), Vec::<String>::new(), "{object:?}"),
                _ => assert_right_or_absent(&scene.source, &copy),
            }
        }
    }
    scene.comes_back(&last);
}

#[test]
fn a_log_that_ends_early_or_has_a_hole_and_a_commit_that_is_missing_raise_an_alarm() {
    let scene = Scene::new();
    let [writer, maintainer] = ["writer", "maintainer"].map(|role| scene.key_of(role));
    let [stays, last] = pruned(&scene, &writer, &maintainer);
    let commit = |name: &str| {
        let mut all = paths(&scene.repo).into_iter();
        let key = all.find(|path| path.starts_with("commits") && path.ends_with(name)).unwrap();
        key.to_str().unwrap().to_owned()
    };
    write(&scene, 6..7, 4);
    let after = scene.backup_as(&writer);
    let end = fs::read_dir(scene.repo.join("gc")).unwrap().count() as u64;
    let hole = newest_checkpoint(&scene.repo) + 1;
    assert!(hole < end, "the hole is no end");
    let without = [
        (format!("gc/{end}"), "shortened".to_owned()),
        (format!("gc/{hole}"), format!("entry {hole} of the log is missing")),
        (commit(&stays), "the checkpoint has seen it".to_owned()),
        (commit(&last), "the commit before that of".to_owned()),
    ];
    for (key, alarm) in without {
        let (path, aside) = (scene.repo.join(&key), scene.dir.path().join("aside"));
        fs::rename(&path, &aside).unwrap();
        let (run, _target, _) = scene.restore(&["--snapshot", &after]);
        fs::rename(&aside, &path).unwrap();
        assert!([1, 4].contains(&run.code) && run.err.contains(&alarm), "{key}: {run:?}");
    }
    scene.comes_back(&after);
}

/// Names all packs of a writer's again, in its name: each record as another one of the pack, and the pack as longer than
/// it is.
#[tokio::main]
async fn name_falsely(scene: &Scene, writer: &str) -> usize {
    let thief = opened(&scene.repo, Path::new(writer)).await;
    let mut packs = Vec::new();
    for info in Index::load(&thief).await.unwrap().packs().iter().filter(|info| info.own) {
        let bytes = thief.store.get(&object::pack_key(info.id)).await.unwrap();
        let toc = Toc::open(&thief.keys.structure, thief.config.repo, info.id, &bytes).unwrap();
        let others = toc.records.iter().cycle().skip(1);
        let turned = toc.records.iter().zip(others);
        let records =
            turned.map(|(record, other)| IndexRecord { id: *other.id.bytes(), len: record.len + 1 });
        packs.push(IndexPack {
            id: info.id,
            kind: info.kind,
            len: info.len + toc.records.len() as u32,
            hash: info.hash,
            origin: info.origin,
            verified: false,
            sessions: info.sessions,
            records: records.collect(),
        });
    }
    let count = packs.len();
    let begun = repo::begin(&thief, 1).await.unwrap();
    let key = object::index_key(begun.session, 0, 0);
    let plain = IndexDelta { packs }.encode(&begun.lanes[0].signing, thief.config.repo, &key);
    let keys = &thief.keys;
    let sealed = object::seal_object(&keys.structure, thief.world.bytes(), thief.config.repo, &key, plain);
    thief.store.put(&key, sealed.into()).await.unwrap();
    count
}

#[test]
fn what_a_stolen_key_says_falsely_of_its_packs_stops_no_restore_before_and_after_a_prune() {
    let scene = Scene::new();
    let [writer, maintainer] = ["writer", "maintainer"].map(|role| scene.key_of(role));
    write(&scene, 0..3, 1);
    let first = scene.backup_as(&writer);
    write(&scene, 3..6, 2);
    let stays = scene.backup_as(&writer);
    assert!(name_falsely(&scene, &writer) > 3);
    scene.comes_back(&stays);
    scene.does(&["--key-file", &maintainer, "forget", &first]);
    scene.does(&["--key-file", &maintainer, "prune", "--min-used", "1", "--silence", "1s"]);
    let generations = paths(&scene.repo.join("generations"));
    assert!(!generations.is_empty());
    scene.comes_back(&stays);
}
