//! `kist repair`: what it says, and how it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::kist::{Kist, grow};

/// The objects of a folder of the repository, the longest first.
fn objects(kist: &Kist, folder: &str) -> Vec<PathBuf> {
    let folder = kist.repo.join(folder);
    let paths = crate::compare::paths(&folder).into_iter().map(|path| folder.join(path));
    let mut files: Vec<PathBuf> = paths.filter(|path| path.is_file()).collect();
    files.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    files
}

fn written(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

/// Changes a bit, and nothing else that can be seen.
fn flip(path: &Path, at: impl FnOnce(usize) -> usize) {
    let time = written(path);
    let mut bytes = fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
    set_written(path, time);
}

fn set_written(path: &Path, time: SystemTime) {
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_plan_changes_nothing_and_a_repair_brings_back_what_is_there() {
    let kist = Kist::new();
    let source = kist.path("source");
    grow(&source, 1);
    let snapshot = kist.backup(&source);
    assert_eq!(kist.fine(&["repair"], &[]).out, "nothing is damaged\n");
    objects(&kist, "index").iter().for_each(|path| fs::remove_file(path).unwrap());
    let damaged = objects(&kist, "packs").swap_remove(0);
    flip(&damaged, |len| len - 1);
    let there = || {
        let mut paths = crate::compare::paths(&kist.repo);
        // What was read is remembered, as by any check.
        paths.retain(|path| !path.starts_with("checks"));
        paths
    };
    let before = there();
    let plan = kist.ends(4, &["repair", "--dry-run"], &[]);
    assert!(plan.out.contains("would look into") && plan.out.ends_with("nothing was changed\n"), "{plan:?}");
    assert_eq!(there(), before);
    let told = kist.fine(&["repair"], &[]);
    assert!(told.out.contains("are in the index again"), "{told:?}");
    assert!(told.out.ends_with("every snapshot is whole; `kist prune` deletes what is of no use any more\n"));
    let oldest = objects(&kist, "packs").into_iter().find(|path| *path != damaged).unwrap();
    set_written(&oldest, written(&oldest) - Duration::from_secs(3600));
    kist.fine(&["check", "--read-data"], &[]);
    kist.restores(&snapshot, &source);
    assert_eq!(kist.fine(&["repair"], &[]).out, "nothing is damaged\n");
    // What was read just now is not read again, but if that is asked for.
    flip(&oldest, |len| len / 2);
    assert_eq!(kist.fine(&["repair"], &[]).out, "nothing is damaged\n");
    let all = kist.run(&mut kist.command(&["repair", "--older-than", "0d", "--dry-run"], &[]));
    assert!(all.code == 4 && all.out.contains("damaged: packs/"), "{all:?}");
    flip(&oldest, |len| len / 2);
    kist.fine(&["prune"], &[]);
    kist.restores(&snapshot, &source);
}

#[test]
fn what_is_lost_is_named_and_cut_out_when_that_is_asked_for() {
    let kist = Kist::new();
    let source = kist.path("source");
    grow(&source, 1);
    let snapshot = kist.backup(&source);
    fs::remove_file(&objects(&kist, "packs")[0]).unwrap();
    let run = kist.ends(4, &["repair"], &[]);
    assert!(run.out.contains(&format!("1 snapshots are still not whole: {snapshot}")), "{run:?}");
    assert!(run.out.contains("--from-repo") && run.out.contains("--cut"), "{run:?}");
    let cut = kist.json(0, &["repair", "--cut"], &[]);
    let of = |kind: &str| cut.iter().find(|object| object["type"] == kind).unwrap();
    assert_eq!(of("cut")["snapshot"], snapshot.as_str());
    assert!(of("cut")["lost"].as_u64().unwrap() > 0, "{cut:?}");
    assert_eq!(of("repair")["stillLost"], serde_json::json!([]));
    let listed = kist.json(0, &["snapshots"], &[]);
    assert_eq!((listed.len(), &listed[0]["complete"]), (1, &false.into()), "{listed:?}");
    kist.fine(&["check"], &[]);
    kist.fine(&["prune"], &[]);
    let next = kist.backup(&source);
    kist.restores(&next, &source);
}

#[test]
fn a_log_that_does_not_hold_begins_anew_and_this_machine_goes_on() {
    let kist = Kist::new();
    let source = kist.path("source");
    grow(&source, 1);
    kist.backup(&source);
    grow(&source, 2);
    let last = kist.backup(&source);
    kist.fine(&["forget", "--keep-last", "1"], &[]);
    kist.fine(&["prune"], &[]);
    // One more, which no checkpoint stands for.
    kist.fine(&["hold", "add", &last, "--note", "audit"], &[]);
    let entries = objects(&kist, "gc");
    assert!(entries.len() >= 3, "{entries:?}");
    entries.iter().for_each(|path| flip(path, |len| len / 2));
    let alarm = kist.ends(4, &["snapshots"], &[]);
    assert!(alarm.err.contains("kist repair"), "the alarm says what to do: {alarm:?}");
    kist.ends(4, &["ls", "latest"], &[]);
    kist.restores(&last, &source);
    let plan = kist.ends(4, &["repair", "--dry-run"], &[]);
    assert!(plan.out.contains("the history does not hold"), "{plan:?}");
    let told = kist.fine(&["repair"], &[]);
    assert!(told.out.contains("left behind: "), "{told:?}");
    kist.fine(&["check", "--read-data"], &[]);
    kist.restores(&last, &source);
    kist.backup(&source);
    kist.fine(&["prune"], &[]);
}

#[test]
fn a_check_reads_the_part_that_it_is_told_to_and_only_what_was_not_read_since() {
    let kist = Kist::new();
    let source = kist.path("source");
    for seed in 1..12 {
        grow(&source, seed);
        kist.backup(&source);
    }
    let packs = objects(&kist, "packs");
    let newest = written(&packs[0]);
    for (number, path) in packs.iter().enumerate() {
        set_written(path, newest - Duration::from_secs(2 * number as u64));
    }
    let packs = packs.len() as u64;
    assert!(packs > 20, "{packs}");
    let read = |args: &[&str]| -> u64 {
        let told = kist.json(0, &[&["check"], args].concat(), &[]);
        told.last().unwrap()["readPacks"].as_u64().unwrap()
    };
    assert_eq!(read(&[]), 0);
    let part = read(&["--read-data=40%"]);
    assert!(0 < part && part < packs, "{part} of {packs}");
    // One that came in the second of the newest may not have been listed: the newest itself is read again.
    let rest = read(&["--older-than", "1h"]);
    assert!((packs..=packs + 1).contains(&(part + rest)), "{part} and {rest} of {packs}");
    assert_eq!(read(&["--read-data"]), packs);
    assert_eq!(read(&["--read-data", "--older-than", "1h"]), 1);
}

#[test]
fn only_the_owner_repairs_and_the_others_are_told() {
    let mut kist = Kist::new();
    let key = kist.path("writer.key");
    let out = key.to_str().unwrap().to_owned();
    kist.fine(&["key", "add", "--role", "writer", "--name", "w", "--out", &out], &[]);
    kist.use_key(&key);
    let run = kist.ends(5, &["repair"], &[]);
    assert!(run.err.contains("owner's"), "{run:?}");
    kist.ends(2, &["repair", "--older-than", "soon"], &[]);
    kist.ends(2, &["repair", "--structure-only", "--older-than", "1d"], &[]);
}
