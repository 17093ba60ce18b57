//! Words that may not stand in the code, each with the reason and the way out.

use crate::finding::{Finding, exactly, none};
use crate::rust::Source;
use crate::tree::Tree;

/// The terminal, the environment and the clock belong to these.
const OUTSIDE: [&str; 2] = ["src/cli", "src/main.rs"];
/// The files that may hold `unsafe`, each with its reason.
const UNSAFE: [&str; 2] = [
    "src/cli/memory.rs",       // mallopt has no safe form
    "src/repo/index/bytes.rs", // nor has a map of a file
];
const CODE: [&str; 3] = ["src/", "tests/", "benches/"];

const PRINTING: [&str; 4] = ["println", "eprintln", "print", "eprint"];
const UNFINISHED: [&str; 3] = ["dbg", "todo", "unimplemented"];
/// What the library gets handed in.
const TAKEN: [&[&str]; 5] =
    [&["std", "env"], &["SystemTime", "now"], &["Instant", "now"], &["getrandom"], &["rand"]];

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.sources(&CODE) {
        check_words(source, &mut findings);
        check_paths(source, &mut findings);
        check_pieces(source, &mut findings);
    }
    findings
}

/// Whether this is the library without its command line.
fn is_inside(source: &Source) -> bool {
    source.path.starts_with("src/") && !OUTSIDE.iter().any(|start| source.path.starts_with(start))
}

fn check_words(source: &Source, findings: &mut Vec<Finding>) {
    for (at, word) in source.words() {
        let is_macro = source.code[at + word.len()..].starts_with('!');
        let text = if is_macro && UNFINISHED.contains(&word) {
            format!("{word}! is for work in progress: finish or remove it")
        } else if is_macro && PRINTING.contains(&word) && is_inside(source) {
            format!("{word}!: the library does not print; report through progress, tracing or the result")
        } else if word == "unsafe" && !UNSAFE.contains(&source.path.as_str()) {
            "unsafe needs a file of its own, named with its reason in tests/tidy/banned.rs".into()
        } else {
            continue;
        };
        findings.push(Finding::new(&source.path, source.line(at), text));
    }
}

fn check_paths(source: &Source, findings: &mut Vec<Finding>) {
    for path in source.paths() {
        let name = path.segments.join("::");
        let is_glob = path.is_use && path.segments.last().is_some_and(|last| last == "*");
        // proptest's macros need most of its prelude.
        let in_tests = ["super::*", "proptest::prelude::*"];
        let text = if is_glob && !(in_tests.contains(&name.as_str()) && source.is_test(path.at)) {
            format!("use {name}: name what is used (only tests may take super::*)")
        } else if is_inside(source) && !source.is_test(path.at) && TAKEN.iter().any(|run| path.has(run)) {
            format!("{name}: the library takes no environment, clock or randomness; it is handed a World")
        } else {
            continue;
        };
        findings.push(Finding::new(&source.path, source.line(path.at), text));
    }
}

fn check_pieces(source: &Source, findings: &mut Vec<Finding>) {
    let mut say = |at, text: &str| findings.push(Finding::new(&source.path, source.line(at), text));
    for at in source.find("#[ignore") {
        say(at, "an ignored test proves nothing: make it run or remove it");
    }
    for at in source.find(".unwrap()").filter(|at| !source.is_test(*at)) {
        say(at, "unwrap: return an error, or `expect` the invariant that makes it impossible");
    }
    for at in source.find("sleep(").filter(|at| source.is_test(*at)) {
        if !is_named_pause(&source.code[at..]) {
            say(
                at,
                "sleep: wait on a condition with a deadline; a pause between two looks is a constant …RETRY",
            );
        }
    }
    for (at, attribute) in source.find("allow(").map(|at| (at, attribute(&source.code[at..]))) {
        let is_dead = attribute.contains("dead_code") || attribute.contains("unused");
        if is_dead && (source.path.starts_with("src/") || !attribute.contains("reason")) {
            say(at, "dead code is removed, not allowed (a part shared by tests may say its reason)");
        }
    }
}

/// Whether code that starts with `sleep(` sleeps for a constant whose name ends in `RETRY`.
fn is_named_pause(code: &str) -> bool {
    let argument = code.trim_start_matches("sleep(").split(')').next().unwrap_or_default();
    argument.ends_with("RETRY") && argument.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
}

fn attribute(code: &str) -> &str {
    &code[..code.find(']').unwrap_or(code.len())]
}

#[test]
fn no_banned_word_stands_in_the_code() {
    none(check(Tree::project()));
}

#[test]
fn what_the_library_may_not_do_is_found() {
    let tree = Tree::made(&[
        (
            "src/repo/a.rs",
            "fn f() {\n  println!();\n  x.unwrap();\n  std::env::var(x);\n  tokio::time::Instant::now();\n}\n",
        ),
        (
            "src/repo/b.rs",
            "use std::{env, fs};\nuse rand::x;\nunsafe {}\n#[allow(dead_code)]\nuse a::*;\nuse super::*;\n",
        ),
        (
            "src/repo/c.rs",
            "// println!()\nf(\"todo!\");\n#[cfg(test)]\nmod tests {\n  use super::*;\n  a.unwrap();\n}\n",
        ),
        ("src/repo/d.rs", "#[cfg(test)]\nmod tests;\n"),
        ("src/repo/d/tests.rs", "use super::*;\nfn f() {\n  a.unwrap();\n}\n"),
        ("src/cli/mod.rs", "fn f() {\n  println!();\n  std::env::var(x);\n  todo!();\n}\n"),
    ]);
    let a = [2, 3, 4, 5].map(|line| format!("src/repo/a.rs:{line}"));
    let b = [1, 2, 3, 4, 5, 6].map(|line| format!("src/repo/b.rs:{line}"));
    let places: Vec<_> = a.iter().chain(&b).map(String::as_str).collect();
    exactly(check(&tree), &[&["src/cli/mod.rs:4"], &places[..]].concat());
}

#[test]
fn what_tests_may_not_do_is_found() {
    let tree = Tree::made(&[(
        "tests/a/main.rs",
        "#[ignore]\nfn f() {\n  sleep(LIMIT);\n  sleep(READY_RETRY);\n  x.unwrap();\n  println!();\n  dbg!(x);\n}\n\
         #[allow(dead_code)]\n#[allow(dead_code, reason = \"x\")]\nuse kist::*;\n",
    )]);
    let places = [1, 3, 7, 9, 11].map(|line| format!("tests/a/main.rs:{line}"));
    exactly(check(&tree), &places.each_ref().map(String::as_str));
}
