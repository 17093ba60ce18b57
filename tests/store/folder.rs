//! Folders: the laws, modes, names, what is refused, and a disk that is full.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use kist::store::{Class, Store, StoreSettings, StoreUrl, conformance};

fn settings(create_folder: bool) -> StoreSettings {
    StoreSettings { create_folder, ..StoreSettings::default() }
}

fn open(path: &Path, create: bool) -> kist::store::Result<Store> {
    Store::open(&StoreUrl::parse(path.to_str().unwrap()).unwrap(), &settings(create))
}

fn body() -> Bytes {
    Bytes::from_static(b"x")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_keeps_the_laws() {
    let scratch = tempfile::tempdir().unwrap();
    conformance::all(&open(scratch.path(), false).unwrap()).await;
}

#[tokio::test]
async fn a_folder_may_have_any_name() {
    let scratch = tempfile::tempdir().unwrap();
    for name in ["with space", "per%20cent", "hash#1", "que?stion", "Ümläut", "..dots", "a:b"] {
        let store = open(&scratch.path().join(name), true).unwrap();
        store.put("packs/aa/b", body()).await.unwrap();
        store.create_exclusive("config", body()).await.unwrap();
        let keys: Vec<_> = store.list("").await.unwrap().into_iter().map(|o| o.key).collect();
        assert_eq!(keys, ["config", "packs/aa/b"], "{name}");
        assert_eq!(store.get("packs/aa/b").await.unwrap(), body());
        assert!(scratch.path().join(name).join("packs/aa/b").is_file(), "{name}");
    }
}

#[tokio::test]
async fn folders_and_files_are_for_their_owner_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("repo");
    let store = open(&root, true).unwrap();
    store.put("packs/aa/b", body()).await.unwrap();
    store.create_exclusive("commits/c", body()).await.unwrap();
    let mode = |name: &str| fs::metadata(root.join(name)).unwrap().permissions().mode() & 0o7777;
    for folder in ["", "packs", "packs/aa", "commits"] {
        assert_eq!(mode(folder), 0o700, "{folder}");
    }
    for file in ["packs/aa/b", "commits/c"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
}

#[tokio::test]
async fn what_can_not_be_opened_says_why() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("file");
    fs::write(&file, "x").unwrap();
    let missing = scratch.path().join("missing");
    for (path, create, what) in [
        (missing.clone(), false, "can't find the folder"),
        (missing.join("child"), true, "the folder's parent does not exist"),
        (file.clone(), false, "not a folder"),
        (file.clone(), true, "not a folder"),
        (file.join("child"), true, "can't make the folder"),
    ] {
        let error = open(&path, create).unwrap_err();
        assert_eq!(error.to_string(), format!("open {}: {what}", path.display()));
        assert_eq!(error.class(), Class::Usage);
        assert!(!missing.exists());
    }
    open(&missing, true).unwrap();
    open(&missing, true).expect("one that is there is fine");
}

#[tokio::test]
async fn a_folder_that_was_replaced_is_neither_read_as_empty_nor_written_to() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("repo");
    let store = open(&root, true).unwrap();
    store.put("config", body()).await.unwrap();
    for unmounted in [false, true] {
        fs::rename(&root, scratch.path().join(format!("away-{unmounted}"))).unwrap();
        if unmounted {
            fs::create_dir(&root).unwrap();
        }
        let errors = [
            store.get("config").await.unwrap_err(),
            store.get_range("config", 0..1).await.unwrap_err(),
            store.size("config").await.unwrap_err(),
            store.put("packs/aa/b", body()).await.unwrap_err(),
            store.create_exclusive("commits/c", body()).await.unwrap_err(),
            store.list("").await.unwrap_err(),
            store.list("commits").await.unwrap_err(),
            store.delete("config").await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.class(), Class::Usage, "{error:?}");
            assert!(error.to_string().ends_with("the store itself is not there"), "{error}");
        }
        if unmounted {
            assert_eq!(fs::read_dir(&root).unwrap().count(), 0, "nothing was written");
        } else {
            assert_eq!(fs::metadata(&root).unwrap_err().kind(), ErrorKind::NotFound);
            fs::rename(scratch.path().join("away-false"), &root).unwrap();
            assert_eq!(store.get("config").await.unwrap(), body());
        }
    }
}

#[tokio::test]
async fn what_a_killed_put_leaves_is_neither_listed_nor_in_the_way() {
    let scratch = tempfile::tempdir().unwrap();
    let store = open(scratch.path(), false).unwrap();
    fs::write(scratch.path().join("config#1"), "half of a bo").unwrap();
    assert_eq!(store.list("").await.unwrap(), []);
    store.create_exclusive("config", body()).await.unwrap();
    assert_eq!(store.get("config").await.unwrap(), body());
    assert_eq!(store.list("").await.unwrap().len(), 1);
}

/// A small file system of its own, gone again when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "kist-test"]).arg(folder.path());
        let done = mount.status().expect("mount can be run");
        assert!(done.success(), "this test mounts a tmpfs, and has to run as root");
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        // Leaving a mount behind is worth a word, but no second panic.
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.0.path().display());
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_full_and_leaves_nothing_half_written() {
    let disk = SmallDisk::mount();
    let store = open(disk.0.path(), false).unwrap();
    let half = Bytes::from(vec![7; 600 << 10]);
    store.put("packs/aa/b", half.clone()).await.unwrap();
    let was_put = store.put("packs/aa/c", half.clone()).await.unwrap_err();
    let created = store.create_exclusive("commits/c", half.clone()).await.unwrap_err();
    for error in [was_put, created] {
        assert_eq!(error.class(), Class::Full, "{error:?}");
        assert!(error.to_string().ends_with("the store is full"), "{error}");
    }
    let left: Vec<_> = store.list("").await.unwrap().into_iter().map(|o| o.key).collect();
    assert_eq!(left, ["packs/aa/b"]);
    store.delete("packs/aa/b").await.unwrap();
    store.put("packs/aa/c", half).await.expect("there is space again");
}

#[tokio::test]
async fn a_read_only_disk_is_denied() {
    let disk = SmallDisk::mount();
    let store = open(disk.0.path(), false).unwrap();
    store.put("config", body()).await.unwrap();
    let mut remount = Command::new("mount");
    let done = remount.args(["-o", "remount,ro"]).arg(disk.0.path()).status().unwrap();
    assert!(done.success());
    for error in [
        store.put("packs/aa/b", body()).await.unwrap_err(),
        store.create_exclusive("commits/c", body()).await.unwrap_err(),
        store.delete("config").await.unwrap_err(),
    ] {
        assert_eq!(error.class(), Class::Denied, "{error:?}");
    }
    assert_eq!(store.get("config").await.unwrap(), body());
}
