//! A changed byte in an object of any kind is refused: what comes out is right, or is not there and named.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::compare::paths;
use crate::scene::Scene;
use crate::trees::pseudo_random;

/// In a pack this is inside of the first record: its header, and the first of its parts.
const IN_A_RECORD: [u64; 2] = [60, 130];

fn objects(repo: &Path) -> Vec<PathBuf> {
    let all = paths(repo).into_iter().filter(|path| !path.starts_with("probe"));
    all.filter(|path| repo.join(path).is_file()).collect()
}

pub fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

#[test]
fn a_changed_byte_in_any_kind_of_object_is_refused() {
    let scene = Scene::new();
    for number in 0..12 {
        let content = pseudo_random(number * 20_000, number as u64);
        fs::write(scene.source.join(format!("file {number}")), content).unwrap();
    }
    scene.backup();
    let mut kinds = BTreeSet::new();
    for object in objects(&scene.repo) {
        let path = scene.repo.join(&object);
        let kind = object.iter().next().unwrap().to_str().unwrap().to_owned();
        let places = match kind.as_str() {
            "packs" => IN_A_RECORD,
            _ => [0, fs::metadata(&path).unwrap().len() - 1],
        };
        for at in places {
            flip(&path, at);
            let (run, _target, copy) = scene.restore(&[]);
            flip(&path, at);
            assert!([1, 4].contains(&run.code), "{object:?} at {at}: {run:?}");
            assert!(!run.err.is_empty(), "{object:?} at {at}: {run:?}");
            assert_right_or_absent(&scene.source, &copy);
        }
        kinds.insert(kind);
    }
    let all = ["commits", "config", "index", "keys", "packs", "sessions"];
    assert!(kinds.iter().map(String::as_str).eq(all), "{kinds:?}");
    scene.comes_back("latest");
}

pub fn assert_right_or_absent(source: &Path, copy: &Path) {
    if !copy.exists() {
        return;
    }
    for path in paths(copy).into_iter().filter(|path| copy.join(path).is_file()) {
        assert!(fs::read(copy.join(&path)).unwrap() == fs::read(source.join(&path)).unwrap(), "{path:?}");
    }
}

#[test]
fn a_missing_pack_is_named_and_what_is_whole_comes_back() {
    let scene = Scene::new();
    fs::write(scene.source.join("first"), pseudo_random(500_000, 1)).unwrap();
    scene.backup();
    let before: BTreeSet<_> = objects(&scene.repo).into_iter().collect();
    fs::write(scene.source.join("second"), pseudo_random(500_000, 2)).unwrap();
    scene.backup();
    let size = |path: &PathBuf| fs::metadata(scene.repo.join(path)).unwrap().len();
    let added = objects(&scene.repo).into_iter().filter(|path| !before.contains(path));
    let data: Vec<_> = added.filter(|path| path.starts_with("packs") && size(path) > 100_000).collect();
    assert!(!data.is_empty());
    data.iter().for_each(|pack| fs::remove_file(scene.repo.join(pack)).unwrap());

    let (run, _target, copy) = scene.restore(&[]);
    assert!(run.code == 4 && run.err.contains("second"), "{run:?}");
    assert!(!copy.join("second").exists());
    assert!(fs::read(copy.join("first")).unwrap() == pseudo_random(500_000, 1));
}
