//! How big the catalog gets and how fast: figures are printed, the claims about growth are held.
//!
//! `cargo test --test catalog size -- --nocapture`

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use kist::catalog::{Catalog, Change, EntryKind, EntryRow, Pattern, RootRow, SnapshotRow};
use kist::format::commit::RootKind;
use kist::format::entry::{FileTime, TreePath};
use kist::format::id::{RepoId, SessionId, SourceId};
use kist::world::Time;

use crate::{list, open};

const SOURCE: SourceId = SourceId([1; 16]);
const FILES: u64 = 200_000;

fn id(number: u32) -> SessionId {
    SessionId::new(number, [0; 12])
}

fn snapshot(number: u32) -> SnapshotRow {
    let text = "{\"host\":\"web-1\",\"paths\":[\"/srv/data\"]}";
    SnapshotRow {
        id: id(number),
        source: SOURCE,
        source_text: text.into(),
        host: "web-1".into(),
        time: Time(i64::from(number) * 3_600_000_000_000),
        complete: true,
        tags: vec![],
        files: FILES,
        bytes: FILES * 1000,
        parent: number.checked_sub(1).map(id),
        roots: vec![RootRow { kind: RootKind::Files, source: SOURCE, source_text: text.into() }],
    }
}

/// Scrambles a number, the same way in each run.
fn scramble(number: u64) -> u64 {
    let mixed = (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

/// File `number` of a tree of folders of 20, in its version `version`; keys of about 50 bytes.
fn file(number: u64, version: u64) -> EntryRow {
    let name = scramble(number) % 1_000_000;
    let path = format!(
        "projects/customer-{:03}/documents/{:04}/{:02}-{name:06}.pdf",
        number / 2000,
        number / 20,
        number % 20
    );
    let noise = scramble(number * 1000 + version);
    EntryRow {
        path: TreePath::from_slashes(path.as_bytes()).unwrap(),
        kind: EntryKind::File { size: noise % 1_000_000 },
        mtime: FileTime {
            secs: 1_700_000_000 + (noise % 1_000_000) as i64,
            nanos: (noise % 1_000_000_000) as u32,
        },
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        stamp: noise,
    }
}

fn take_in(catalog: &mut Catalog, number: u32, changes: impl Iterator<Item = Change>) {
    let mut ingest = catalog.begin(&snapshot(number)).unwrap().unwrap();
    ingest.root(0, number.checked_sub(1).map(id)).unwrap();
    changes.for_each(|change| ingest.change(change).unwrap());
    ingest.finish().unwrap();
}

/// Bytes of the file, once the last one has closed it and so put everything into it.
fn size(catalog: Catalog, folder: &Path) -> (u64, Catalog) {
    drop(catalog);
    let size = std::fs::metadata(folder.join("catalog.sqlite")).unwrap().len();
    (size, Catalog::open(&folder.join("catalog.sqlite"), RepoId([7; 16])).unwrap())
}

#[test]
fn it_grows_with_change_not_with_files_times_snapshots() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalog = open(folder.path());
    let rows: Vec<_> = (0..FILES).map(|number| Change::Added(file(number, 0))).collect();
    let key_bytes: usize = rows
        .iter()
        .map(|change| match change {
            Change::Added(row) => row.path.sort_key().len(),
            _ => 0,
        })
        .sum();
    let start = Instant::now();
    take_in(&mut catalog, 0, rows.into_iter());
    let took = start.elapsed();
    let (first, mut catalog) = size(catalog, folder.path());
    println!(
        "first snapshot: {FILES} files with keys of {} bytes: {:.1} MB, {} bytes a file; {:.2} s, {:.0} files/s",
        key_bytes as u64 / FILES,
        first as f64 / 1e6,
        first / FILES,
        took.as_secs_f64(),
        FILES as f64 / took.as_secs_f64()
    );
    assert!(first < FILES * 160, "{first} bytes");

    for number in 1..=100 {
        take_in(&mut catalog, number, std::iter::empty());
    }
    let (unchanged, mut catalog) = size(catalog, folder.path());
    println!("100 snapshots more, nothing changed: {} bytes each", (unchanged - first) / 100);
    assert!(unchanged - first < 100 * 1000, "{} bytes", unchanged - first);

    let start = Instant::now();
    for number in 101..=120u32 {
        let changes =
            (0..FILES).skip(number as usize).step_by(50).map(|at| Change::Changed(file(at, number.into())));
        take_in(&mut catalog, number, changes);
    }
    let took = start.elapsed();
    let (changed, catalog) = size(catalog, folder.path());
    let changes = 20 * FILES / 50;
    println!(
        "20 snapshots more, 2 % changed in each: {} bytes a change; {:.0} changes/s",
        (changed - unchanged) / changes,
        changes as f64 / took.as_secs_f64()
    );
    assert!(changed - unchanged < changes * 100, "{} bytes", changed - unchanged);
    time_answers(&catalog);
}

fn time_answers(catalog: &Catalog) {
    let folder = |path: &str| TreePath::from_slashes(path.as_bytes()).unwrap();
    let start = Instant::now();
    assert_eq!(list(catalog, id(110), 0, &TreePath::root(), true).len() as u64, FILES);
    println!("ls of all files of a snapshot in the middle: {:.2} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    assert_eq!(list(catalog, id(110), 0, &folder("projects/customer-010/documents/1000"), false).len(), 20);
    println!("ls of one folder: {:.2} ms", start.elapsed().as_secs_f64() * 1e3);
    let start = Instant::now();
    // No folder has an entry of its own here: leaps over all of it, folder by folder.
    assert!(list(catalog, id(110), 0, &folder("projects/customer-010/documents"), false).is_empty());
    println!("ls of a folder of 100 folders: {:.2} ms", start.elapsed().as_secs_f64() * 1e3);
    let start = Instant::now();
    let mut found = 0;
    let visit = |_| {
        found += 1;
        ControlFlow::Continue(())
    };
    catalog.find(None, &Pattern::glob("*-00012?.pdf").unwrap(), visit).unwrap();
    println!("find by glob: {:.2} s, {found} paths", start.elapsed().as_secs_f64());
    let start = Instant::now();
    assert_eq!(catalog.history(SOURCE, &file(101, 0).path).unwrap().len(), 2);
    println!("history of one path: {:.2} ms", start.elapsed().as_secs_f64() * 1e3);
}
