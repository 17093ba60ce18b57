//! What is refused, with which code, and with a word that helps. Nothing is changed by it.

use std::fs;
use std::path::Path;

use kist::crypto::secret::Key;
use kist::crypto::sign;
use kist::format::config::Config;

use crate::kist::{Kist, PASSPHRASE, grow};

/// All files of a folder with their content.
pub fn all(folder: &Path) -> Vec<(std::path::PathBuf, Option<Vec<u8>>)> {
    let paths = crate::compare::paths(folder).into_iter();
    paths.map(|path| (path.clone(), fs::read(folder.join(path)).ok())).collect()
}

#[test]
fn a_wrong_passphrase_is_denied() {
    let mut kist = Kist::without_repository();
    kist.use_passphrase(PASSPHRASE);
    kist.fine(&["init"], &[]);
    grow(&kist.path("source"), 1);
    kist.backup(&kist.path("source"));
    let before = all(&kist.repo);
    kist.use_passphrase("another passphrase");
    for verb in [&["snapshots"][..], &["check"], &["ls", "latest"]] {
        let run = kist.ends(5, verb, &[]);
        assert!(run.err.contains("the passphrase opens no key of this repository"), "{run:?}");
    }
    kist.ends(5, &["backup", "files"], &[&kist.path("source")]);
    assert_eq!(all(&kist.repo), before);
    // The right one with a line end opens it.
    kist.use_passphrase(&format!("{PASSPHRASE}\n"));
    kist.fine(&["snapshots"], &[]);
}

#[test]
fn a_key_of_another_repository_is_denied() {
    let mut kist = Kist::new();
    let other = Kist::new();
    kist.use_key(&other.path("owner.key"));
    let run = kist.ends(5, &["snapshots"], &[]);
    assert!(run.err.contains("the key file opens nothing here"), "{run:?}");
}

#[test]
fn what_is_not_a_repository_is_a_usage_error_and_is_left_alone() {
    let mut kist = Kist::new();
    fs::create_dir(kist.path("empty")).unwrap();
    for (place, says) in [("empty", "there is no repository at"), ("missing", "missing")] {
        kist.repo = kist.path(place);
        let run = kist.ends(2, &["snapshots"], &[]);
        assert!(run.err.contains(says), "{run:?}");
    }
    assert_eq!(fs::read_dir(kist.path("empty")).unwrap().count(), 0);
    assert!(!kist.path("missing").exists());
}

#[test]
fn a_repository_is_not_made_over_another() {
    let kist = Kist::new();
    let before = all(&kist.repo);
    let key = kist.path("second.key");
    let mut again = kist.command(&["init", "--new-key-file", key.to_str().unwrap()], &[]);
    let run = kist.run(again.env_remove("KIST_KEY_FILE"));
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.err.contains("there is a repository at"), "{run:?}");
    assert_eq!(all(&kist.repo), before);
    assert!(!key.exists());
}

#[test]
fn a_future_version_is_told_from_damage() {
    let kist = Kist::new();
    let config = kist.repo.join("config");
    let whole = fs::read(&config).unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        fs::write(&config, bytes).unwrap();
    };
    // The version stands behind eight bytes of magic.
    for (version, hint) in [(2, "newer kist"), (0, "before the format was fixed")] {
        with(8, version);
        let run = kist.ends(2, &["snapshots"], &[]);
        assert!(run.err.contains(hint) && run.err.contains("this kist reads version 1"), "{run:?}");
    }
    with(100, whole[100] ^ 1);
    kist.ends(4, &["snapshots"], &[]);
    fs::write(&config, &whole).unwrap();
    kist.fine(&["snapshots"], &[]);
}

#[test]
fn a_config_that_was_exchanged_is_denied_even_if_its_signature_holds() {
    let kist = Kist::new();
    grow(&kist.path("source"), 1);
    let config = kist.repo.join("config");
    let seed = Key::new([7; 32]);
    let read = Config::decode(&fs::read(&config).unwrap()).unwrap();
    fs::write(&config, Config { owner: sign::public(&seed), ..read }.encode(&seed)).unwrap();
    let before = all(&kist.repo);
    let run = kist.ends(5, &["backup", "files"], &[&kist.path("source")]);
    assert!(run.err.contains("it was changed or replaced"), "{run:?}");
    assert_eq!(all(&kist.repo), before);
}

#[test]
fn a_writer_backs_up_and_is_denied_a_restore() {
    let mut kist = Kist::new();
    grow(&kist.path("source"), 1);
    let bundle = kist.path("shop.key");
    kist.fine(&["key", "add", "--role", "writer", "--name", "shop", "--out"], &[&bundle]);
    kist.ends(2, &["key", "add", "--role", "writer", "--name", "shop", "--out"], &[&bundle]);
    kist.use_key(&bundle);
    kist.backup(&kist.path("source"));
    let checked = kist.fine(&["check", "--read-data"], &[]);
    assert!(checked.out.contains("records were not opened"), "{checked:?}");
    let run = kist.ends(5, &["restore", "files", "latest", "/nowhere"], &[]);
    assert!(
        run.err.contains("this needs the owner's or a reader's key; the writer's can't do it"),
        "{run:?}"
    );
    assert!(!Path::new("/nowhere").exists());
    kist.use_key(&kist.path("owner.key"));
    kist.restores("latest", &kist.path("source"));
}

#[test]
fn damage_ends_with_its_own_code_and_names_the_object() {
    let kist = Kist::new();
    let source = kist.path("source");
    grow(&source, 1);
    kist.backup(&source);
    kist.fine(&["check", "--read-data"], &[]);
    let packs = crate::compare::paths(&kist.repo.join("packs")).into_iter();
    let packs: Vec<_> =
        packs.map(|pack| kist.repo.join("packs").join(pack)).filter(|p| p.is_file()).collect();
    let data = packs.iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    let mut bytes = fs::read(data).unwrap();
    bytes[150_000] ^= 1;
    fs::write(data, bytes).unwrap();
    kist.fine(&["check"], &[]);
    let run = kist.ends(4, &["check", "--read-data"], &[]);
    assert!(run.out.contains("lost in") && run.out.contains("inner/large"), "{run:?}");
    assert!(run.out.contains(data.file_name().unwrap().to_str().unwrap()), "{run:?}");
    let what = format!("latest:{}", source.display());
    let target = kist.path("target");
    let run = kist.ends(4, &["restore", "files", &what], &[&target]);
    assert!(run.err.contains("lost: /inner/large"), "{run:?}");
    assert_eq!(fs::read(target.join("small")).unwrap(), fs::read(source.join("small")).unwrap());
    assert!(!target.join("inner/large").exists());
    // With the pack gone altogether, the next backup is whole again.
    fs::remove_file(data).unwrap();
    kist.ends(4, &["check"], &[]);
    let snapshot = kist.backup(&source);
    kist.restores(&snapshot, &source);
}
