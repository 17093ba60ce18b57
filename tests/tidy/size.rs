//! Lengths of files and functions, held by a ratchet.
//!
//! What is too long today stands in `ratchet.txt` with its size. A size there must be the
//! present one, so that it only changes by an edit that a reviewer sees, and only downwards.

use std::collections::BTreeMap;

use crate::finding::{Finding, exactly, none};
use crate::tree::Tree;

/// Lines of a file that are not in `#[cfg(test)]` items.
const FILE_LINES: usize = 500;
/// Lines of a function, from `fn` to its closing brace.
const FUNCTION_LINES: usize = 70;
const RATCHET: &str = "tests/tidy/ratchet.txt";
const FOLDERS: [&str; 4] = ["src/", "tests/", "benches/", "fuzz/"];

/// What is longer than it may be: name (`path`, or `path::function`), line, size and limit.
fn too_long(tree: &Tree) -> BTreeMap<String, (usize, usize, usize)> {
    let mut all = BTreeMap::new();
    for source in tree.sources(&FOLDERS) {
        if source.lines() > FILE_LINES {
            all.insert(source.path.clone(), (0, source.lines(), FILE_LINES));
        }
        for function in source.functions() {
            if function.lines > FUNCTION_LINES {
                let name = format!("{}::{}", source.path, function.name);
                all.insert(name, (function.line, function.lines, FUNCTION_LINES));
            }
        }
    }
    all
}

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut long = too_long(tree);
    for (number, line) in tree.text(RATCHET).unwrap_or_default().lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut say = |text: String| findings.push(Finding::new(RATCHET, number + 1, text));
        let Some((name, allowed)) =
            line.split_once(' ').and_then(|(name, size)| Some((name, size.parse::<usize>().ok()?)))
        else {
            say(format!("'{line}' is not `path LINES` or `path::function LINES`"));
            continue;
        };
        match long.remove(name) {
            None => say(format!("{name} is no longer too long: remove this line")),
            Some((_, size, _)) if size < allowed => say(format!("{name} has shrunk: write {size}")),
            Some((_, size, _)) if size > allowed => {
                say(format!(
                    "{name} has grown from {allowed} to {size} lines: split it, this list only shrinks"
                ));
            }
            Some(_) => {}
        }
    }
    for (name, (line, size, limit)) in long {
        let path = name.split("::").next().unwrap_or(&name);
        findings.push(Finding::new(
            path,
            line,
            format!("{name} has {size} lines, at most {limit}: split it"),
        ));
    }
    findings
}

#[test]
fn files_and_functions_fit_a_screen_or_the_ratchet() {
    none(check(Tree::project()));
}

#[test]
fn what_is_too_long_and_a_ratchet_that_does_not_fit_are_found() {
    let file = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "//\n".repeat(501), "//\n".repeat(50));
    let fits = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "//\n".repeat(500), "//\n".repeat(50));
    let function = format!("fn long() {{\n{}}}\n", "  f();\n".repeat(69));
    let ratchet = "src/a.rs 501\nsrc/b.rs 600\nsrc/c.rs::long 70\nsrc/d.rs::long 90\nwhat\n";
    let tree = Tree::made(&[
        ("src/a.rs", &file),
        ("src/b.rs", &fits),
        ("src/c.rs", &function),
        ("src/d.rs", &function),
        ("src/e.rs", &function),
        (RATCHET, ratchet),
    ]);
    let places = ["src/e.rs:1", "tests/tidy/ratchet.txt:2", "tests/tidy/ratchet.txt:3"];
    exactly(check(&tree), &[&places[..], &["tests/tidy/ratchet.txt:4", "tests/tidy/ratchet.txt:5"]].concat());
}
