//! `kist copy`: from one repository into another, each with its own key.

use std::fs;
use std::path::Path;

use crate::kist::{Kist, grow};

fn copy<'a>(from: &'a Kist, more: &[&'a str]) -> Vec<String> {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let from =
        ["--from-repo".into(), text(&from.repo), "--from-key-file".into(), text(&from.path("owner.key"))];
    ["copy".into()].into_iter().chain(from).chain(more.iter().map(|&arg| arg.to_owned())).collect()
}

fn args(owned: &[String]) -> Vec<&str> {
    owned.iter().map(String::as_str).collect()
}

#[test]
fn snapshots_are_copied_once_and_restored_from_the_copy() {
    let (first, second) = (Kist::new(), Kist::new());
    let source = first.path("source");
    grow(&source, 1);
    let old = first.backup(&source);
    grow(&source, 2);
    let new = first.backup(&source);
    let would = second.json(0, &args(&copy(&first, &["--all", "--dry-run"])), &[]);
    let named = |objects: &[serde_json::Value], kind: &str| -> Vec<String> {
        let of_kind = objects.iter().filter(|object| object["type"] == kind);
        of_kind.map(|object| object["snapshot"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(named(&would, "toCopy"), [old.clone(), new.clone()]);
    assert_eq!(second.json(0, &["snapshots"], &[]).len(), 0);
    // One, by the beginning of its id; then the rest.
    let copied = second.json(0, &args(&copy(&first, &[&new])), &[]);
    assert_eq!(named(&copied, "copied"), std::slice::from_ref(&new));
    let here = copied.iter().find(|object| object["type"] == "copied").unwrap();
    second.restores(here["copy"].as_str().unwrap(), &source);
    second.restores("latest", &source);
    let copied = second.json(0, &args(&copy(&first, &["--all"])), &[]);
    assert_eq!((named(&copied, "copied"), named(&copied, "passed")), (vec![old], vec![new]));
    let run = second.fine(&args(&copy(&first, &["--all"])), &[]);
    assert_eq!(run.out, "copied 0 snapshots; 2 were there\n");
    let times = |kist: &Kist| -> Vec<_> {
        let listed = kist.json(0, &["snapshots"], &[]);
        listed.iter().map(|snapshot| snapshot["timeNanos"].clone()).collect()
    };
    assert_eq!(times(&first), times(&second));
    second.fine(&["check", "--read-data"], &[]);
    let target = second.path("by time");
    let time = first.json(0, &["snapshots"], &[])[0]["time"].as_str().unwrap().to_owned();
    second.ends(0, &["ls", "latest", "--at", &time.replace('Z', ".999999999Z")], &[]);
    assert!(!target.exists());
}

#[test]
fn what_a_damaged_source_can_t_give_is_told_and_ends_with_3() {
    let (first, second) = (Kist::new(), Kist::new());
    let source = first.path("source");
    grow(&source, 1);
    first.backup(&source);
    let packs = crate::compare::paths(&first.repo.join("packs"));
    let size = |path: &&std::path::PathBuf| fs::metadata(first.repo.join("packs").join(path)).unwrap().len();
    let of_files = packs.iter().filter(|path| first.repo.join("packs").join(path).is_file());
    fs::remove_file(first.repo.join("packs").join(of_files.max_by_key(size).unwrap())).unwrap();
    let run = second.ends(3, &args(&copy(&first, &["latest"])), &[]);
    assert!(run.err.contains("inner/large") && run.out.contains("INCOMPLETE"), "{run:?}");
    let again = second.ends(3, &args(&copy(&first, &["latest"])), &[]);
    assert!(again.err.contains("--again"), "{again:?}");
    let listed = second.json(0, &["snapshots"], &[]);
    assert_eq!((listed.len(), &listed[0]["complete"]), (1, &false.into()));
}

#[test]
fn what_is_asked_wrongly_is_refused() {
    let (first, second) = (Kist::new(), Kist::new());
    second.ends(2, &["copy", "latest"], &[]);
    second.ends(2, &args(&copy(&first, &[])), &[]);
    second.ends(2, &args(&copy(&first, &["latest"])), &[]);
    let run = first.ends(2, &args(&copy(&first, &["--all"])), &[]);
    assert!(run.err.contains("one and the same"), "{run:?}");
    // A writer can't read what it would have to copy.
    let key = first.path("writer.key");
    first.fine(&["key", "add", "--role", "writer", "--name", "w", "--out"], &[&key]);
    let mut wrong = copy(&first, &["--all"]);
    wrong[4] = key.to_str().unwrap().to_owned();
    second.ends(5, &args(&wrong), &[]);
}

#[test]
fn a_repository_is_made_like_another_by_whoever_has_that_one_s_owner() {
    let first = Kist::new();
    let source = first.path("source");
    grow(&source, 1);
    first.backup(&source);
    let writer = first.path("writer.key");
    first.fine(&["key", "add", "--role", "writer", "--name", "w", "--out"], &[&writer]);
    let mut second = Kist::without_repository();
    let own = second.path("owner.key");
    let made = |key: &Path| -> Vec<String> {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let args = ["init".into(), "--new-key-file".into(), text(&own), "--like".into(), text(&first.repo)];
        args.into_iter().chain(["--like-key-file".into(), text(key)]).collect()
    };
    let init = |key: &Path| {
        let args = made(key);
        let mut command = second.command(&self::args(&args), &[]);
        second.run(command.env_remove("KIST_KEY_FILE"))
    };
    assert_eq!(init(&writer).code, 5);
    assert!(!second.repo.exists(), "nothing is made");
    assert_eq!(init(&first.path("owner.key")).code, 0);
    second.use_key(&own.clone());
    second.fine(&args(&copy(&first, &["--all"])), &[]);
    std::fs::rename(source.join("inner/large"), source.join("inner/renamed")).unwrap();
    let done = second.json(0, &["backup", "files"], &[&source]);
    // Only nodes are new: the file is read, and is there already.
    assert!(done.last().unwrap()["counts"]["newBytes"].as_u64().unwrap() < 10_000, "{done:?}");
    second.restores("latest", &source);
}
