//! Other file systems: borders that are kept, and one that is full.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kist::archive::exclude::Exclude;
use kist::archive::problem::ProblemKind;
use kist::archive::target::Target;
use kist::archive::walk::{Options, Walk};
use tempfile::tempdir;

use crate::copy::{options, path, split};

/// A tmpfs that is unmounted again, also when a test fails.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(at: &Path, size: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        let option = format!("size={size}");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &option, "kist-test"]).arg(at).status();
        assert!(status.unwrap().success());
        Self(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "{:?} is still mounted", self.0);
    }
}

#[test]
fn with_one_file_system_a_mount_is_an_empty_folder() {
    let dir = tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    fs::create_dir_all(base.join("a")).unwrap();
    let mount = Mount::tmpfs(&base.join("a/mount"), "1m");
    fs::create_dir_all(mount.0.join("inner")).unwrap();
    fs::write(mount.0.join("inner/file"), "").unwrap();
    fs::write(base.join("z"), "").unwrap();
    let exclude = Exclude::default();
    let walk = |one_file_system, given: &[PathBuf]| {
        let options = Options { one_file_system, ..options(&exclude) };
        let walk = match given {
            [] => Walk::of_folder(&base, options),
            given => Walk::of_paths(given, options),
        };
        let (found, problems) = split(walk.unwrap());
        assert!(problems.is_empty(), "{problems:?}");
        let prefix = if given.is_empty() { String::new() } else { base.display().to_string() };
        let names = found.iter().map(|found| found.path.to_string());
        names.filter_map(|name| Some(name.strip_prefix(&prefix)?.to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(walk(true, &[]), ["/", "/a", "/a/mount", "/z"]);
    assert_eq!(walk(false, &[]), ["/", "/a", "/a/mount", "/a/mount/inner", "/a/mount/inner/file", "/z"]);
    // A path that is given itself is on the file system to stay on; what lies on the way is only passed.
    let all = ["", "/a", "/a/mount", "/a/mount/inner", "/a/mount/inner/file"];
    assert_eq!(walk(true, std::slice::from_ref(&mount.0)), all);
    assert_eq!(walk(true, &[base.clone(), mount.0.join("inner")]), [&all[..], &["/z"]].concat());
}

#[test]
fn removal_stops_at_a_mount() {
    let dir = tempdir().unwrap();
    let mount = Mount::tmpfs(&dir.path().join("old/mount"), "1m");
    fs::write(mount.0.join("precious"), "").unwrap();
    let target = Target::open(dir.path(), false).unwrap();
    assert_eq!(target.remove(&path("old")).unwrap_err().kind, ProblemKind::InTheWay);
    assert!(mount.0.join("precious").exists());
}

#[test]
fn a_full_disk_is_told_as_such() {
    let dir = tempdir().unwrap();
    let mount = Mount::tmpfs(&dir.path().join("small"), "256k,nr_inodes=10");
    let target = Target::open(&mount.0, false).unwrap();
    let file = target.create_file(&path("file"), 1 << 20).unwrap();
    let problem = (0..256).find_map(|at| file.write_at(at * 4096, &[1; 4096]).err()).unwrap();
    assert_eq!((problem.kind, problem.to_string()), (ProblemKind::Full, "writing /file".into()));
    let problem = (0..20).find_map(|n| target.make_folder(&path(&format!("{n}"))).err()).unwrap();
    assert_eq!(problem.kind, ProblemKind::Full);
}
