//! What must hold of the catalog's file: who may read it, what a crash, a full disk, a second process and
//! strange files do to it. What its answers must be is in `tests/catalog`.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::format::commit::RootKind;
use crate::format::entry::FileTime;
use crate::world::Time;

const REPO: RepoId = RepoId([7; 16]);
const NAME: &str = "catalog.sqlite";

fn snapshot(number: u8, sources: &[u8]) -> SnapshotRow {
    let root = |&source: &u8| RootRow {
        kind: RootKind::Volume,
        source: SourceId([source; 16]),
        source_text: format!("{{\"volume\":{source}}}"),
    };
    SnapshotRow {
        id: SessionId([number; 16]),
        source: SourceId([200; 16]),
        source_text: "{\"cluster\":\"c\"}".into(),
        host: "h".into(),
        time: Time(number.into()),
        complete: true,
        tags: vec!["a \"b\"".into(), String::new()],
        files: u64::MAX,
        bytes: 3,
        parent: number.checked_sub(1).map(|parent| SessionId([parent; 16])),
        roots: sources.iter().map(root).collect(),
    }
}

fn file(path: &str, size: u64) -> EntryRow {
    EntryRow {
        path: TreePath::from_slashes(path.as_bytes()).unwrap(),
        kind: EntryKind::File { size },
        mtime: FileTime { secs: -5, nanos: 999_999_999 },
        mode: 0o6755,
        uid: u32::MAX,
        gid: 0,
        stamp: u64::MAX,
    }
}

fn open(folder: &Path) -> Catalog {
    Catalog::open_with(&folder.join(NAME), REPO, Duration::from_secs(20)).unwrap()
}

/// Takes in a snapshot of source 1 with these changes, against its head.
fn take_in(catalog: &mut Catalog, number: u8, changes: &[Change]) -> Result<(), Error> {
    let head = catalog.head(SourceId([1; 16]))?;
    let mut ingest = catalog.begin(&snapshot(number, &[1]))?.expect("the snapshot is new");
    ingest.root(0, head)?;
    changes.iter().try_for_each(|change| ingest.change(change.clone()))?;
    ingest.finish()
}

fn names(catalog: &Catalog, number: u8) -> Vec<String> {
    let mut names = Vec::new();
    let visit = |row: EntryRow| {
        names.push(row.path.to_string());
        ControlFlow::Continue(())
    };
    catalog.list(SessionId([number; 16]), 0, &TreePath::root(), true, visit).unwrap();
    names
}

fn why_unusable(path: &Path, repo: RepoId) -> String {
    match Catalog::open(path, repo) {
        Err(error @ Error::Unusable { .. }) if error.needs_rebuild() => error.to_string(),
        Err(error) => panic!("the wrong error: {error:?}"),
        Ok(_) => panic!("was opened"),
    }
}

#[test]
fn rows_come_out_as_they_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalog = open(folder.path());
    let kinds = [
        EntryKind::Folder,
        EntryKind::File { size: u64::MAX },
        EntryKind::Symlink { target: b"\xff/\0x".to_vec() },
        EntryKind::Fifo,
        EntryKind::Socket,
        EntryKind::CharDevice { major: u32::MAX, minor: 1 },
        EntryKind::BlockDevice { major: 0, minor: u32::MAX },
    ];
    let rows: Vec<EntryRow> = kinds
        .into_iter()
        .enumerate()
        .map(|(at, kind)| EntryRow { kind, ..file(&format!("f{at}"), 0) })
        .collect();
    let changes: Vec<_> = rows.iter().cloned().map(Change::Added).collect();
    take_in(&mut catalog, 1, &changes).unwrap();
    let mut found = Vec::new();
    let visit = |row| {
        found.push(row);
        ControlFlow::Continue(())
    };
    catalog.list(SessionId([1; 16]), 0, &TreePath::root(), false, visit).unwrap();
    assert_eq!(found, rows);
    assert_eq!(catalog.snapshots().unwrap(), [snapshot(1, &[1])]);
    assert_eq!(catalog.snapshot(SessionId([1; 16])).unwrap(), Some(snapshot(1, &[1])));
    assert_eq!(catalog.entry(SessionId([1; 16]), 0, &rows[3].path).unwrap(), Some(rows[3].clone()));
}

#[test]
fn only_the_owner_may_read_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/newer").join(NAME);
    let mut catalog = Catalog::open(&path, REPO).unwrap();
    take_in(&mut catalog, 1, &[Change::Added(file("a", 1))]).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode(&schema::beside(&path, suffix)), 0o600, "{suffix:?}");
    }
    assert_eq!(mode(&folder.path().join("new")), 0o700);
    assert_eq!(mode(&folder.path().join("new/newer")), 0o700);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    Catalog::open(&path, REPO).unwrap();
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn the_same_snapshot_twice_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalog = open(folder.path());
    take_in(&mut catalog, 1, &[Change::Added(file("a", 1))]).unwrap();
    assert!(catalog.begin(&snapshot(1, &[1])).unwrap().is_none());
    assert_eq!(catalog.snapshots().unwrap().len(), 1);
}

#[test]
fn a_difference_to_another_snapshot_than_the_head_is_refused_with_the_head() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalog = open(folder.path());
    for number in [1, 2] {
        take_in(&mut catalog, number, &[Change::Added(file(&number.to_string(), 1))]).unwrap();
    }
    for base in [None, Some(SessionId([1; 16])), Some(SessionId([99; 16]))] {
        let mut ingest = catalog.begin(&snapshot(3, &[1])).unwrap().unwrap();
        match ingest.root(0, base) {
            Err(Error::NotHead { head, .. }) => assert_eq!(head, Some(SessionId([2; 16]))),
            other => panic!("{base:?}: {other:?}"),
        }
    }
    assert!(!catalog.contains(SessionId([3; 16])).unwrap());
    let mut ingest = catalog.begin(&snapshot(3, &[9])).unwrap().unwrap();
    assert!(matches!(ingest.root(0, Some(SessionId([2; 16]))), Err(Error::NotHead { head: None, .. })));
}

#[test]
fn a_difference_that_does_not_fit_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalog = open(folder.path());
    take_in(&mut catalog, 1, &[Change::Added(file("a", 1)), Change::Added(file("gone", 1))]).unwrap();
    take_in(&mut catalog, 2, &[Change::Removed(file("gone", 1).path)]).unwrap();
    for bad in [
        vec![Change::Added(file("a", 2))],
        vec![Change::Changed(file("b", 2))],
        vec![Change::Changed(file("gone", 2))],
        vec![Change::Removed(file("b", 2).path)],
        vec![Change::Changed(file("a", 2)), Change::Changed(file("a", 3))],
        vec![Change::Added(file("c", 2)), Change::Removed(file("c", 2).path)],
    ] {
        let error = take_in(&mut catalog, 3, &bad).unwrap_err();
        assert!(matches!(error, Error::Disagrees { .. }) && error.needs_rebuild(), "{bad:?}: {error:?}");
        assert!(!catalog.contains(SessionId([3; 16])).unwrap());
    }
    assert_eq!(names(&catalog, 2), ["/a"]);
    take_in(&mut catalog, 3, &[Change::Added(file("gone", 1))]).unwrap();
    assert_eq!(names(&catalog, 3), ["/a", "/gone"]);
}

#[test]
fn two_roots_of_one_source_in_a_snapshot_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalog = open(folder.path());
    assert!(matches!(catalog.begin(&snapshot(1, &[4, 5, 4])), Err(Error::SameSource { .. })));
}

#[test]
fn what_is_not_there_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalog = open(folder.path());
    take_in(&mut catalog, 1, &[]).unwrap();
    let list = |number, root| {
        catalog.list(SessionId([number; 16]), root, &TreePath::root(), true, |_| ControlFlow::Continue(()))
    };
    assert!(matches!(list(2, 0), Err(Error::NoSnapshot { .. })));
    assert!(matches!(list(1, 1), Err(Error::NoRoot { root: 1, .. })));
    assert!(list(1, 0).is_ok());
}

#[test]
fn a_visitor_may_ask_the_catalog_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalog = open(folder.path());
    take_in(&mut catalog, 1, &[Change::Added(file("a", 1))]).unwrap();
    let mut histories = 0;
    let visit = |row: EntryRow| {
        histories += catalog.history(SourceId([1; 16]), &row.path).unwrap().len();
        ControlFlow::Continue(())
    };
    catalog.list(SessionId([1; 16]), 0, &TreePath::root(), true, visit).unwrap();
    assert_eq!(histories, 1);
}

#[test]
fn a_process_killed_in_the_middle_leaves_the_catalog_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalog = open(folder.path());
    take_in(&mut catalog, 1, &[Change::Added(file("a", 1))]).unwrap();
    let mut ingest = catalog.begin(&snapshot(2, &[1])).unwrap().unwrap();
    ingest.root(0, Some(SessionId([1; 16]))).unwrap();
    // More than the page cache holds, so that some of it is in `-wal` already.
    for number in 0..150_000 {
        ingest.change(Change::Added(file(&format!("some/folder/with/files/{number:08}"), 1))).unwrap();
    }
    let wal = fs::metadata(folder.path().join("catalog.sqlite-wal")).unwrap().len();
    assert!(wal > 1_000_000, "only {wal} bytes were written");
    // What a killed process leaves is what the files hold now.
    let left = tempfile::tempdir().unwrap();
    for name in ["catalog.sqlite", "catalog.sqlite-wal"] {
        fs::copy(folder.path().join(name), left.path().join(name)).unwrap();
    }
    drop(ingest);
    for mut catalog in [catalog, open(left.path())] {
        assert_eq!(names(&catalog, 1), ["/a"]);
        assert!(!catalog.contains(SessionId([2; 16])).unwrap());
        take_in(&mut catalog, 2, &[Change::Added(file("b", 1))]).unwrap();
        assert_eq!(names(&catalog, 2), ["/a", "/b"]);
    }
}

#[test]
fn a_full_disk_is_said_and_leaves_the_catalog_usable() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalog = open(folder.path());
    take_in(&mut catalog, 1, &[Change::Added(file("a", 1))]).unwrap();
    // SQLite gives the same error for this as for a full disk.
    catalog.conn.execute_batch("PRAGMA max_page_count = 100").unwrap();
    let many: Vec<_> =
        (0..50_000).map(|number| Change::Added(file(&format!("folder/{number:08}"), 1))).collect();
    let error = take_in(&mut catalog, 2, &many).unwrap_err();
    assert!(matches!(error, Error::Full { .. }) && !error.needs_rebuild(), "{error:?}");
    assert_eq!(names(&catalog, 1), ["/a"]);
    take_in(&mut catalog, 2, &many[..100]).unwrap();
    assert_eq!(names(&catalog, 2).len(), 101);
}

#[test]
fn what_is_not_a_catalog_is_not_usable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(NAME);
    fs::write(&path, b"not a database, and longer than a header of SQLite would be: ".repeat(3)).unwrap();
    assert!(why_unusable(&path, REPO).ends_with("not usable: not an SQLite file"));
    Catalog::delete(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(why_unusable(&path, REPO).ends_with("an SQLite file, but not a catalog of kist"));
    Catalog::delete(&path).unwrap();
    Catalog::delete(&path).unwrap();
    drop(Catalog::open(&path, REPO).unwrap());
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    assert!(why_unusable(&path, REPO).contains("its version is 99"));
}

#[test]
fn the_catalog_of_another_repository_is_not_usable() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let other = RepoId([8; 16]);
    let reason = why_unusable(&folder.path().join(NAME), other);
    assert!(reason.contains(&REPO.to_string()) && reason.contains(&other.to_string()), "{reason}");
}

#[test]
fn a_damaged_file_is_not_usable_and_can_be_deleted_and_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(NAME);
    let mut catalog = open(folder.path());
    let many: Vec<_> =
        (0..5000).map(|number| Change::Added(file(&format!("folder/{number:08}"), 1))).collect();
    take_in(&mut catalog, 1, &many).unwrap();
    drop(catalog);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let found = Catalog::open(&path, REPO).and_then(|catalog| catalog.snapshots());
    assert!(found.is_err_and(|error| error.needs_rebuild()));
    Catalog::delete(&path).unwrap();
    assert_eq!(open(folder.path()).snapshots().unwrap(), []);
}

#[test]
fn a_damaged_row_is_said_not_guessed() {
    let folder = tempfile::tempdir().unwrap();
    for damage in
        ["UPDATE path SET key = x'2e2e'", "UPDATE entry SET kind = 99", "UPDATE entry SET mode = -1"]
    {
        let mut catalog = open(folder.path());
        take_in(&mut catalog, 1, &[Change::Added(file("a", 1))]).unwrap();
        catalog.conn.execute_batch(damage).unwrap();
        let list =
            catalog.list(SessionId([1; 16]), 0, &TreePath::root(), true, |_| ControlFlow::Continue(()));
        assert!(matches!(list, Err(Error::Unusable { .. })), "{damage}: {list:?}");
        Catalog::delete(&folder.path().join(NAME)).unwrap();
    }
}

#[test]
fn who_waits_too_long_for_another_process_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = open(folder.path());
    let path = folder.path().join(NAME);
    let mut second = Catalog::open_with(&path, REPO, Duration::from_millis(50)).unwrap();
    let ingest = first.begin(&snapshot(1, &[])).unwrap().unwrap();
    assert!(matches!(second.begin(&snapshot(2, &[])).map(|_| ()), Err(Error::Busy { .. })));
    assert_eq!(second.snapshots().unwrap(), []);
    ingest.finish().unwrap();
    second.begin(&snapshot(2, &[])).unwrap().unwrap().finish().unwrap();
    assert_eq!(first.snapshots().unwrap().len(), 2);
}

#[test]
fn several_at_once_create_one_catalog_and_take_in_all_their_snapshots() {
    let folder = tempfile::tempdir().unwrap();
    let start = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let (folder, start) = (folder.path(), &start);
            scope.spawn(move || {
                start.wait();
                let mut catalog = open(folder);
                for number in (thread..100).step_by(4) {
                    let added = [Change::Added(file(&format!("{number:03}"), 1))];
                    // Another one may come in between: then against the new head.
                    loop {
                        match take_in(&mut catalog, number, &added) {
                            Err(Error::NotHead { .. }) => {}
                            done => break done.unwrap(),
                        }
                    }
                }
            });
        }
    });
    let catalog = open(folder.path());
    let head = catalog.head(SourceId([1; 16])).unwrap().unwrap();
    assert_eq!(catalog.snapshots().unwrap().len(), 100);
    assert_eq!(names(&catalog, head.0[0]).len(), 100);
}
