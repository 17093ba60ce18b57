//! What kist backed up comes out of the reader as it was, in everything.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use proptest::prelude::*;

use crate::compare::differences;
use crate::programs::{ended, reader};
use crate::scene::Scene;
use crate::trees::{self, pseudo_random};

#[test]
fn the_awkward_tree_comes_back_and_so_does_what_it_became() {
    let scene = Scene::new();
    trees::awkward(&scene.source);
    let first = scene.backup();
    let (run, _before, before) = scene.restore(&[]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(differences(&scene.source, &before), Vec::<String>::new());

    let changes = trees::mutate(&scene.source, 11);
    scene.comes_back(&scene.backup());
    let (run, _again, again) = scene.restore(&["--snapshot", &first]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(differences(&before, &again), Vec::<String>::new(), "after {changes:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_comes_back(tree in trees::tree(60)) {
        let scene = Scene::new();
        tree.build(&scene.source);
        scene.comes_back(&scene.backup());
    }
}

/// Bundles of small files, trees of several levels, trees of extents, chunks that differ in length.
#[test]
fn a_tree_of_thousands_of_files_and_a_file_of_many_holes_come_back() {
    let scene = Scene::new();
    for number in 0..4000 {
        let folder = scene.source.join(format!("folder {}", number % 40));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("file {number}")), pseudo_random(number % 1500, number as u64))
            .unwrap();
    }
    fs::write(scene.source.join("large"), pseudo_random(20_000_000, 1)).unwrap();
    full_of_holes(&scene.source.join("holes"), 6000);
    scene.comes_back(&scene.backup());
}

fn full_of_holes(path: &Path, pieces: u64) {
    let file = File::create_new(path).unwrap();
    for piece in 0..pieces {
        file.write_all_at(&pseudo_random(300, piece), piece * 12_288).unwrap();
    }
    file.set_len(1 << 27).unwrap();
}

#[test]
fn a_passphrase_opens_and_a_wrong_one_does_not() {
    let scene = Scene::new();
    let (right, wrong) = (scene.dir.path().join("right"), scene.dir.path().join("wrong"));
    fs::write(&right, "a slow green lorry\r\n").unwrap();
    fs::write(&wrong, "a slow green larry\n").unwrap();
    fs::remove_dir_all(&scene.repo).unwrap();
    let mut init = scene.kist(&["init", "--passphrase-file"]);
    let made = ended(init.arg(&right).env_remove("KIST_KEY_FILE"));
    assert_eq!(made.code, 0, "{made:?}");
    fs::write(scene.source.join("file"), "content").unwrap();
    let mut backup = scene.kist(&["--no-catalog", "--passphrase-file"]);
    backup.arg(&right).args(["backup", "files"]).arg(&scene.source).env_remove("KIST_KEY_FILE");
    assert_eq!(ended(&mut backup).code, 0);

    let (run, _target, copy) = scene.restore(&["--passphrase-file", right.to_str().unwrap()]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(differences(&scene.source, &copy), Vec::<String>::new());
    let (run, _target, copy) = scene.restore(&["--passphrase-file", wrong.to_str().unwrap()]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(!copy.exists());
}

#[test]
fn a_writers_bundle_lists_its_snapshots_and_opens_no_content() {
    let scene = Scene::new();
    fs::write(scene.source.join("file"), "content").unwrap();
    let bundle = scene.dir.path().join("writer.key");
    let made = ended(scene.kist(&["key", "add", "--role", "writer", "--name", "w", "--out"]).arg(&bundle));
    assert_eq!(made.code, 0, "{made:?}");
    let mut backup = scene.kist(&["--no-catalog", "backup", "files"]);
    assert_eq!(ended(backup.arg(&scene.source).env("KIST_KEY_FILE", &bundle)).code, 0);

    let with_bundle = |args: &[&Path]| {
        ended(reader("restore.py").arg(&scene.repo).args(args).arg("--key-file").arg(&bundle))
    };
    let listed = with_bundle(&[Path::new("--list")]);
    assert!(listed.code == 0 && listed.out.contains(scene.source.to_str().unwrap()), "{listed:?}");
    let target = scene.dir.path().join("target");
    let refused = with_bundle(&[&target]);
    assert!(refused.code == 1 && refused.err.contains("opens no content"), "{refused:?}");
    scene.comes_back("latest");
}
