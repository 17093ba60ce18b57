//! Restores over what is there that end in the midst: each file is what it was or what it shall be, whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kist::archive::plan::Overwrite;
use kist::job;
use kist::job::find::Part;
use kist::job::list::tree_path;
use kist::job::restore;
use kist::progress::{Progress, Silent, Unit};
use kist::repo::{Class, Repository};
use kist::store::Verb;
use kist::store::testing::{Failure, Log, Recording};

use crate::scene::{Scene, backup, described, failing_once, grow, noise, repo_error};

/// Content by path; links are followed by nobody here.
type Files = BTreeMap<String, Vec<u8>>;

fn read(folder: &Path) -> Files {
    let mut files = Files::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for found in fs::read_dir(next).unwrap().map(Result::unwrap) {
            match found.file_type().unwrap().is_dir() {
                true => open.push(found.path()),
                false => {
                    let name = found.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                    files.insert(name, fs::read(found.path()).unwrap());
                }
            }
        }
    }
    files
}

/// Two snapshots whose files differ, and what lies in the target before.
struct Past {
    scene: Scene,
    old: Files,
    new: Files,
    snapshot: String,
}

impl Past {
    async fn new() -> Self {
        let scene = Scene::new().await;
        let source = scene.source();
        grow(&source);
        let old = read(&source);
        for (number, name) in
            ["a large file", "b middle file", "folder 3/c", "y linked file"].iter().enumerate()
        {
            fs::write(source.join(name), noise(300_000, 900 + number as u64)).unwrap();
        }
        let new = read(&source);
        let repo = scene.open(scene.store()).await.unwrap();
        let snapshot = backup(&repo, &source).await.unwrap().snapshot.name();
        Self { scene, old, new, snapshot }
    }

    /// Restores over the old files. Gives what came of it, and how many files are new.
    async fn restore(
        &self,
        repo: &Repository,
        progress: Arc<dyn Progress>,
        what: &str,
    ) -> (job::Result<()>, usize) {
        let found = match described(repo, &self.snapshot).await {
            Ok(found) => found,
            Err(error) => return (Err(error), 0),
        };
        let target = self.scene.dir.path().join("target");
        for (name, content) in &self.old {
            let path = target.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let from = tree_path(self.scene.source().to_str().unwrap()).unwrap();
        let overwrite = Some(Overwrite::Always);
        let request = restore::Request { part: Part::Files, overwrite, delete: false, dry_run: false };
        let restored = restore::files(repo, &found, &from, &target, &request, progress).await;
        let there = read(&target);
        fs::remove_dir_all(&target).unwrap();
        for (name, content) in &there {
            assert!(
                Some(content) == self.old.get(name) || Some(content) == self.new.get(name),
                "{what}: {name} has {} bytes and is neither what it was nor what it shall be",
                content.len()
            );
        }
        let gone: Vec<_> = self.old.keys().filter(|name| !there.contains_key(*name)).collect();
        assert!(gone.is_empty(), "{what}: {gone:?} were there");
        let fresh = there.iter().filter(|(name, content)| self.old.get(*name) != Some(content)).count();
        (restored.map(drop), fresh)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_the_store_ends_leaves_each_file_whole_or_as_it_was() {
    let past = Past::new().await;
    let all = past.new.iter().filter(|(name, content)| past.old.get(*name) != Some(content)).count();
    let (mut failed, mut partly) = (0, 0);
    let recorded = Log::default();
    let store = past.scene.store().decorated(|inner| Recording::over(inner, &recorded));
    let (restored, fresh) =
        past.restore(&past.scene.open(store).await.unwrap(), Arc::new(Silent), "whole").await;
    restored.unwrap();
    assert_eq!(fresh, all);
    for nth in (0..recorded.count(Verb::Get) as u64).step_by(2) {
        let store = failing_once(past.scene.beneath.clone(), &[Verb::Get], nth, Failure::Denied);
        // Before the restore itself begins a failure is nothing of interest.
        let Ok(repo) = past.scene.open(store).await else { continue };
        let (restored, fresh) = past.restore(&repo, Arc::new(Silent), &format!("get {nth}")).await;
        match restored {
            Ok(()) => assert_eq!(fresh, all, "get {nth}"),
            Err(error) => {
                assert_eq!(repo_error(error).class(), Class::Denied);
                failed += 1;
                partly += usize::from((1..all).contains(&fresh));
            }
        }
    }
    assert!(failed > 10 && partly > 0, "{failed} failed, {partly} of them in the midst");
}

/// Told to stop after so many bytes.
struct After(AtomicU64);

impl Progress for After {
    fn advance(&self, unit: Unit, by: u64) {
        if unit == Unit::Bytes {
            let left = self.0.load(Ordering::SeqCst);
            self.0.store(left.saturating_sub(by), Ordering::SeqCst);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_told_to_stop_leaves_each_file_whole_or_as_it_was() {
    let past = Past::new().await;
    let repo = past.scene.open(past.scene.store()).await.unwrap();
    let all: usize = past.new.values().map(Vec::len).sum();
    for bytes in (1..all as u64 / 2).step_by(40_000) {
        let after = Arc::new(After(AtomicU64::new(bytes)));
        let (restored, _) = past.restore(&repo, after, &format!("{bytes} bytes")).await;
        assert!(matches!(restored, Err(job::Error::Interrupted)), "{bytes} bytes: {restored:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_goes_only_when_the_file_that_takes_its_place_is_whole() {
    let past = Past::new().await;
    let name = "a large file";
    let recorded = Log::default();
    let store = past.scene.store().decorated(|inner| Recording::over(inner, &recorded));
    past.restore(&past.scene.open(store).await.unwrap(), Arc::new(Silent), "whole").await.0.unwrap();
    let (mut there, mut replaced) = (0, 0);
    for nth in 0..=recorded.count(Verb::Get) as u64 {
        let store = failing_once(past.scene.beneath.clone(), &[Verb::Get], nth, Failure::Denied);
        let Ok(repo) = past.scene.open(store).await else { continue };
        let Ok(found) = described(&repo, &past.snapshot).await else { continue };
        let target = past.scene.dir.path().join("target");
        fs::create_dir_all(target.join(name)).unwrap();
        fs::write(target.join(name).join("inner"), "kept").unwrap();
        let from = tree_path(past.scene.source().to_str().unwrap()).unwrap();
        let overwrite = Some(Overwrite::Always);
        let request = restore::Request { part: Part::Files, overwrite, delete: true, dry_run: false };
        let restored = restore::files(&repo, &found, &from, &target, &request, Arc::new(Silent)).await;
        match target.join(name).is_dir() {
            true => {
                assert!(restored.is_err(), "get {nth}");
                assert_eq!(fs::read(target.join(name).join("inner")).unwrap(), b"kept", "get {nth}");
                there += 1;
            }
            false => {
                assert_eq!(fs::read(target.join(name)).unwrap(), past.new[name], "get {nth}");
                replaced += 1;
            }
        }
        fs::remove_dir_all(&target).unwrap();
    }
    assert!(there > 5 && replaced > 5, "{there} times there, {replaced} times replaced");
}
