//! What has to hold of each of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::clusters;
use crate::frozen::{Expected, Frozen};
use crate::listing;
use crate::made::{STORIES, Story};
use crate::programs::{ended, reader};

const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/frozen");

/// Unpacks each archive of every version, and makes each story anew.
fn each(check: fn(&Frozen, &str)) {
    let mut archives = 0;
    for version in folders() {
        for (name, make) in STORIES {
            let archive = version.join(format!("{name}.tar"));
            if !archive.exists() && std::env::var_os("KIST_FROZEN").is_some_and(|what| what == "write") {
                make().pack(&archive);
            }
        }
        let files = fs::read_dir(&version).unwrap().map(|file| file.unwrap().path());
        for archive in files.filter(|path| path.extension().is_some_and(|kind| kind == "tar")) {
            check(&Frozen::unpack(&archive), archive.to_str().unwrap());
            archives += 1;
        }
    }
    assert!(archives >= STORIES.len(), "{archives} archives");
    STORIES.iter().for_each(|(name, make): &Story| check(&make(), name));
}

/// One for each version of the format.
fn folders() -> Vec<PathBuf> {
    let all = fs::read_dir(KEPT).unwrap().map(|file| file.unwrap().path());
    let mut all: Vec<_> = all.filter(|path| path.is_dir()).collect();
    all.sort();
    all
}

fn names<'a>(expected: impl IntoIterator<Item = &'a Expected>) -> BTreeSet<String> {
    expected.into_iter().map(|expected| expected.snapshot.clone()).collect()
}

/// Has kist restore it.
fn restored(frozen: &Frozen, key: &str, expected: &Expected) -> String {
    if expected.is_manifests() {
        return clusters::loaded(frozen, key, &expected.snapshot);
    }
    let target = tempfile::tempdir_in(frozen.dir.path()).unwrap();
    restore(frozen, key, expected, target.path());
    listing::of(target.path())
}

fn restore(frozen: &Frozen, key: &str, expected: &Expected, target: &Path) {
    let (volume, what) = match expected.volume() {
        Some(volume) => (vec!["--volume".to_owned(), volume], expected.snapshot.clone()),
        None => (Vec::new(), format!("{}:{}", expected.snapshot, expected.source)),
    };
    let domain = match expected.domain.as_str() {
        "" => vec![],
        domain => vec!["--domain", domain],
    };
    let volume: Vec<&str> = volume.iter().map(String::as_str).collect();
    let restore = ["restore", "files", &what, target.to_str().unwrap()];
    frozen.does(key, &[&domain[..], &restore, &volume].concat());
}

fn comes_back(frozen: &Frozen, key: &str, what: &str) {
    for expected in frozen.expected() {
        if expected.domain.is_empty() || key == "owner.key" {
            assert!(
                restored(frozen, key, &expected) == expected.listing,
                "{what}: {key}: {}",
                expected.snapshot
            );
        }
    }
}

#[test]
fn each_snapshot_comes_back_as_it_was_and_there_is_no_other() {
    each(|frozen, what| {
        let expected = frozen.expected();
        assert!(expected.len() >= 3, "{what}");
        let domains: BTreeSet<&str> = expected.iter().map(|expected| expected.domain.as_str()).collect();
        for domain in domains {
            let of_domain: Vec<&str> = if domain.is_empty() { vec![] } else { vec!["--domain", domain] };
            let args = [&["--json", "--no-catalog"], &of_domain[..], &["snapshots"]].concat();
            let listed = frozen.does("owner.key", &args).objects();
            let listed: BTreeSet<String> =
                listed.iter().map(|found| found["snapshot"].as_str().unwrap().to_owned()).collect();
            let here = expected.iter().filter(|expected| expected.domain == domain);
            assert_eq!(listed, names(here), "{what}");
            frozen.does("owner.key", &[&of_domain[..], &["check", "--read-data"]].concat());
        }
        comes_back(frozen, "owner.key", what);
    });
}

#[test]
fn each_snapshot_comes_out_of_the_reader_that_shares_no_code_with_kist() {
    each(|frozen, what| {
        for expected in frozen.expected() {
            let target = tempfile::tempdir_in(frozen.dir.path()).unwrap();
            let mut command = reader("restore.py");
            command
                .arg(frozen.path("repo"))
                .arg(target.path())
                .arg("--key-file")
                .arg(frozen.key("owner.key"));
            command.args(["--snapshot", &expected.snapshot]);
            if !expected.domain.is_empty() {
                command.args(["--domain", &expected.domain]);
            }
            let run = ended(&mut command);
            assert_eq!((run.code, run.err.as_str()), (0, ""), "{what}: {run:?}");
            let copy = expected.below(target.path());
            let found = match expected.is_manifests() {
                true => clusters::in_folder(&copy),
                false => listing::of(&copy),
            };
            assert!(found == expected.listing, "{what}: {}: {}", expected.snapshot, expected.source);
        }
    });
}

/// By the beginnings of their files' names.
#[test]
fn each_key_still_does_what_its_role_may() {
    each(|frozen, what| {
        let first = frozen.expected().swap_remove(0);
        let source = frozen.path("again");
        fs::create_dir(&source).unwrap();
        restore(frozen, "owner.key", &first, &source);
        let keys = fs::read_dir(frozen.path("keys")).unwrap().map(|key| key.unwrap().file_name());
        for key in keys.map(|key| key.into_string().unwrap()).collect::<BTreeSet<_>>() {
            match key.split('-').next().unwrap() {
                "writer" => adds(frozen, &key, &source),
                "maintainer" => {
                    frozen.does(&key, &["check", "--read-data"]);
                    let last = frozen.expected().pop().unwrap().snapshot;
                    frozen.does(&key, &["forget", &last]);
                    frozen.does(&key, &["recall", &last]);
                    frozen.does(&key, &["prune", "--min-used", "100", "--silence", "1s"]);
                }
                "kit" => {
                    let (kit, back) = (frozen.key("kit"), frozen.key("owner-back.key"));
                    let files = ["--from", kit.to_str().unwrap(), "--out", back.to_str().unwrap()];
                    frozen.does("owner.key", &[&["key", "recover"], &files[..]].concat());
                    comes_back(frozen, "owner-back.key", what);
                }
                // An owner's, or a reader's.
                _ => comes_back(frozen, &key, what),
            }
        }
        adds(frozen, "owner.key", &source);
        comes_back(frozen, "owner.key", what);
    });
}

/// Backs up, and gets it back; of what is there already nothing is uploaded a second time.
fn adds(frozen: &Frozen, key: &str, source: &Path) {
    let again: Vec<u64> = (0..2)
        .map(|_| {
            let before = bytes(frozen);
            frozen.backup_only(key, source);
            bytes(frozen) - before
        })
        .collect();
    assert!(again[1] < 100_000, "{key}: {again:?}");
}

/// Of all packs.
fn bytes(frozen: &Frozen) -> u64 {
    let packs = crate::compare::paths(&frozen.path("repo/packs")).into_iter();
    packs
        .map(|pack| frozen.path("repo/packs").join(pack))
        .filter(|pack| pack.is_file())
        .map(|pack| fs::metadata(pack).unwrap().len())
        .sum()
}
