//! Every Rust file is part of a build, says what it is, and has a name that says something.

use std::collections::BTreeSet;

use crate::finding::{Finding, exactly, none};
use crate::manifest::Manifest;
use crate::tree::Tree;

/// Fuzz targets: each hands its input to the decoder that it is named after.
const SAID_BY_NAME: &str = "fuzz/fuzz_targets/";
/// Names that mean nothing: what is in such a module has no home yet.
const NO_NAMES: [&str; 6] = ["util", "utils", "misc", "helper", "helpers", "common"];

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let built = built(tree);
    for source in tree.sources(&[""]) {
        let mut say = |line, text: String| findings.push(Finding::new(&source.path, line, text));
        if !built.contains(&source.path) {
            say(0, "no `mod` and no target of Cargo.toml leads here: declare it or delete it".into());
        }
        if !source.text.starts_with("//! ") && !source.path.starts_with(SAID_BY_NAME) {
            say(
                1,
                "the first line is not `//! …`: say what this file is, where it sits, what it keeps".into(),
            );
        }
        for segment in source.path.trim_end_matches(".rs").split('/') {
            if NO_NAMES.contains(&segment) {
                say(0, format!("{segment} names nothing: name the file after what is in it"));
            }
        }
        for module in source.mods() {
            if NO_NAMES.contains(&module.name.as_str()) && module.body.is_some() {
                say(source.line(module.at), format!("{} names nothing", module.name));
            }
        }
    }
    findings
}

/// The files that a target of some Cargo.toml reaches through its `mod`s.
fn built(tree: &Tree) -> BTreeSet<String> {
    let mut built = BTreeSet::new();
    let mut open: Vec<String> = tree
        .files()
        .filter(|(path, _)| *path == "Cargo.toml" || path.ends_with("/Cargo.toml"))
        .flat_map(|(path, text)| roots(path.trim_end_matches("Cargo.toml"), &Manifest::new(text)))
        .collect();
    while let Some(path) = open.pop() {
        let Some(source) = tree.source(&path) else { continue };
        if built.insert(path) {
            open.extend(tree.children(source, |_| true));
        }
    }
    built
}

fn roots(folder: &str, manifest: &Manifest) -> Vec<String> {
    let own = ["src/lib.rs", "src/main.rs", "build.rs"].map(|file| format!("{folder}{file}"));
    let named = manifest.targets().filter_map(|target| target.text("path"));
    own.into_iter().chain(named.map(|path| format!("{folder}{path}"))).collect()
}

#[test]
fn every_rust_file_is_built_described_and_named() {
    none(check(Tree::project()));
}

#[test]
fn dead_undescribed_and_nameless_files_are_found() {
    let tree = Tree::made(&[
        ("Cargo.toml", "[[test]]\nname = \"t\"\npath = \"tests/t/main.rs\"\n"),
        ("src/lib.rs", "//! x\nmod a;\nmod b;\n// mod dead;\nmod util;\n"),
        ("src/a.rs", "//! x\nmod deep {\n  mod c;\n}\n"),
        ("src/a/deep/c.rs", "//! x\n"),
        ("src/b/mod.rs", "mod d;\n"),
        ("src/b/d.rs", "//! x\nmod misc {}\n"),
        ("src/dead.rs", "//! x\n"),
        ("src/util.rs", "//! x\n"),
        ("tests/t/main.rs", "//! x\n#[path = \"../support/s.rs\"]\nmod s;\n"),
        ("tests/support/s.rs", "//! x\n"),
        ("tests/u/main.rs", "//! x\n"),
    ]);
    let places = ["src/b/d.rs:2", "src/b/mod.rs:1", "src/dead.rs", "src/util.rs", "tests/u/main.rs"];
    exactly(check(&tree), &places);
}
