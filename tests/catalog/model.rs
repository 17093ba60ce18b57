//! The catalog against a model: a list of snapshots, each with its trees as maps.
//!
//! Snapshots come in in any order of their times and are forgotten at random. Asked anything, the catalog says what
//! the model says; and one built anew from what is left says the same.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use kist::catalog::{
    Catalog, Change, EntryKind, EntryRow, Error, Found, Interval, Pattern, RootRow, Seen, SnapshotRow,
};
use kist::format::commit::RootKind;
use kist::format::entry::{FileTime, TreePath};
use kist::format::id::{SessionId, SourceId};
use kist::world::Time;
use proptest::prelude::*;

use crate::{list, open};

type Tree = BTreeMap<TreePath, EntryRow>;

#[derive(Clone, Debug)]
struct Snapshot {
    row: SnapshotRow,
    /// As many as the row has roots.
    trees: Vec<Tree>,
}

impl Snapshot {
    fn seen(&self) -> Seen {
        Seen { time: self.row.time, id: self.row.id }
    }

    fn tree_of(&self, source: SourceId) -> Option<&Tree> {
        let place = self.row.roots.iter().position(|root| root.source == source)?;
        Some(&self.trees[place])
    }
}

/// Names that sort differently as bytes of a path and by component, or are not text.
const NAMES: [&[u8]; 6] = [b"a", b"a-b", b"a\x01", b"b", b"\xff", "ü.conf".as_bytes()];
/// Sources of roots; the first is also that of snapshots of files.
const SOURCES: [SourceId; 3] = [SourceId([1; 16]), SourceId([2; 16]), SourceId([3; 16])];

/// One path set to one of a few values, or taken away.
#[derive(Clone, Debug)]
struct Edit {
    path: TreePath,
    value: Option<u8>,
}

#[derive(Clone, Debug)]
enum Step {
    /// `sources`: which roots it has, as bits; `edits`: to the tree of each.
    Snapshot {
        time: i64,
        complete: bool,
        sources: u8,
        edits: Vec<(usize, Edit)>,
    },
    Forget {
        which: prop::sample::Index,
    },
}

fn path() -> impl Strategy<Value = TreePath> {
    prop::collection::vec(prop::sample::select(&NAMES[..]), 0..4)
        .prop_map(|names| names.into_iter().fold(TreePath::root(), |path, name| path.join(name).unwrap()))
}

fn step() -> impl Strategy<Value = Step> {
    let edit = (path(), prop::option::weighted(0.7, 0..4u8)).prop_map(|(path, value)| Edit { path, value });
    let edits = prop::collection::vec((0..SOURCES.len(), edit), 0..10);
    let snapshot = (0..20i64, any::<bool>(), 1..8u8, edits)
        .prop_map(|(time, complete, sources, edits)| Step::Snapshot { time, complete, sources, edits });
    let forget = any::<prop::sample::Index>().prop_map(|which| Step::Forget { which });
    prop_oneof![5 => snapshot, 1 => forget]
}

fn entry(path: &TreePath, value: u8) -> EntryRow {
    let kind = match value {
        0 => EntryKind::Folder,
        1 => EntryKind::Symlink { target: path.sort_key().to_vec() },
        size => EntryKind::File { size: size.into() },
    };
    let mtime = FileTime { secs: -i64::from(value), nanos: value.into() };
    EntryRow { path: path.clone(), kind, mtime, mode: 0o644, uid: 1, gid: 2, stamp: value.into() }
}

fn snapshot_row(number: usize, time: i64, complete: bool, sources: u8) -> SnapshotRow {
    let kinds = [RootKind::Files, RootKind::Manifests, RootKind::Volume];
    let text = |source: SourceId| format!("{{\"source\":\"{source}\"}}");
    let roots = (0..SOURCES.len()).filter(|place| sources & (1 << place) != 0).map(|place| RootRow {
        kind: kinds[place],
        source: SOURCES[place],
        source_text: text(SOURCES[place]),
    });
    let source = SOURCES[number % 2];
    SnapshotRow {
        id: SessionId::new(0, [number as u8; 12]),
        source,
        source_text: text(source),
        host: format!("host{}", number % 3),
        time: Time(time),
        complete,
        tags: (0..number % 3).map(|tag| tag.to_string()).collect(),
        files: number as u64,
        bytes: 1 << number,
        parent: None,
        roots: roots.collect(),
    }
}

fn difference(old: &Tree, new: &Tree) -> Vec<Change> {
    let paths: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let change = |path: &TreePath| match (old.get(path), new.get(path)) {
        (None, Some(row)) => Some(Change::Added(row.clone())),
        (Some(_), None) => Some(Change::Removed(path.clone())),
        (Some(old), Some(new)) if old != new => Some(Change::Changed(new.clone())),
        _ => None,
    };
    paths.into_iter().filter_map(change).collect()
}

/// As the caller does it: each root as the difference to the head of its source.
fn take_in(catalog: &mut Catalog, there: &[Snapshot], snapshot: &Snapshot) -> Result<(), Error> {
    let heads: Vec<_> =
        snapshot.row.roots.iter().map(|root| catalog.head(root.source)).collect::<Result<_, _>>()?;
    let mut ingest = catalog.begin(&snapshot.row)?.expect("the snapshot is new");
    for (place, (root, head)) in snapshot.row.roots.iter().zip(heads).enumerate() {
        let nothing = Tree::new();
        let base =
            head.map(|head| there.iter().find(|there| there.row.id == head).expect("the head is there"));
        let base = base.and_then(|base| base.tree_of(root.source)).unwrap_or(&nothing);
        ingest.root(place, head)?;
        let mut changes = difference(base, &snapshot.trees[place]);
        if snapshot.row.files % 2 == 1 {
            changes.reverse();
        }
        changes.into_iter().try_for_each(|change| ingest.change(change))?;
    }
    ingest.finish()
}

/// Grows a catalog step by step; gives it and the model of it.
fn grow(folder: &std::path::Path, steps: &[Step]) -> (Catalog, Vec<Snapshot>) {
    let mut catalog = open(folder);
    let mut model: Vec<Snapshot> = Vec::new();
    let mut trees = vec![Tree::new(); SOURCES.len()];
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Snapshot { time, complete, sources, edits } => {
                for (source, Edit { path, value }) in edits {
                    match value {
                        Some(value) => trees[*source].insert(path.clone(), entry(path, *value)),
                        None => trees[*source].remove(path),
                    };
                }
                let row = snapshot_row(number, *time, *complete, *sources);
                let has = |place: &usize| sources & (1 << place) != 0;
                let trees = (0..SOURCES.len()).filter(has).map(|place| trees[place].clone()).collect();
                let snapshot = Snapshot { row, trees };
                take_in(&mut catalog, &model, &snapshot).unwrap();
                model.push(snapshot);
            }
            Step::Forget { which } if !model.is_empty() => {
                let gone = model.remove(which.index(model.len()));
                catalog.forget(&[gone.row.id]).unwrap();
            }
            Step::Forget { .. } => {}
        }
    }
    (catalog, model)
}

/// What the model says of a path over time. `model` is in the order of time.
fn history(model: &[Snapshot], source: SourceId, path: &TreePath) -> Vec<Interval> {
    let trees: Vec<_> =
        model.iter().filter_map(|snapshot| Some((snapshot, snapshot.tree_of(source)?))).collect();
    let mut intervals: Vec<Interval> = Vec::new();
    let mut goes_on = false;
    for (place, (snapshot, tree)) in trees.iter().enumerate() {
        let Some(row) = tree.get(path) else {
            goes_on = false;
            continue;
        };
        let (seen, current) = (snapshot.seen(), place + 1 == trees.len());
        match intervals.last_mut() {
            Some(interval) if goes_on && interval.row == *row => {
                (interval.last, interval.current) = (seen, current);
            }
            _ => intervals.push(Interval { row: row.clone(), first: seen, last: seen, current }),
        }
        goes_on = true;
    }
    intervals
}

fn assert_lists(catalog: &Catalog, model: &[Snapshot], folders: &BTreeSet<TreePath>) {
    for snapshot in model {
        for (root, tree) in snapshot.trees.iter().enumerate() {
            for folder in folders {
                let below = tree.iter().filter(|(path, _)| path.is_within(folder) && *path != folder);
                let all: Vec<_> = below.clone().map(|(_, row)| row.clone()).collect();
                let direct: Vec<_> = below
                    .filter(|(path, _)| path.parent().as_ref() == Some(folder))
                    .map(|(_, row)| row.clone())
                    .collect();
                assert_eq!(list(catalog, snapshot.row.id, root, folder, true), all);
                assert_eq!(list(catalog, snapshot.row.id, root, folder, false), direct);
                let own = catalog.entry(snapshot.row.id, root, folder).unwrap();
                assert_eq!(own.as_ref(), tree.get(folder));
            }
        }
    }
}

fn assert_snapshots(catalog: &Catalog, model: &[Snapshot]) {
    let rows: Vec<_> = model.iter().map(|snapshot| snapshot.row.clone()).collect();
    assert_eq!(catalog.snapshots().unwrap(), rows);
    for source in SOURCES {
        let of_source = || rows.iter().filter(|row| row.source == source);
        assert_eq!(catalog.newest(source).unwrap().as_ref(), of_source().next_back());
        for time in -1..21 {
            let at = of_source().rfind(|row| row.complete && row.time <= Time(time));
            assert_eq!(catalog.at(source, Time(time)).unwrap().as_ref(), at);
        }
    }
}

fn assert_histories(catalog: &Catalog, model: &[Snapshot], paths: &BTreeSet<TreePath>) {
    let mut all = Vec::new();
    for source in SOURCES {
        for path in paths {
            let versions = history(model, source, path);
            assert_eq!(catalog.history(source, path).unwrap(), versions, "{path}");
            if !versions.is_empty() {
                all.push(Found { source, path: path.clone(), versions });
            }
        }
    }
    let find = |source, pattern: &str| {
        let mut found = Vec::new();
        let visit = |row| {
            found.push(row);
            ControlFlow::Continue(())
        };
        catalog.find(source, &Pattern::glob(pattern).unwrap(), visit).unwrap();
        found
    };
    let expect = |source: Option<SourceId>, fits: &dyn Fn(&TreePath) -> bool| -> Vec<Found> {
        let of_source = |found: &&Found| source.is_none_or(|source| source == found.source);
        all.iter().filter(of_source).filter(|found| fits(&found.path)).cloned().collect()
    };
    assert_eq!(find(None, "a*"), expect(None, &|path| path.name().starts_with(b"a")));
    assert_eq!(
        find(Some(SOURCES[1]), "*.conf"),
        expect(Some(SOURCES[1]), &|path| path.name().ends_with(b".conf"))
    );
    let in_b = TreePath::from_slashes(b"b").unwrap();
    assert_eq!(find(None, "/b/*"), expect(None, &|path| path.parent().as_ref() == Some(&in_b)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_catalog_says_what_the_model_says_grown_and_built_anew(
        steps in prop::collection::vec(step(), 1..16),
        others in prop::collection::btree_set(path(), 0..4),
    ) {
        let (grown_in, rebuilt_in) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (grown, mut model) = grow(grown_in.path(), &steps);
        model.sort_by_key(Snapshot::seen);
        let mut rebuilt = open(rebuilt_in.path());
        for (number, snapshot) in model.iter().enumerate() {
            take_in(&mut rebuilt, &model[..number], snapshot).unwrap();
        }
        let mut paths: BTreeSet<TreePath> = others;
        paths.insert(TreePath::root());
        for tree in model.iter().flat_map(|snapshot| &snapshot.trees) {
            paths.extend(tree.keys().cloned());
            paths.extend(tree.keys().filter_map(TreePath::parent));
        }
        for catalog in [&grown, &rebuilt] {
            assert_snapshots(catalog, &model);
            assert_lists(catalog, &model, &paths);
            assert_histories(catalog, &model, &paths);
        }
    }

    #[test]
    fn nothing_is_left_of_what_was_forgotten(steps in prop::collection::vec(step(), 1..16)) {
        let folder = tempfile::tempdir().unwrap();
        let (mut catalog, model) = grow(folder.path(), &steps);
        let ids: Vec<_> = model.iter().map(|snapshot| snapshot.row.id).collect();
        catalog.forget(&ids).unwrap();
        catalog.forget(&ids).unwrap();
        drop(catalog);
        let file = rusqlite::Connection::open(folder.path().join("catalog.sqlite")).unwrap();
        for table in ["source", "snapshot", "root", "path", "entry"] {
            let count = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
            let rows = file.query_row(&format!("SELECT count(*) FROM {table}"), [], count).unwrap();
            prop_assert_eq!(rows, 0, "{}", table);
        }
    }
}
