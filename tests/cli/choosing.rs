//! Which snapshot is meant: never a guess, and the same with and without the catalog.

use std::collections::BTreeMap;
use std::fs;

use crate::kist::{Kist, grow};

#[test]
fn a_prefix_that_fits_two_snapshots_is_refused_with_both() {
    let kist = Kist::new();
    let source = kist.path("source");
    fs::create_dir(&source).unwrap();
    let mut by_digit: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // Of seventeen, two begin alike.
    let (digit, two) = loop {
        let name = kist.backup(&source);
        by_digit.entry(name[..1].to_owned()).or_default().push(name);
        if let Some(found) = by_digit.iter().find(|(_, names)| names.len() == 2) {
            break found;
        }
    };
    for verb in [&["ls", digit.as_str()][..], &["restore", "files", digit, "/nowhere"]] {
        let run = kist.ends(2, verb, &[]);
        assert!(two.iter().all(|name| run.err.contains(name)), "{run:?}");
    }
    for name in two {
        kist.fine(&["ls", name], &[]);
    }
    kist.ends(2, &["ls", "zz"], &[]);
}

#[test]
fn latest_of_several_sources_is_refused_with_the_list() {
    let kist = Kist::new();
    let (a, b) = (kist.path("a"), kist.path("b"));
    grow(&a, 1);
    grow(&b, 2);
    kist.backup(&a);
    kist.backup(&b);
    let target = kist.path("target");
    let run = kist.ends(2, &["restore", "files", "latest"], &[&target]);
    assert!(!target.exists());
    assert_eq!(run.err.matches("--source").count(), 2, "{run:?}");
    let ids = run.err.lines().filter_map(|line| {
        let (_, rest) = line.split_once("--source ")?;
        let (id, what) = rest.split_once(' ')?;
        Some((id.to_owned(), what.trim().to_owned()))
    });
    let ids: Vec<_> = ids.collect();
    for (source, path) in [(&a, a.display().to_string()), (&b, b.display().to_string())] {
        let (id, _) = ids.iter().find(|(_, what)| what.ends_with(&path)).unwrap();
        let target = tempfile::tempdir().unwrap();
        let what = format!("latest:{path}");
        kist.fine(&["restore", "files", "--source", id, &what], &[target.path()]);
        assert_eq!(crate::compare::differences(source, target.path()), Vec::<String>::new());
    }
}

#[test]
fn each_of_three_points_in_time_comes_back() {
    let kist = Kist::new();
    let source = kist.path("source");
    for seed in 1..4 {
        grow(&source, seed);
        kist.backup(&source);
        let copy = kist.path(&format!("copy {seed}"));
        let copied = std::process::Command::new("cp").arg("-a").args([&source, &copy]).status();
        assert!(copied.unwrap().success());
    }
    let listed = kist.json(0, &["snapshots"], &[]);
    let times: Vec<i128> = listed.iter().map(|one| one["timeNanos"].as_i64().unwrap().into()).collect();
    let at = |nanos| jiff::Timestamp::from_nanosecond(nanos).unwrap().to_string();
    let what = format!("latest:{}", source.display());
    // At the very time, and just before the next one.
    let moments = [(1, times[0]), (1, times[1] - 1), (2, times[1]), (2, times[2] - 1), (3, times[2])];
    for (seed, nanos) in moments {
        let target = tempfile::tempdir().unwrap();
        kist.fine(&["restore", "files", "--at", &at(nanos), &what], &[target.path()]);
        let copy = kist.path(&format!("copy {seed}"));
        assert_eq!(crate::compare::differences(&copy, target.path()), Vec::<String>::new(), "{seed}");
    }
    kist.ends(2, &["restore", "files", "--at", &at(times[0] - 1), &what], &[&kist.path("target")]);
}

#[test]
fn without_the_catalog_the_answers_are_the_same() {
    let kist = Kist::new();
    let (a, b) = (kist.path("a"), kist.path("b"));
    for seed in 1..3 {
        grow(&a, seed);
        grow(&b, seed + 10);
        kist.fine(&["backup", "files", "--tag", "nightly"], &[&a]);
        kist.backup(&b);
    }
    let names = kist.json(0, &["snapshots"], &[]);
    let names: Vec<_> = names.iter().map(|one| one["snapshot"].as_str().unwrap().to_owned()).collect();
    let ask = |flags: &[&str]| {
        let mut answers = vec![kist.fine(&[&["snapshots"], flags].concat(), &[]).out];
        answers
            .push(kist.json(0, &[&["snapshots", "--tag", "nightly"], flags].concat(), &[]).len().to_string());
        for name in &names {
            answers.push(kist.fine(&[&["ls", "-R", "-l", name], flags].concat(), &[]).out);
        }
        answers
    };
    let catalogs = || {
        let folder = kist.path("home/.cache/kist");
        let files = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|end| end == "sqlite")).collect::<Vec<_>>()
    };
    let known = ask(&[]);
    assert!(known[2].contains("file 1"), "{known:?}");
    assert_eq!(catalogs().len(), 1);
    assert_eq!(ask(&["--no-catalog"]), known);
    fs::remove_dir_all(kist.path("home")).unwrap();
    assert_eq!(ask(&[]), known);
    assert_eq!(catalogs().len(), 0, "asking makes none");
    kist.fine(&["catalog", "rebuild"], &[]);
    assert_eq!(catalogs().len(), 1);
    assert_eq!(ask(&[]), known);
    // One that is no catalog at all is done without, and made anew by the next backup.
    fs::write(&catalogs()[0], "not a catalog").unwrap();
    assert_eq!(ask(&[]), known);
    kist.backup(&b);
    assert_eq!(kist.json(0, &["snapshots"], &[]).len(), 5);
}
