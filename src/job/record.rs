//! Filling the catalog: from one new snapshot, or from the repository alone.
//!
//! The catalog takes in the difference of a tree to the one it has as the newest of the same source,
//! so both ways go through the same code. Ground truth stays the repository.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::archive::cursor::{self, Difference};
use crate::catalog::{self, Catalog, EntryRow, RootRow, SnapshotRow};
use crate::format::commit::Root;
use crate::format::entry::Entry;
use crate::format::id::SessionId;
use crate::format::summary::{Source, Summary};
use crate::job::Result;
use crate::repo::{self, Index, Reader, Repository, Snapshot, Snapshots, TreeReader};

/// Entries of a difference that are handed over at a time.
const BATCH: usize = 4096;
/// Batches on their way from the repository to the catalog.
const BATCHES: usize = 4;

/// What a rebuild took in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rebuilt {
    pub snapshots: u64,
    /// Snapshots whose names can't be read with this key.
    pub unreadable: u64,
}

/// Takes into the catalog what it does not have yet of the snapshots that a run knows, its own among them; makes it
/// anew if it is not usable. Reads with the run's reader, if that has written the trees itself.
pub async fn add(repo: &Repository, path: &Path, known: Snapshots, reader: Option<Reader>) -> Result<()> {
    let catalog = match Catalog::open(path, repo.catalog_id()) {
        Err(error) if error.needs_rebuild() => return rebuild(repo, path).await.map(drop),
        catalog => catalog?,
    };
    // What other machines have committed since is taken in too, or the heads would not fit.
    let all = with_unknown(repo, &catalog, known).await?;
    let is_of_the_run = reader.is_some();
    let mut taken = take_in(Trees::of(repo, reader), catalog, &all).await;
    if is_of_the_run
        && let Err(crate::job::Error::Repo(error)) = &taken
        && error.is_damage()
    {
        // Another run, which this one's reader knows nothing of, may have filled the catalog meanwhile.
        let catalog = Catalog::open(path, repo.catalog_id())?;
        taken = take_in(Trees::of(repo, None), catalog, &all).await;
    }
    match taken {
        Err(crate::job::Error::Catalog(error)) if error.needs_rebuild() => {
            rebuild(repo, path).await.map(drop)
        }
        taken => taken.map(|taken| tracing::debug!(snapshots = taken.snapshots, "catalog filled")),
    }
}

/// Deletes the catalog and makes it from the repository.
pub async fn rebuild(repo: &Repository, path: &Path) -> Result<Rebuilt> {
    Catalog::delete(path)?;
    let catalog = Catalog::open(path, repo.catalog_id())?;
    take_in(Trees::of(repo, None), catalog, &Snapshots::load(repo).await?.all).await
}

/// All that may have to be taken in, oldest first, and what that is compared with. What the catalog has is not fetched.
async fn with_unknown(repo: &Repository, catalog: &Catalog, known: Snapshots) -> Result<Vec<Snapshot>> {
    let mut all = known.all;
    let mut missing = Vec::new();
    for id in known.left_out {
        if !catalog.contains(id)? {
            missing.push(id);
        }
    }
    let mut more = Snapshots::load_some(repo, &missing).await?.all;
    all.append(&mut more);
    let mut heads = HashSet::new();
    for root in all.iter().flat_map(|snapshot| &snapshot.commit.roots) {
        heads.extend(catalog.head(root.source)?);
    }
    heads.retain(|head| all.iter().all(|snapshot| snapshot.id != *head));
    let heads: Vec<_> = heads.into_iter().collect();
    all.append(&mut Snapshots::load_some(repo, &heads).await?.all);
    all.sort_by_key(|snapshot| (snapshot.commit.time, snapshot.id));
    Ok(all)
}

/// What reads trees, once there is one to be read.
struct Trees<'a> {
    repo: &'a Repository,
    reader: OnceCell<Arc<Reader>>,
}

impl<'a> Trees<'a> {
    fn of(repo: &'a Repository, reader: Option<Reader>) -> Self {
        Self { repo, reader: OnceCell::new_with(reader.map(Arc::new)) }
    }

    async fn reader(&self) -> Result<&Arc<Reader>> {
        let load = async { Ok(Arc::new(Reader::new(self.repo, Arc::new(Index::load(self.repo).await?)))) };
        self.reader.get_or_try_init(|| load).await
    }
}

/// Takes in all snapshots that the catalog does not have yet, oldest first.
async fn take_in(trees: Trees<'_>, mut catalog: Catalog, snapshots: &[Snapshot]) -> Result<Rebuilt> {
    let mut rebuilt = Rebuilt::default();
    for snapshot in snapshots {
        let Some(summary) = repo::summary(trees.repo, snapshot).ok().flatten() else {
            rebuilt.unreadable += 1;
            continue;
        };
        rebuilt.snapshots += 1;
        if catalog.contains(snapshot.id)? {
            continue;
        }
        let row = snapshot_row(snapshot, &summary, snapshots);
        catalog = take_in_one(catalog, row, snapshot, snapshots, &trees).await?;
    }
    Ok(rebuilt)
}

/// Feeds the catalog's thread with the differences of a snapshot's roots.
async fn take_in_one(
    catalog: Catalog,
    row: SnapshotRow,
    snapshot: &Snapshot,
    snapshots: &[Snapshot],
    trees: &Trees<'_>,
) -> Result<Catalog> {
    let roots = &snapshot.commit.roots;
    let bases: Vec<Option<SessionId>> =
        roots.iter().map(|root| catalog.head(root.source)).collect::<Result<_, _>>()?;
    let (to_catalog, for_catalog) = tokio::sync::mpsc::channel(BATCHES);
    let for_ingest = bases.clone();
    let ingesting = tokio::task::spawn_blocking(move || ingest(catalog, &row, &for_ingest, for_catalog));
    for (place, root) in roots.iter().enumerate() {
        let before = bases[place].and_then(|base| root_of(snapshots, base, root));
        let named = |(of, root): (&Snapshot, &Root)| (root.node, of.commit.meta_key_name(root.source));
        if before.map(named) == Some(named((snapshot, root))) {
            // Nothing has to be read to know that nothing differs.
            let _ = to_catalog.send((place, Vec::new())).await;
            continue;
        }
        let reader = trees.reader().await?;
        let tree = |(of, root): (&Snapshot, &Root)| TreeReader::new(reader.clone(), of, root);
        let mut difference = Difference::new(before.map(tree), tree((snapshot, root)));
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let change = difference.next().await?;
            let ended = change.is_none();
            batch.extend(change.map(to_row));
            if ended || batch.len() == BATCH {
                // A closed channel means that the catalog has failed: its own error says why.
                if to_catalog.send((place, std::mem::take(&mut batch))).await.is_err() {
                    break;
                }
            }
            if ended {
                break;
            }
        }
    }
    // Without this word the catalog keeps nothing of the snapshot.
    let _ = to_catalog.send((roots.len(), Vec::new())).await;
    drop(to_catalog);
    ingesting.await.expect("filling the catalog does not panic")
}

fn ingest(
    mut catalog: Catalog,
    row: &SnapshotRow,
    bases: &[Option<SessionId>],
    mut batches: tokio::sync::mpsc::Receiver<(usize, Vec<catalog::Change>)>,
) -> Result<Catalog> {
    if let Some(mut ingest) = catalog.begin(row)? {
        let mut begun = 0;
        while let Some((place, changes)) = batches.blocking_recv() {
            if place == bases.len() {
                ingest.finish()?;
                break;
            }
            while begun <= place {
                ingest.root(begun, bases[begun])?;
                begun += 1;
            }
            changes.into_iter().try_for_each(|change| ingest.change(change))?;
        }
    }
    Ok(catalog)
}

fn root_of<'s>(
    snapshots: &'s [Snapshot],
    snapshot: SessionId,
    root: &Root,
) -> Option<(&'s Snapshot, &'s Root)> {
    let base = snapshots.iter().find(|found| found.id == snapshot)?;
    Some((base, base.commit.roots.iter().find(|found| found.source == root.source)?))
}

fn to_row(change: cursor::Change) -> catalog::Change {
    let row = |entry: &Entry| EntryRow::from(entry);
    match change {
        cursor::Change::Added(entry) => catalog::Change::Added(row(&entry)),
        cursor::Change::Changed { after, .. } => catalog::Change::Changed(row(&after)),
        cursor::Change::Removed(entry) => catalog::Change::Removed(entry.path),
    }
}

fn snapshot_row(snapshot: &Snapshot, summary: &Summary, snapshots: &[Snapshot]) -> SnapshotRow {
    let commit = &snapshot.commit;
    let source_text = serde_json::to_string(&summary.source).unwrap_or_default();
    let parent = summary.parent.as_ref();
    SnapshotRow {
        id: snapshot.id,
        source: commit.source,
        host: match &summary.source {
            Source::Files { host, .. } => host.clone(),
            Source::Cluster { cluster, .. } => cluster.clone(),
        },
        time: commit.time,
        complete: commit.complete,
        tags: summary.tags.clone(),
        files: summary.counts.files,
        bytes: summary.counts.bytes,
        parent: parent
            .and_then(|name| snapshots.iter().find(|found| found.name() == *name))
            .map(|found| found.id),
        roots: commit
            .roots
            .iter()
            .map(|root| RootRow { kind: root.kind, source: root.source, source_text: source_text.clone() })
            .collect(),
        source_text,
    }
}
