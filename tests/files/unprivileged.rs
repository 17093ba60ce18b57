//! What someone who is not root can't read or set is told, and the rest goes on.
//!
//! As root, each test runs itself again as another user (a copy of the test program in a place that all may
//! read); what is proven is proven there.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

use kist::archive::exclude::Exclude;
use kist::archive::file;
use kist::archive::problem::{ProblemKind, Tally};
use kist::archive::target::{Device, Target};
use kist::archive::walk::{Step, Walk};
use kist::format::entry::Attributes;
use tempfile::tempdir;

use crate::copy::{options, path};

const NOBODY: u32 = 65534;

/// True in the process that is not root.
fn as_nobody(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let dir = tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new(program);
    command.args(["--exact", test, "--nocapture"]).current_dir("/").gid(NOBODY).uid(NOBODY);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
    false
}

#[test]
fn what_may_not_be_read_is_a_problem_and_its_entry_is_kept() {
    if !as_nobody("unprivileged::what_may_not_be_read_is_a_problem_and_its_entry_is_kept") {
        return;
    }
    let dir = tempdir().unwrap();
    for name in ["closed", "list only", "open"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("file"), "x").unwrap();
    }
    let mode = |name: &str, mode| {
        fs::set_permissions(dir.path().join(name), Permissions::from_mode(mode)).unwrap();
    };
    mode("open/file", 0);
    mode("list only", 0o400);
    mode("closed", 0);
    let exclude = Exclude::default();
    let mut steps = Vec::new();
    for step in Walk::of_folder(dir.path(), options(&exclude)).unwrap() {
        steps.push(match step {
            Step::Found(found) if found.path.name() == b"file" => {
                assert_eq!(file::open(&found).unwrap_err().kind, ProblemKind::Denied);
                format!("unreadable {}", found.path)
            }
            Step::Found(found) => found.path.to_string(),
            Step::Problem(problem) => format!("{} {} {}", problem.kind.as_str(), problem.doing, problem.path),
        });
    }
    mode("list only", 0o700);
    mode("closed", 0o700);
    let expected = [
        "/",
        "/closed",
        "denied opening /closed",
        "/list only",
        "denied looking at /list only/file",
        "/open",
        "unreadable /open/file",
    ];
    assert_eq!(steps, expected);
}

#[test]
fn owners_that_may_not_be_set_are_told_by_class_and_take_their_set_id_bits_along() {
    let name = "unprivileged::owners_that_may_not_be_set_are_told_by_class_and_take_their_set_id_bits_along";
    if !as_nobody(name) {
        return;
    }
    let dir = tempdir().unwrap();
    let target = Target::open(dir.path(), false).unwrap();
    let mut wanted = Attributes { mode: 0o6755, uid: 0, gid: 0, ..Attributes::default() };
    wanted.mtime.secs = 99;
    wanted.xattrs.push((b"user.kept".to_vec(), b"yes".to_vec()));
    let mut tally = Tally::default();
    for name in ["a", "b", "c"] {
        let file = target.create_file(&path(name), 0).unwrap();
        file.place(&wanted).iter().for_each(|problem| tally.add(problem));
        let existing = target.existing(&path(name)).unwrap().unwrap();
        assert_eq!((existing.mode, existing.mtime.secs), (0o755, 99), "no set-id for someone else");
    }
    let lines: Vec<_> = tally.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("setting the mode of 3 paths: set-id bits are left out"), "{lines:?}");
    assert!(lines[1].starts_with("setting the owner of 3 paths: "), "{lines:?}");
    let denied = target.device(&path("null"), Device::Char { major: 1, minor: 3 }).unwrap_err();
    assert_eq!(denied.kind, ProblemKind::Denied);
}

#[test]
fn ones_own_files_come_back_whole_even_where_they_are_read_only() {
    if !as_nobody("unprivileged::ones_own_files_come_back_whole_even_where_they_are_read_only") {
        return;
    }
    let dir = tempdir().unwrap();
    let (uid, gid) = (fs::metadata(dir.path()).unwrap().uid(), fs::metadata(dir.path()).unwrap().gid());
    let target = Target::open(dir.path(), false).unwrap();
    let mut wanted = Attributes { mode: 0o6444, uid, gid, ..Attributes::default() };
    wanted.xattrs.push((b"user.x".to_vec(), b"y".to_vec()));
    target.make_folder(&path("folder")).unwrap();
    let file = target.create_file(&path("folder/file"), 0).unwrap();
    let problems = file.place(&wanted);
    assert!(problems.is_empty(), "{problems:?}");
    let problems = target.set_attributes(&path("folder"), &Attributes { mode: 0o555, ..wanted });
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(target.existing(&path("folder/file")).unwrap().unwrap().mode, 0o6444);
    fs::set_permissions(dir.path().join("folder"), Permissions::from_mode(0o700)).unwrap();
}
