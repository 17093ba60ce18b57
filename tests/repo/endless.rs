//! Trees that no kist writes, committed with a real writer's key: whoever walks one comes to an end, and names the node
//! that is not what the tree says of it; and the writer's next backup is whole.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use kist::archive::backup::{Moving, Setting};
use kist::archive::chunk::Chunker;
use kist::archive::documents;
use kist::crypto::secret::Key;
use kist::format::commit::{Root, RootKind};
use kist::format::entry::{Attributes, Content, Entry, Extent, Kind, TreePath};
use kist::format::id::{ChunkId, NodeId, RecordId};
use kist::format::keys::KeyName;
use kist::format::limits;
use kist::format::node::{Child, ExtentChild, Node};
use kist::format::refs::ChunkRef;
use kist::job::find::Part;
use kist::job::{list, record};
use kist::progress::Silent;
use kist::repo::{self, Begun, Index, Reader, Repository, Snapshot, Snapshots, ToCommit, TreeReader, Writer};

use crate::copy::{Elsewhere, copy_all};
use crate::scene::{Scene, WRITER, backup, chain, check, described, noise, restore_into};

/// Whoever takes each of two ways this often does not come to an end.
const DEEP: u8 = 60;

/// A writer's own file, which is not bundled.
const FILE: &str = "file";
const SIZE: u64 = 3000;

/// Saves nodes as they are.
struct Forge {
    writer: Writer,
    meta: (KeyName, Key),
    /// The writer's file, in the tree.
    file: TreePath,
    /// The root of a tree of another source.
    other: NodeId,
}

/// A root, and the node that is not what the tree says of it.
type Tree = (NodeId, NodeId);

fn path(text: &str) -> TreePath {
    TreePath::from_slashes(text.as_bytes()).unwrap()
}

fn entry(path: TreePath, kind: Kind) -> Entry {
    Entry { path, attributes: Attributes::default(), kind }
}

impl Forge {
    fn save(&self, node: Node) -> NodeId {
        self.writer.save_node(&node, &self.meta).unwrap().id
    }

    fn leaf(&self, pipes: &[&str]) -> NodeId {
        self.save(Node::Leaf(pipes.iter().map(|at| entry(path(at), Kind::Fifo)).collect()))
    }

    fn inner(&self, level: u8, children: &[(&str, NodeId)]) -> NodeId {
        let child = |(last, node): &(&str, NodeId)| Child { last: path(last), node: *node };
        self.save(Node::Inner { level, children: children.iter().map(child).collect() })
    }

    fn extents(&self, level: u8, children: &[(u64, NodeId)]) -> NodeId {
        let child = |(len, node): &(u64, NodeId)| ExtentChild { len: *len, node: *node };
        self.save(Node::ExtentInner { level, children: children.iter().map(child).collect() })
    }

    /// A tree with a file in the folder `a`, and one where the writer has its own. Their extents are at `root`.
    fn of_extents(&self, root: NodeId) -> NodeId {
        let file = || Kind::File { size: SIZE, content: Content::Tree(root), hash: None };
        let folder = entry(path("a"), Kind::Folder);
        self.save(Node::Leaf(vec![folder, entry(path("a/x"), file()), entry(self.file.clone(), file())]))
    }

    /// Nodes with two ways to the one below, of the levels 1, 1, …
    fn ways(&self, mut below: NodeId) -> Tree {
        let mut bad = below;
        for _ in 0..DEEP {
            (bad, below) = (below, self.inner(1, &[("a/x", below), ("b", below)]));
        }
        (below, bad)
    }

    fn ways_of_extents(&self, mut below: NodeId) -> Tree {
        let mut bad = below;
        for _ in 0..DEEP {
            (bad, below) = (below, self.extents(1, &[(SIZE - 1, below), (1, below)]));
        }
        (self.of_extents(below), bad)
    }
}

type Case = (&'static str, fn(&Forge) -> Tree);

const PATHS: [Case; 8] = [
    ("levels that do not fall", |forge| forge.ways(forge.leaf(&["a", "a/x"]))),
    ("one node twice", |forge| {
        let leaf = forge.leaf(&["a", "a/x"]);
        let above = |(last, below): (String, NodeId), level| {
            let more = format!("b{level:02}");
            let node = forge.inner(level, &[(last.as_str(), below), (more.as_str(), below)]);
            (more, node)
        };
        ((1..16).fold(("a/x".into(), leaf), above).1, leaf)
    }),
    ("another last path", |forge| {
        let leaf = forge.leaf(&["a", "a/x"]);
        (forge.inner(1, &[("a/x/y", leaf), ("b", forge.leaf(&["b"]))]), leaf)
    }),
    ("a path that came before", |forge| {
        let (leaf, again) = (forge.leaf(&["a", "a/x"]), forge.leaf(&["a/x", "a/y"]));
        (forge.inner(1, &[("a/x", leaf), ("a/y", again)]), again)
    }),
    ("a leaf of nothing", |forge| {
        let (leaf, empty) = (forge.leaf(&["a", "a/x"]), forge.leaf(&[]));
        (forge.inner(1, &[("a/x", leaf), ("a/y", empty)]), empty)
    }),
    ("a tree of extents", |forge| {
        let extents = forge.save(Node::ExtentLeaf(vec![Extent::Hole { len: 1 }]));
        (forge.inner(1, &[("a/x", forge.leaf(&["a", "a/x"])), ("a/y", extents)]), extents)
    }),
    ("a part of another source", |forge| {
        (forge.inner(1, &[("a/x", forge.leaf(&["a", "a/x"])), ("a/y", forge.other)]), forge.other)
    }),
    ("another source", |forge| (forge.other, forge.other)),
];

const EXTENTS: [Case; 5] = [
    ("levels that do not fall", |forge| forge.ways_of_extents(forge.save(Node::ExtentLeaf(vec![])))),
    ("a leaf of nothing", |forge| {
        let empty = forge.save(Node::ExtentLeaf(vec![]));
        (forge.of_extents(forge.extents(1, &[(SIZE, empty)])), empty)
    }),
    ("too short", |forge| {
        let short = forge.save(Node::ExtentLeaf(vec![Extent::Hole { len: SIZE - 1 }]));
        (forge.of_extents(short), short)
    }),
    ("longer than can be said", |forge| {
        let hole = forge.save(Node::ExtentLeaf(vec![Extent::Hole { len: u64::MAX }]));
        let long = forge.extents(1, &[(u64::MAX, hole), (SIZE + 1, hole)]);
        (forge.of_extents(long), long)
    }),
    ("a tree of paths", |forge| {
        let leaf = forge.leaf(&["a"]);
        (forge.of_extents(leaf), leaf)
    }),
];

/// A writer with a snapshot of each of two sources, and what it commits then.
struct Stolen {
    scene: Scene,
    shop: repo::Unlock,
}

impl Stolen {
    async fn new() -> Self {
        let scene = Scene::new().await;
        fs::write(scene.source().join(FILE), noise(SIZE as usize, 1)).unwrap();
        let shop = scene.writer("shop").await;
        let stolen = Self { scene, shop };
        let elsewhere = stolen.scene.dir.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        for source in [&elsewhere, &stolen.scene.source()] {
            backup(&stolen.open().await, source).await.unwrap();
        }
        stolen
    }

    async fn open(&self) -> Repository {
        self.scene.open_with(&self.shop).await
    }

    /// Commits a tree as the next one of the writer's source.
    async fn commit(
        &self,
        kind: RootKind,
        make: impl FnOnce(&Forge) -> Tree + Send + 'static,
    ) -> (Snapshot, NodeId) {
        let repo = self.open().await;
        let Begun { session, mut lanes, view, .. } = repo::begin(&repo, 1).await.unwrap();
        let before = Snapshots::load(&repo).await.unwrap();
        let [other, mine] = before.all.as_slice() else { panic!("two snapshots") };
        let index = Arc::new(Index::load_to_add(&repo, session).await.unwrap());
        let forge = Forge {
            writer: Writer::new(&repo, index, lanes.pop().unwrap(), WRITER),
            meta: repo.keys.own_meta_key(mine.commit.source).unwrap(),
            file: list::tree_path(self.scene.source().join(FILE).to_str().unwrap()).unwrap(),
            other: other.commit.roots[0].node,
        };
        let made = tokio::task::spawn_blocking(move || (make(&forge), forge.writer));
        let ((node, bad), writer) = made.await.unwrap();
        writer.finish().await.unwrap();
        let source = mine.commit.source;
        let what = ToCommit {
            view,
            time: repo.world.now(),
            source,
            complete: true,
            class: vec![],
            held: false,
            roots: vec![Root { kind, source, node }],
            summary: repo::summary(&repo, mine).unwrap().unwrap(),
        };
        (repo::commit(&repo, session, &before, what).await.unwrap(), bad)
    }
}

/// What is told of the snapshot by each who walks its tree.
async fn told(owner: &Repository, scene: &Scene, name: &str) -> [String; 4] {
    let target = tempfile::tempdir_in(scene.dir.path()).unwrap();
    let restored = match restore_into(owner, name, Path::new("/a"), target.path()).await {
        Ok(report) => format!("{:?}", report.lost.listed),
        Err(error) => chain(&error),
    };
    let ls = async {
        let found = described(owner, name).await?;
        let mut listing = list::list(owner, None, &found, &Part::Files, path("a"), true).await?;
        while listing.next().await?.is_some() {}
        Ok::<_, kist::job::Error>(())
    };
    let listed = ls.await.map_or_else(|error| chain(&error), |()| "listed".into());
    let catalog = record::rebuild(owner, &target.path().join("catalog")).await;
    let filled = catalog.map_or_else(|error| chain(&error), |_| "filled".into());
    let elsewhere = Elsewhere::new(scene).await.open(scene).await;
    let copied = match copy_all(owner, &elsewhere).await {
        Ok((_, copied)) => copied.iter().map(|copied| format!("{:?}", copied.lost)).collect(),
        Err(error) => chain(&error),
    };
    [restored, listed, filled, copied]
}

async fn walks_end(case: &Case, is_of_extents: bool) {
    let (what, make) = *case;
    let stolen = Stolen::new().await;
    let (snapshot, bad) = stolen.commit(RootKind::Files, make).await;
    let scene = &stolen.scene;
    let owner = scene.open(scene.store()).await.unwrap();
    let told = told(&owner, scene, &snapshot.name()).await;
    for (who, told) in ["a restore", "ls", "a catalog", "a copy"].iter().zip(&told) {
        let opens_nothing = is_of_extents && ["ls", "a catalog"].contains(who);
        assert!(opens_nothing || told.contains(&bad.to_string()), "{what}: {who} of {bad}: {told}");
    }
    // Of a structure that is all there.
    assert_eq!(check(&owner).await.findings.len(), 0, "{what}");
    let next = backup(&stolen.open().await, &scene.source()).await.unwrap();
    assert!(next.snapshot.commit.complete && next.parent.unwrap().id == snapshot.id, "{what}");
    scene.restore_whole(&owner, &next.snapshot.name(), what).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_walks_a_tree_that_no_kist_writes_comes_to_an_end_and_names_the_node() {
    for case in &PATHS {
        walks_end(case, false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_extents_that_no_kist_writes_comes_to_an_end_and_names_the_node() {
    for case in &EXTENTS {
        walks_end(case, true).await;
    }
}

/// A chunk that is in no pack.
fn lost_chunk() -> Extent {
    Extent::Data { chunk: ChunkRef { id: ChunkId([7; 32]), len: SIZE as u32 }, offset: 0, len: SIZE as u32 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_looks_for_what_is_lost_in_such_a_tree_comes_to_an_end_and_names_the_node() {
    let of_paths: fn(&Forge) -> Tree = |forge| {
        let content = Content::Extents(vec![lost_chunk()]);
        let file = Kind::File { size: SIZE, content, hash: None };
        forge.ways(forge.save(Node::Leaf(vec![entry(path("a/x"), file)])))
    };
    let of_extents: fn(&Forge) -> Tree =
        |forge| forge.ways_of_extents(forge.save(Node::ExtentLeaf(vec![lost_chunk()])));
    for make in [of_paths, of_extents] {
        let stolen = Stolen::new().await;
        let (snapshot, bad) = stolen.commit(RootKind::Files, make).await;
        let owner = stolen.scene.open(stolen.scene.store()).await.unwrap();
        let checked = check(&owner).await;
        let missing: Vec<_> = checked.findings.iter().map(|finding| finding.record()).collect();
        assert_eq!(missing, [Some(RecordId::Chunk(ChunkId([7; 32])))]);
        let touched = checked.touched.iter();
        assert!(touched.clone().all(|lost| lost.snapshot == snapshot.name()), "{:?}", checked.touched);
        let named = touched.filter(|lost| lost.because == RecordId::Node(bad).to_string());
        // Each node of paths has two ways to the next, and two files have the extents.
        assert_eq!(named.count(), 2, "{:?}", checked.touched);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_says_that_it_is_longer_than_any_manifest_is_refused_by_its_name() {
    let stolen = Stolen::new().await;
    let make = |forge: &Forge| {
        let len = 1 << 50;
        let content = Content::Extents(vec![Extent::Hole { len }]);
        let file = Kind::File { size: len, content, hash: None };
        let root = forge.save(Node::Leaf(vec![entry(path("core/v1/Secret/shop/long"), file)]));
        (root, root)
    };
    let (snapshot, _) = stolen.commit(RootKind::Manifests, make).await;
    let owner = stolen.scene.open(stolen.scene.store()).await.unwrap();
    let reader = Arc::new(Reader::new(&owner, Arc::new(Index::load(&owner).await.unwrap())));
    let tree = TreeReader::new(reader, &snapshot, &snapshot.commit.roots[0]);
    let refused = chain(&documents::load(&tree).await.unwrap_err());
    assert!(refused.contains("core/v1/Secret/shop/long") && refused.contains("67108864"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_would_be_refused_is_not_saved_but_told_as_missing() {
    let stolen = Stolen::new().await;
    let at = path("core/v1/Secret/shop/long");
    let (tell, told) = std::sync::mpsc::channel();
    let long = at.clone();
    let save = move |forge: &Forge| {
        let ids = forge.writer.repo().keys.ids().unwrap();
        let chunker = Chunker::new(&forge.writer.repo().config.chunker, ids);
        let (writer, meta, moving, progress) = (&forge.writer, &forge.meta, Moving::LeaveOut, &Silent);
        let setting = Setting { writer, ids, chunker: &chunker, meta, moving, progress };
        let documents = vec![(long, vec![b' '; limits::DOCUMENT_LEN + 1])];
        let saved = documents::save(documents, None, setting).unwrap();
        tell.send(saved.missing).unwrap();
        (saved.root, saved.root)
    };
    stolen.commit(RootKind::Manifests, save).await;
    let [missing] = &told.recv().unwrap()[..] else { panic!("one is missing") };
    assert!(missing.what == at.to_string() && missing.why.contains("longer"), "{missing:?}");
}
