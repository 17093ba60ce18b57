//! Depth, length, size, and files that change while they are read.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use kist::archive::exclude::Exclude;
use kist::archive::file::{self, FileReader, HOLE_MIN_BYTES, Segment};
use kist::archive::problem::ProblemKind;
use kist::archive::target::Target;
use kist::archive::walk::{Found, Step, Walk};
use kist::format::entry::{Attributes, TreePath};
use tempfile::tempdir;

use crate::copy::{copy, options, path, split};

/// So deep that neither the kernel's longest path nor the usual 1024 open files would do.
const DEPTH: usize = 2_000;

#[test]
fn two_thousand_levels_are_written_walked_copied_and_removed() {
    let dir = tempdir().unwrap();
    let base = dir.path().join("a");
    let target = Target::open(&base, true).unwrap();
    let mut at = TreePath::root();
    for _ in 0..DEPTH {
        at = at.join(b"d").unwrap();
        assert!(target.make_folder(&at).unwrap());
    }
    let file = target.create_file(&at.join(b"file").unwrap(), 5).unwrap();
    file.write_at(0, b"down!").unwrap();
    assert!(file.place(&Attributes::default()).is_empty());
    let exclude = Exclude::default();
    let (found, problems) = split(Walk::of_folder(&base, options(&exclude)).unwrap());
    assert!(problems.is_empty(), "{:?}", problems.first());
    assert_eq!(found.len(), DEPTH + 2);
    assert_eq!(found.last().unwrap().path.parent(), Some(at.clone()));

    let problems = copy(&base, &dir.path().join("b"), false);
    assert!(problems.is_empty(), "{:?}", problems.first());
    let copied = Target::open(&dir.path().join("b"), false).unwrap();
    assert!(copied.existing(&at.join(b"file").unwrap()).unwrap().is_some());
    for target in [target, copied] {
        target.remove(&path("d")).unwrap();
        assert!(target.is_empty().unwrap());
    }
}

#[test]
fn a_path_beyond_the_formats_limit_is_a_problem_and_not_an_end() {
    let dir = tempdir().unwrap();
    let target = Target::open(dir.path(), false).unwrap();
    let mut at = TreePath::root();
    while let Some(deeper) = at.join(&[b'x'; 255]) {
        at = deeper;
        target.make_folder(&at).unwrap();
    }
    // One level more than a tree path can say: made where we stand, by a shorter name and a move.
    assert!(target.create_file(&path("file"), 0).unwrap().place(&Attributes::default()).is_empty());
    let folder = {
        let mut fd = File::open(dir.path()).unwrap();
        for name in at.components() {
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
            fd = rustix::fs::openat(&fd, name, flags, rustix::fs::Mode::empty()).unwrap().into();
        }
        fd
    };
    let root = File::open(dir.path()).unwrap();
    rustix::fs::renameat(&root, "file", &folder, "y".repeat(255)).unwrap();
    fs::write(dir.path().join("z"), "still found").unwrap();
    let exclude = Exclude::default();
    let (found, problems) = split(Walk::of_folder(dir.path(), options(&exclude)).unwrap());
    assert_eq!(found.last().unwrap().path, path("z"));
    let kinds: Vec<_> = problems.iter().map(|problem| (problem.kind, &problem.path)).collect();
    assert_eq!(kinds, [(ProblemKind::Limit, &at)]);
    target.remove(&path(&"x".repeat(255))).unwrap();
}

/// The walk's view of the one file in a folder.
fn only_file(folder: &std::path::Path) -> Found {
    let exclude = Exclude::default();
    let walk = Walk::of_folder(folder, options(&exclude)).unwrap();
    let Some(Step::Found(found)) = walk.last() else { panic!("no file") };
    found
}

fn segments(reader: &FileReader) -> Vec<Segment> {
    reader.segments().map(Result::unwrap).collect()
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_a_problem_and_not_zeros() {
    let dir = tempdir().unwrap();
    let file = File::create(dir.path().join("file")).unwrap();
    file.write_all_at(&[1; 100_000], 0).unwrap();
    let reader = file::open(&only_file(dir.path())).unwrap();
    let mut buffer = vec![0; 60_000];
    reader.read_at(0, &mut buffer).unwrap();
    assert!(!reader.changed_since_open());
    file.set_len(70_000).unwrap();
    let problem = reader.read_at(60_000, &mut buffer[..40_000]).unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Changed);
    assert_eq!(problem.cause.to_string(), "it shrank from 100000 to 70000 bytes");
    assert!(reader.changed_since_open());
    // What is cut off must not look like a hole either.
    file.set_len(0).unwrap();
    let problem = reader.segments().next().unwrap().unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Changed);
}

#[test]
fn a_file_that_grows_or_is_touched_is_read_as_it_was_opened_and_told() {
    let dir = tempdir().unwrap();
    let file = File::create(dir.path().join("file")).unwrap();
    file.write_all_at(&[1; 5000], 0).unwrap();
    let reader = file::open(&only_file(dir.path())).unwrap();
    file.write_all_at(&[2; 5000], 5000).unwrap();
    assert_eq!(segments(&reader), [Segment::Data { offset: 0, len: 5000 }]);
    assert!(reader.changed_since_open());
}

#[test]
fn holes_are_told_down_to_the_least_size() {
    let dir = tempdir().unwrap();
    let file = File::create(dir.path().join("file")).unwrap();
    let k = HOLE_MIN_BYTES;
    file.write_all_at(&[1; 4096], 2 * k).unwrap();
    file.write_all_at(&[1; 100], 4 * k).unwrap();
    file.set_len(9 * k + 1).unwrap();
    let reader = file::open(&only_file(dir.path())).unwrap();
    let expected = [
        Segment::Hole { offset: 0, len: 2 * k },
        Segment::Data { offset: 2 * k, len: k },
        Segment::Hole { offset: 3 * k, len: k },
        Segment::Data { offset: 4 * k, len: k },
        Segment::Hole { offset: 5 * k, len: 4 * k + 1 },
    ];
    assert_eq!(segments(&reader), expected);
}

#[test]
fn opening_what_is_no_file_does_not_wait() {
    let dir = tempdir().unwrap();
    let target = Target::open(dir.path(), false).unwrap();
    target.fifo(&path("fifo")).unwrap();
    let fifo = only_file(dir.path());
    assert!(file::open(&fifo).is_err());
    // A file that becomes a fifo after the walk would block whoever opens it without care.
    assert!(target.create_file(&path("fifo"), 0).unwrap().place(&Attributes::default()).is_empty());
    let found = only_file(dir.path());
    target.fifo(&path("fifo")).unwrap();
    assert_eq!(file::open(&found).unwrap_err().kind, ProblemKind::Changed);
}

#[test]
fn times_of_the_last_access_are_left_alone() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempdir().unwrap();
    let name = dir.path().join("file");
    fs::write(&name, "content").unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH;
    let times = fs::FileTimes::new().set_accessed(old);
    File::open(&name).unwrap().set_times(times).unwrap();
    File::open(dir.path()).unwrap().set_times(times).unwrap();
    let reader = file::open(&only_file(dir.path())).unwrap();
    reader.read_at(0, &mut [0; 7]).unwrap();
    assert_eq!(fs::metadata(&name).unwrap().atime(), 0);
    assert_eq!(fs::metadata(dir.path().join("file")).unwrap().atime(), 0);
}

#[test]
fn an_unknown_attribute_is_a_problem_and_the_others_are_set() {
    let dir = tempdir().unwrap();
    let target = Target::open(dir.path(), false).unwrap();
    let file = target.create_file(&path("file"), 0).unwrap();
    let mut wanted = Attributes { mode: 0o640, uid: 3, gid: 4, ..Attributes::default() };
    wanted.mtime.secs = 1234;
    wanted.xattrs = ["nosuch.namespace", "system.posix_acl_access", "user.fine"]
        .map(|name| (name.as_bytes().to_vec(), b"x".to_vec()))
        .to_vec();
    let problems = file.place(&wanted);
    let told: Vec<_> = problems.iter().map(|problem| problem.doing).collect();
    assert_eq!(told, ["setting an attribute of", "setting the ACL of"]);
    let existing = target.existing(&path("file")).unwrap().unwrap();
    assert_eq!((existing.mode, existing.uid, existing.gid, existing.mtime.secs), (0o640, 3, 4, 1234));
    let mut value = [0; 9];
    let len = rustix::fs::getxattr(dir.path().join("file"), "user.fine", &mut value[..]).unwrap();
    assert_eq!(&value[..len], b"x");
}
