//! What kist has repaired comes out of the reader whole and without an alarm, and what is damaged is read where
//! nothing else is left.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::compare::{differences, paths};
use crate::damage::flip;
use crate::programs::ended;
use crate::pruned::{newest_checkpoint, pruned};
use crate::scene::Scene;
use crate::trees::pseudo_random;

/// A repository with a prune behind it, and its snapshots as the reader gave them when nothing was damaged.
struct Past {
    scene: Scene,
    snapshots: [(String, TempDir, PathBuf); 2],
}

impl Past {
    fn new() -> Self {
        let scene = Scene::new();
        let [writer, maintainer] = ["writer", "maintainer"].map(|role| scene.key_of(role));
        let names = pruned(&scene, &writer, &maintainer);
        let snapshots = names.map(|name| {
            let (run, target, copy) = scene.restore(&["--snapshot", &name]);
            assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
            (name, target, copy)
        });
        Self { scene, snapshots }
    }

    fn is_whole(&self, what: &str) {
        self.snapshots.iter().for_each(|snapshot| self.has(snapshot, what));
    }

    fn has(&self, (name, _target, was): &(String, TempDir, PathBuf), what: &str) {
        let (run, _again, copy) = self.scene.restore(&["--snapshot", name]);
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{what}: {run:?}");
        assert_eq!(differences(was, &copy), Vec::<String>::new(), "{what}");
    }

    /// The objects of a folder of the repository.
    fn objects(&self, folder: &str) -> Vec<PathBuf> {
        let folder = self.scene.repo.join(folder);
        let all = paths(&folder).into_iter().map(|path| folder.join(path));
        all.filter(|path| path.is_file()).collect()
    }

    fn entry(&self, slot: u64) -> PathBuf {
        self.scene.repo.join(format!("gc/{slot}"))
    }
}

fn flip_end(path: &Path) {
    flip(path, fs::metadata(path).unwrap().len() - 1);
}

const ALL: &str = "all at once";

/// What is damaged, and how.
type Harm = (&'static str, fn(&Past));

/// The log behind the checkpoint and what that stands for, the checkpoint, its parts, and the tables of all packs.
#[test]
fn what_kist_has_repaired_comes_back_whole_and_without_an_alarm() {
    let harms: [Harm; 5] = [
        ("entries that the checkpoint stands for", |past| {
            fs::remove_file(past.entry(1)).unwrap();
            flip_end(&past.entry(newest_checkpoint(&past.scene.repo) - 1));
        }),
        ("the entry of the checkpoint, and the one behind it", |past| {
            let newest = newest_checkpoint(&past.scene.repo);
            flip_end(&past.entry(newest));
            fs::remove_file(past.entry(newest + 1)).unwrap();
        }),
        ("the checkpoint", |past| past.objects("checkpoints").iter().for_each(|path| flip_end(path))),
        ("its parts", |past| past.objects("generations").iter().for_each(|path| flip_end(path))),
        ("the packs", |past| past.objects("packs").iter().for_each(|path| flip_end(path))),
    ];
    let all_at_once = |past: &Past| harms.iter().for_each(|(_, harm)| harm(past));
    let each = harms.iter().map(|(what, harm)| (*what, harm as &dyn Fn(&Past)));
    for (what, harm) in each.chain([(ALL, &all_at_once as &dyn Fn(&Past))]) {
        let past = Past::new();
        harm(&past);
        // Where the entry is lost that has forgotten a snapshot, nothing shows that its commit was let go of.
        let cut: &[&str] = if what == ALL { &["--cut"] } else { &[] };
        let run = past.scene.does(&[&["repair", "--silence", "1s"], cut].concat());
        assert!(run.out.contains("every snapshot is whole"), "{what}: {run:?}");
        past.is_whole(&format!("{what}: {}", run.out));
    }
}

/// Somebody is still at work, so the history has not begun anew yet; but the owner has said that he knows.
#[test]
fn what_is_wrong_before_a_renew_is_no_alarm_even_before_it_is_published() {
    let past = Past::new();
    let [stays, last] = &past.snapshots;
    let find = |name: &str| past.objects("commits").into_iter().find(|path| path.ends_with(name)).unwrap();
    let (commit, aside) = (find(&last.0), past.scene.dir.path().join("aside"));
    fs::rename(&commit, &aside).unwrap();
    let newest = newest_checkpoint(&past.scene.repo);
    // The last snapshot has seen it.
    let head = past.objects("gc").len() as u64;
    assert!(head > newest);
    flip_end(&past.entry(head));
    let (run, _target, _) = past.scene.restore(&["--snapshot", &stays.0]);
    let alarm = format!("alarm: entry {head} of the log does not hold");
    assert!(run.code == 4 && run.err.contains(&alarm), "{run:?}");

    let run = ended(&mut past.scene.kist(&["repair", "--wait", "1s"]));
    assert!(run.code == 4 && run.out.contains("1 backups are still at work"), "{run:?}");
    assert_eq!(newest_checkpoint(&past.scene.repo), newest);
    past.has(stays, "while a backup is at work");
    fs::rename(&aside, &commit).unwrap();
    past.is_whole("when it has committed");

    past.scene.does(&["repair"]);
    assert!(newest_checkpoint(&past.scene.repo) > newest);
    past.is_whole("when all is done");
    // A renew answers for nothing that comes later.
    past.scene.does(&["forget", &stays.0]);
    past.scene.does(&["recall", &stays.0]);
    flip_end(&past.entry(newest_checkpoint(&past.scene.repo) + 1));
    let (run, _target, _) = past.scene.restore(&["--snapshot", &last.0]);
    assert!(run.code == 4 && run.err.contains("alarm: entry"), "{run:?}");
}

#[test]
fn a_damaged_pack_is_read_where_nothing_else_is_left_and_only_there() {
    let scene = Scene::new();
    let packs = || {
        let all = paths(&scene.repo).into_iter().filter(|path| path.starts_with("packs"));
        all.filter(|path| scene.repo.join(path).is_file()).collect::<BTreeSet<PathBuf>>()
    };
    let other = scene.source.join("other");
    let [older, old] = [2, 3].map(|seed| {
        fs::write(&other, pseudo_random(200_000, seed)).unwrap();
        scene.backup()
    });
    fs::remove_file(&other).unwrap();
    fs::write(scene.source.join("file"), pseudo_random(200_000, 1)).unwrap();
    let before = packs();
    let first = scene.backup();
    let is_of_data = |pack: &&PathBuf| fs::metadata(scene.repo.join(pack)).unwrap().len() > 200_000;
    let pack = packs().difference(&before).find(is_of_data).expect("it holds the file").clone();
    let publish = |unneeded: &str| {
        scene.does(&["forget", unneeded]);
        scene.does(&["prune"]);
    };
    // A generation names it then, and is read before what is backed up later.
    publish(&older);

    let (path, aside) = (scene.repo.join(&pack), scene.dir.path().join("aside"));
    fs::rename(&path, &aside).unwrap();
    let run = ended(&mut scene.kist(&["repair"]));
    assert!(run.code == 4 && run.out.contains("1 packs count as damaged now"), "{run:?}");
    let (run, _target, _) = scene.restore(&["--snapshot", &first]);
    assert_eq!(run.code, 4, "it is missing: {run:?}");
    fs::rename(&aside, &path).unwrap();
    assert!(scene.opened_by_restore(&first).contains(&pack), "nothing else is left");
    // A checkpoint stands for what the log says of it.
    publish(&old);
    assert!(scene.opened_by_restore(&first).contains(&pack), "nothing else is left");
    scene.comes_back(&first);
    scene.backup();
    let opened = scene.opened_by_restore(&first);
    assert!(!opened.contains(&pack) && opened.iter().any(|path| path.starts_with("packs")), "{opened:?}");
    scene.comes_back(&first);
}
