//! The arrows: which module may name which, and who alone may name an outside crate.
//!
//! Design: a file imports only from lower layers; modules of one layer are strangers.

use crate::finding::{Finding, exactly, none};
use crate::rust::{Path, Source};
use crate::tree::Tree;

/// Each module of the library and its layer. A new module gets its line here.
const LAYERS: [(&str, u8); 14] = [
    ("crypto", 0),
    ("pace", 0),
    ("progress", 0),
    ("world", 0),
    ("format", 1),
    ("store", 2),
    ("policy", 2),
    ("wire", 2),
    ("repo", 3),
    ("archive", 4),
    ("catalog", 4),
    ("cluster", 4),
    ("job", 5),
    ("cli", 6),
];
/// Modules that anyone may name.
const FOR_ALL: [&str; 2] = ["progress", "world"];
/// Arrows that point down and are still not wanted, and why.
const FORBIDDEN: [(&str, &str, &str); 2] = [
    ("cluster", "repo", "the cluster side knows no repository; job joins the two"),
    ("catalog", "repo", "the catalog is fed by job and never reads the truth itself"),
];
/// Outside crates, and the modules that alone may name them.
const OWNERS: [(&str, &[&str]); 14] = [
    ("argon2", &["crypto"]),
    ("aws_lc_rs", &["crypto"]),
    ("chacha20", &["crypto"]),
    ("chacha20poly1305", &["crypto"]),
    ("ed25519_dalek", &["crypto"]),
    ("hpke", &["crypto"]),
    ("object_store", &["store"]),
    ("kube", &["cluster"]),
    ("k8s_openapi", &["cluster"]),
    ("rusqlite", &["catalog"]),
    ("clap", &["cli"]),
    ("indicatif", &["cli"]),
    ("serde_saphyr", &["cli"]),
    ("tracing_subscriber", &["cli"]),
];
/// Modules without input or output, threads or waiting, and what they may not name.
const PURE: [&str; 4] = ["crypto", "format", "policy", "world"];
const IMPURE: [&[&str]; 8] = [
    &["std", "fs"],
    &["std", "net"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "time"],
    &["tokio"],
    &["futures"],
    &["rayon"],
];

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// The top-level module that a file belongs to; none for lib.rs and main.rs.
fn module_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let module = inside.split_once('/').map_or_else(|| inside.trim_end_matches(".rs"), |(top, _)| top);
    (module != "lib" && module != "main").then_some(module)
}

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.sources(&["src/"]) {
        match module_of(&source.path) {
            Some(module) => check_file(source, module, &mut findings),
            None if source.path == "src/main.rs" => check_main(source, &mut findings),
            None => {}
        }
    }
    findings
}

fn check_file(source: &Source, module: &str, findings: &mut Vec<Finding>) {
    let mut say = |at, text| findings.push(Finding::new(&source.path, source.line(at), text));
    let Some(own) = layer(module) else {
        say(
            0,
            format!("module {module} has no layer: give it one in tests/tidy/layers.rs and in src/lib.rs"),
        );
        return;
    };
    for path in source.paths() {
        if let Some(target) = named_module(source, &path)
            && let Some(why) = wrong_arrow(module, own, &target)
        {
            say(path.at, why);
        }
        let first = path.segments[0].as_str();
        if let Some((_, owners)) =
            OWNERS.iter().find(|(name, owners)| *name == first && !owners.contains(&module))
        {
            say(path.at, format!("only {} may name {first}: go through it", owners.join(", ")));
        }
        if PURE.contains(&module) && !source.is_test(path.at) && IMPURE.iter().any(|what| path.starts(what)) {
            say(path.at, format!("{module} is pure: {} belongs to a higher layer", path.segments.join("::")));
        }
    }
}

/// The module of the library that a path leads to, if it starts at the root.
fn named_module(source: &Source, path: &Path) -> Option<String> {
    match path.segments[0].as_str() {
        "crate" => path.segments.get(1).cloned(),
        "super" => {
            let ups = path.segments.iter().take_while(|segment| *segment == "super").count();
            let inline =
                source.mods().into_iter().filter_map(|m| m.body).filter(|body| body.contains(&path.at));
            let depth = depth_of(&source.path) + inline.count();
            (ups >= depth).then(|| path.segments.get(ups).cloned()).flatten()
        }
        _ => None,
    }
}

/// How many modules deep the module of a file lies.
fn depth_of(path: &str) -> usize {
    path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod").split('/').count()
}

fn wrong_arrow(from: &str, own: u8, to: &str) -> Option<String> {
    if from == to || FOR_ALL.contains(&to) {
        return None;
    }
    if let Some((_, _, why)) = FORBIDDEN.iter().find(|(a, b, _)| *a == from && *b == to) {
        return Some(format!("{from} may not name {to}: {why}"));
    }
    let Some(layer) = layer(to) else {
        return Some(format!(
            "crate::{to} is no module with a layer: name things by the module they live in"
        ));
    };
    (layer >= own).then(|| {
        format!("{from} (layer {own}) may not name {to} (layer {layer}): move the shared part down, or join them above")
    })
}

fn check_main(source: &Source, findings: &mut Vec<Finding>) {
    let mut say = |at, text: &str| findings.push(Finding::new(&source.path, source.line(at), text));
    for module in source.mods() {
        say(module.at, "main.rs has no modules: it hands the arguments to kist::cli and nothing more");
    }
    for path in source.paths() {
        if path.starts(&["kist"]) && !path.starts(&["kist", "cli"]) {
            say(path.at, "main.rs names only kist::cli");
        }
    }
}

#[test]
fn every_arrow_of_the_library_points_down() {
    none(check(Tree::project()));
}

#[test]
fn arrows_that_point_up_or_aside_are_found() {
    let tree = Tree::made(&[
        ("src/format/pack.rs", "use crate::{crypto::seal, world};\nuse crate::store::Store;\n"),
        ("src/cluster/mover.rs", "use crate::store;\nfn f() { crate::repo::open(); }\nuse crate::archive;\n"),
        ("src/catalog/mod.rs", "use super::job;\nmod a { use super::x; }\n"),
        ("src/catalog/query.rs", "use super::schema;\nuse crate::repo;\nuse crate::world::Time;\n"),
        ("src/thing.rs", "//! x\n"),
        ("src/store/mod.rs", "// use crate::repo;\nconst A: &str = \"crate::repo\";\n"),
        ("src/main.rs", "use kist::cli;\nuse kist::repo;\n"),
    ]);
    let places = [
        "src/catalog/mod.rs:1",
        "src/catalog/query.rs:2",
        "src/cluster/mover.rs:2",
        "src/cluster/mover.rs:3",
        "src/format/pack.rs:2",
        "src/main.rs:2",
        "src/thing.rs:1",
    ];
    exactly(check(&tree), &places);
}

#[test]
fn a_foreign_crate_and_impurity_are_found() {
    let tree = Tree::made(&[
        ("src/job/backup.rs", "use clap::Parser;\nuse kube;\nuse tokio::fs;\n"),
        ("src/format/pack.rs", "use std::{fmt, fs};\n#[cfg(test)]\nmod tests {\n  use std::fs;\n}\n"),
    ]);
    exactly(check(&tree), &["src/format/pack.rs:1", "src/job/backup.rs:1", "src/job/backup.rs:2"]);
}
