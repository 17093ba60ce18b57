//! Full disks: the repository's, and the one that is restored to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kist::{Kist, noise};

/// A tmpfs that is unmounted again, also when a test fails.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(at: &Path, size: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "kist-test"], at);
        Self(at.to_owned())
    }

    fn grow(&self, size: &str) {
        mount(&["-o", &format!("remount,size={size}")], &self.0);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "{:?} is still mounted", self.0);
    }
}

fn mount(args: &[&str], at: &Path) {
    assert!(Command::new("mount").args(args).arg(at).status().unwrap().success());
}

/// Twelve megabytes.
fn much(folder: &Path) {
    fs::create_dir(folder).unwrap();
    for number in 0..24 {
        fs::write(folder.join(format!("file {number:02}")), noise(500_000, number)).unwrap();
    }
}

#[test]
fn a_repository_on_a_full_disk_is_told_and_goes_on_when_there_is_room() {
    let mut kist = Kist::without_repository();
    let mount = Mount::tmpfs(&kist.path("disk"), "6m");
    kist.repo = mount.0.join("repo");
    kist.init();
    let source = kist.path("source");
    much(&source);
    let run = kist.ends(1, &["backup", "files"], &[&source]);
    assert!(run.err.contains("make room and run it again"), "{run:?}");
    assert_eq!(kist.json(0, &["snapshots"], &[]).len(), 0);
    kist.fine(&["check", "--read-data"], &[]);
    mount.grow("64m");
    kist.backup(&source);
    kist.restores("latest", &source);
    kist.fine(&["check", "--read-data"], &[]);
}

#[test]
fn a_restore_to_a_full_disk_is_told_and_goes_on_when_there_is_room() {
    let kist = Kist::new();
    let source = kist.path("source");
    much(&source);
    kist.backup(&source);
    let mount = Mount::tmpfs(&kist.path("disk"), "5m");
    let what = format!("latest:{}", source.display());
    let run = kist.ends(1, &["restore", "files", &what], &[&mount.0]);
    assert!(run.err.contains("is full") && run.err.contains("make room"), "{run:?}");
    // What has its name is whole.
    for entry in fs::read_dir(&mount.0).unwrap() {
        let name = entry.unwrap().file_name();
        if !name.to_str().unwrap().starts_with(".kist-restoring-") {
            assert_eq!(fs::read(mount.0.join(&name)).unwrap(), fs::read(source.join(&name)).unwrap());
        }
    }
    mount.grow("64m");
    let run = kist.json(0, &["restore", "files", "--overwrite=changed", &what], &[&mount.0]);
    assert!(run[0]["kept"].as_u64().unwrap() > 0, "{run:?}");
    assert_eq!(crate::compare::differences(&source, &mount.0), Vec::<String>::new());
}
