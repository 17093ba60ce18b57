//! Snapshots of a cluster: manifests and volumes, some of which come and go.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kist::archive::documents;
use kist::format::commit::RootKind;
use kist::format::entry::TreePath;
use kist::format::id::hex;
use kist::repo::{Index, Reader, Snapshots, TreeReader, WriterSettings};
use sha2::{Digest, Sha256};

use crate::cluster::{Manifests, back_up};
use crate::frozen::{Expected, Frozen};
use crate::made::write;
use crate::programs::{opened, opened_at};
use crate::trees::pseudo_random;

/// What stands for the source of a root that is no folder's.
const MANIFESTS: &str = "manifests";
const VOLUME: &str = "volume shop/";

/// A volume that changes, one that goes, one that comes; manifests that change, too.
pub fn clusters() -> Frozen {
    let frozen = Frozen::new();
    frozen.init(&[]);
    let writer = frozen.add("writer", "cluster", &[]);
    frozen.add("reader", "drill", &[]);
    let mut volumes: BTreeMap<&'static str, PathBuf> = BTreeMap::new();
    for claim in ["data", "logs"] {
        volumes.insert(claim, frozen.source(claim));
    }
    write(&volumes["data"], 0..6, 1);
    symlink("file 3", volumes["data"].join("newest")).unwrap();
    fs::create_dir(volumes["data"].join("empty")).unwrap();
    fs::write(volumes["logs"].join("today"), pseudo_random(90_000, 1)).unwrap();
    back_up_once(&frozen, &writer, (0, 0), &volumes);
    write(&volumes["data"], 4..8, 2);
    volumes.remove("logs");
    volumes.insert("media", frozen.source("media"));
    fs::write(volumes["media"].join("film"), pseudo_random(200_000, 2)).unwrap();
    back_up_once(&frozen, &writer, (1, 7), &volumes);
    frozen
}

fn manifests(first: u64) -> Manifests {
    let path =
        |number| TreePath::from_slashes(format!("core/v1/Secret/shop/s{number:03}").as_bytes()).unwrap();
    (first..first + 50).map(|number| (path(number), pseudo_random(700, number))).collect()
}

#[tokio::main]
async fn back_up_once(
    frozen: &Frozen,
    key: &str,
    (hour, first): (u64, u64),
    volumes: &BTreeMap<&'static str, PathBuf>,
) {
    let repo = opened_at(&frozen.path("repo"), &frozen.key(key), hour).await;
    let snapshot = back_up(&repo, manifests(first), volumes, WriterSettings::default()).await.name();
    for (claim, folder) in volumes {
        frozen.expect_as(&snapshot, "", &format!("{VOLUME}{claim}"), folder);
    }
    frozen.expect_text(&format!("{snapshot}\n\n{MANIFESTS}\n{}", text(manifests(first))));
}

/// A line for each.
fn text(manifests: Manifests) -> String {
    manifests.into_iter().map(|(path, bytes)| format!("{path} {}\n", hex(&Sha256::digest(bytes)))).collect()
}

impl Expected {
    /// Of a snapshot of a cluster: its volume, as `restore files` is to be told.
    pub fn volume(&self) -> Option<String> {
        self.source.strip_prefix(VOLUME).map(|claim| format!("shop/{claim}"))
    }

    pub fn is_manifests(&self) -> bool {
        self.source == MANIFESTS
    }

    /// Where the reader in `format-spec/` puts it.
    pub fn below(&self, target: &Path) -> PathBuf {
        match self.source.strip_prefix('/') {
            Some(files) => target.join(files),
            None => match self.volume() {
                Some(volume) => target.join("volumes").join(volume),
                None => target.join(MANIFESTS),
            },
        }
    }
}

/// The manifests of a snapshot, as kist's library reads them.
#[tokio::main]
pub async fn loaded(frozen: &Frozen, key: &str, snapshot: &str) -> String {
    let repo = opened(&frozen.path("repo"), &frozen.key(key)).await;
    let all = Snapshots::load(&repo).await.unwrap().all;
    let found = all.iter().find(|found| found.name() == snapshot).expect("it is listed");
    let root = found.commit.roots.iter().find(|root| root.kind == RootKind::Manifests).unwrap();
    let reader = Arc::new(Reader::new(&repo, Arc::new(Index::load(&repo).await.unwrap())));
    text(documents::load(&TreeReader::new(reader, found, root)).await.unwrap())
}

/// Those that lie in a folder, a file for each.
pub fn in_folder(folder: &Path) -> String {
    let paths = crate::compare::paths(folder).into_iter().filter(|path| folder.join(path).is_file());
    let read = |path: PathBuf| {
        let bytes = fs::read(folder.join(&path)).unwrap();
        (TreePath::from_slashes(path.to_str().unwrap().as_bytes()).unwrap(), bytes)
    };
    text(paths.map(read).collect())
}
