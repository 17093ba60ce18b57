//! Cargo.toml: dependencies with reasons, targets that exist, tests that are declared.

use crate::finding::{Finding, exactly, none};
use crate::manifest::Manifest;
use crate::tree::Tree;

const CARGO: &str = "Cargo.toml";

fn check(tree: &Tree) -> Vec<Finding> {
    let manifest = Manifest::new(tree.text(CARGO).unwrap_or_default());
    let mut findings = Vec::new();
    check_dependencies(&manifest, &mut findings);
    check_targets(tree, &manifest, &mut findings);
    findings
}

fn check_dependencies(manifest: &Manifest, findings: &mut Vec<Finding>) {
    let lists = manifest.sections.iter().filter(|section| section.name.ends_with("dependencies"));
    for entry in lists.flat_map(|section| &section.entries) {
        let mut say = |text: String| findings.push(Finding::new(CARGO, entry.line, text));
        if entry.comment.is_empty() {
            say(format!("{}: write the reason for this dependency behind it", entry.key));
        }
        if !entry.value.contains("default-features = false") {
            say(format!("{}: set default-features = false and name the features in use", entry.key));
        }
    }
}

fn check_targets(tree: &Tree, manifest: &Manifest, findings: &mut Vec<Finding>) {
    let mut declared = Vec::new();
    for target in manifest.targets() {
        let line = target.entries.first().map_or(0, |entry| entry.line);
        let mut say = |text: String| findings.push(Finding::new(CARGO, line, text));
        let (Some(name), Some(path)) = (target.text("name"), target.text("path")) else {
            say(format!("[[{}]] needs a name and a path", target.name));
            continue;
        };
        if tree.text(path).is_none() {
            say(format!("{path} does not exist: write it or remove the target"));
        }
        if target.name == "test" && path != format!("tests/{name}/main.rs") {
            say(format!("a test lies at tests/{name}/main.rs, not at {path}"));
        }
        declared.push(path);
    }
    for (path, _) in tree.files() {
        let parts: Vec<_> = path.split('/').collect();
        let is_target = match parts[..] {
            ["tests", _, "main.rs"] => true,
            ["tests" | "benches" | "examples", file] => file.ends_with(".rs"),
            _ => false,
        };
        if is_target && !declared.contains(&path) {
            findings.push(Finding::new(path, 0, "declare this target in Cargo.toml, with name and path"));
        }
    }
}

#[test]
fn dependencies_have_reasons_and_targets_exist() {
    none(check(Tree::project()));
}

#[test]
fn what_cargo_toml_lacks_is_found() {
    let cargo = "[dependencies]\n\
                 a = { version = \"1\", default-features = false } # why\n\
                 b = { version = \"1\", default-features = false }\n\
                 c = \"1\" # why\n\
                 [[test]]\n\
                 name = \"x\"\n\
                 path = \"tests/x/main.rs\"\n\
                 [[bench]]\n\
                 name = \"y\"\n\
                 path = \"benches/y.rs\"\n";
    let tree =
        Tree::made(&[(CARGO, cargo), ("tests/x/main.rs", ""), ("tests/z/main.rs", ""), ("tests/w.rs", "")]);
    let places = ["Cargo.toml:3", "Cargo.toml:4", "Cargo.toml:9", "tests/w.rs", "tests/z/main.rs"];
    exactly(check(&tree), &places);
}
