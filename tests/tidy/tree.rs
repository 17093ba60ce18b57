//! The files of the project, or of a tree made up for a test.
//!
//! The project's files are those that git tracks or would track; without git, those found
//! by walking. Bytes that are not text are replaced, so that every file can be searched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::rust::Source;

/// Folders that hold results, not sources; only asked where git can't say.
const RESULTS: [&str; 5] = [".git", "target", "fuzz/target", "fuzz/artifacts", "fuzz/coverage"];

pub struct Tree {
    files: BTreeMap<String, String>,
    sources: BTreeMap<String, Source>,
}

impl Tree {
    /// The project that this test belongs to.
    pub fn project() -> &'static Tree {
        static PROJECT: OnceLock<Tree> = OnceLock::new();
        PROJECT.get_or_init(|| {
            let root = &root();
            let names = tracked(root).unwrap_or_else(|| walked(root));
            let files = names.into_iter().filter_map(|name| {
                // A file that git still lists may be deleted already.
                let bytes = std::fs::read(root.join(&name)).ok()?;
                Some((name, String::from_utf8_lossy(&bytes).into_owned()))
            });
            Self::of(files.collect())
        })
    }

    /// A tree of these paths and texts.
    pub fn made(files: &[(&str, &str)]) -> Self {
        Self::of(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    fn of(files: BTreeMap<String, String>) -> Self {
        let rust = files.iter().filter(|(path, _)| path.ends_with(".rs"));
        let sources = rust.map(|(path, text)| (path.clone(), Source::new(path, text))).collect();
        let mut tree = Self { files, sources };
        while tree.mark_tests() {}
        tree
    }

    /// Marks the files that are declared in tests; says whether there were any to mark.
    fn mark_tests(&mut self) -> bool {
        let declared =
            self.sources.values().flat_map(|source| self.children(source, |at| source.is_test(at)));
        let is_new = |path: &String| self.sources.get(path).is_some_and(|source| !source.is_test(0));
        let new: Vec<_> = declared.filter(is_new).collect();
        for path in &new {
            self.sources.entry(path.clone()).and_modify(Source::mark_as_test);
        }
        !new.is_empty()
    }

    /// Paths and texts, in the order of paths.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// The Rust files whose path starts with one of these.
    pub fn sources<'a>(&'a self, starts: &'a [&str]) -> impl Iterator<Item = &'a Source> {
        self.sources.values().filter(|source| starts.iter().any(|start| source.path.starts_with(start)))
    }

    pub fn source(&self, path: &str) -> Option<&Source> {
        self.sources.get(path)
    }

    /// The files that those `mod name;` of this one lead to whose offset is wanted.
    pub fn children(&self, source: &Source, is_wanted: impl Fn(usize) -> bool) -> Vec<String> {
        let (folder, file) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
        // Roots of targets look beside themselves, others in a folder of their name.
        let is_root = ["mod.rs", "lib.rs", "main.rs"].contains(&file) || !folder.starts_with("src");
        let stem = file.trim_end_matches(".rs");
        let mut bases = vec![format!("{folder}/{stem}")];
        bases.extend(is_root.then(|| folder.to_owned()));
        let mods = source.mods();
        let mut all = Vec::new();
        for module in mods.iter().filter(|module| module.body.is_none() && is_wanted(module.at)) {
            if let Some(file) = &module.file {
                all.push(joined(folder, file));
                continue;
            }
            let outer = mods.iter().filter(|m| m.body.as_ref().is_some_and(|body| body.contains(&module.at)));
            let inline: String = outer.map(|outer| format!("{}/", outer.name)).collect();
            let paths = bases.iter().flat_map(|base| {
                [".rs", "/mod.rs"].map(|end| format!("{base}/{inline}{}{end}", module.name))
            });
            all.extend(paths.filter(|path| self.sources.contains_key(path)));
        }
        all
    }

    /// The top-level modules of the library, by their files.
    pub fn top_modules(&self) -> Vec<String> {
        let inside = self.sources.keys().filter_map(|path| path.strip_prefix("src/"));
        let tops = inside.map(|path| match path.split_once('/') {
            Some((folder, _)) => folder.to_owned(),
            None => path.trim_end_matches(".rs").to_owned(),
        });
        let mut tops: Vec<_> = tops.filter(|name| name != "lib" && name != "main").collect();
        tops.dedup();
        tops.sort();
        tops.dedup();
        tops
    }
}

/// Where the project lies, asked when the test runs: a binary may be shared by several checkouts.
pub fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// `path` seen from `folder`, with `..` resolved.
fn joined(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').collect();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            name => parts.push(name),
        }
    }
    parts.join("/")
}

fn tracked(root: &Path) -> Option<Vec<String>> {
    let mut git = Command::new("git");
    git.arg("-C").arg(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = git.output().ok().filter(|output| output.status.success())?;
    let names = String::from_utf8_lossy(&output.stdout);
    Some(names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

fn walked(root: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let list = std::fs::read_dir(root.join(&folder)).expect("a folder of the project can be listed");
        for item in list {
            let item = item.expect("a folder of the project can be listed");
            let name = item.file_name().to_string_lossy().into_owned();
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            match item.path().is_dir() {
                true if RESULTS.contains(&path.as_str()) => {}
                true => folders.push(path),
                false => names.push(path),
            }
        }
    }
    names
}

#[test]
fn walking_finds_the_same_sources_as_git() {
    let root = &root();
    let rust = |names: Vec<String>| {
        let mut names: Vec<_> =
            names.into_iter().filter(|name| name.ends_with(".rs") && root.join(name).exists()).collect();
        names.sort();
        names
    };
    let walked = rust(walked(root));
    assert!(walked.contains(&"src/lib.rs".to_owned()));
    if let Some(tracked) = tracked(root) {
        assert_eq!(rust(tracked), walked);
    }
}
