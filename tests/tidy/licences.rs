//! The licences of all that is linked in or tested with, against the list in deny.toml.
//!
//! cargo tells the licences from the packages it has already; no network is asked. What
//! deny.toml says beside that (sources, advisories) is for cargo-deny.

use std::collections::BTreeSet;
use std::process::Command;

use crate::finding::{Finding, exactly, none};
use crate::manifest::Manifest;
use crate::tree::{self, Tree};

const DENY: &str = "deny.toml";

/// A package's name and what it says about its licence.
type Package = (String, Option<String>);

/// What is built for this machine, tests included, and nothing that only stands in the lock file.
fn packages() -> BTreeSet<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut listing = Command::new(cargo);
    listing.current_dir(tree::root());
    listing.args(["tree", "--offline", "--locked", "--prefix=none", "--no-dedupe", "--format={p}|{l}"]);
    let output = listing.output().expect("cargo starts");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter_map(|line| line.split_once('|'));
    let package = |(package, licence): (&str, &str)| {
        let name = package.split(' ').next().unwrap_or(package);
        (name.to_owned(), (!licence.is_empty()).then(|| licence.to_owned()))
    };
    lines.map(package).collect()
}

fn check(deny: &str, packages: &BTreeSet<Package>) -> Vec<Finding> {
    let deny = Manifest::new(deny);
    let licences = deny.section("licenses").map_or_else(Vec::new, |section| section.texts("allow"));
    let banned = deny.section("bans").and_then(|section| section.entry("deny"));
    let banned: Vec<_> = banned.map_or("", |entry| &entry.value).split("crate = \"").skip(1).collect();
    let mut used = BTreeSet::new();
    let mut findings = Vec::new();
    let mut say = |text: String| findings.push(Finding::new(DENY, 0, text));
    for (name, licence) in packages {
        match licence {
            None => say(format!("{name} names no licence: read it, then decide")),
            Some(text) => match chosen(text, &licences) {
                Some(chosen) => used.extend(chosen),
                None => say(format!(
                    "{name} is under {text}, which is not allowed: replace it, or decide and add it"
                )),
            },
        }
        if banned.iter().any(|text| text.starts_with(&format!("{name}\""))) {
            say(format!("{name} is banned and has come in: `cargo tree -i {name}` tells through what"));
        }
    }
    for licence in licences.iter().filter(|licence| !used.contains(**licence)) {
        say(format!("{licence} is allowed and not used: remove it"));
    }
    findings
}

/// The allowed licences that satisfy an SPDX expression: all that it needs, and of alternatives every allowed one.
fn chosen<'a>(expression: &str, allowed: &[&'a str]) -> Option<Vec<&'a str>> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    either(&mut words, allowed)
}

type Words<'w> = std::iter::Peekable<std::str::SplitWhitespace<'w>>;

fn either<'a>(words: &mut Words<'_>, allowed: &[&'a str]) -> Option<Vec<&'a str>> {
    let mut all = both(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        all = match (all, both(words, allowed)) {
            (Some(a), Some(b)) => Some([a, b].concat()),
            (a, b) => a.or(b),
        };
    }
    all
}

fn both<'a>(words: &mut Words<'_>, allowed: &[&'a str]) -> Option<Vec<&'a str>> {
    let mut all = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        let next = one(words, allowed);
        all = all.and_then(|a| next.map(|b| [a, b].concat()));
    }
    all
}

fn one<'a>(words: &mut Words<'_>, allowed: &[&'a str]) -> Option<Vec<&'a str>> {
    let word = words.next()?;
    if word == "(" {
        let inside = either(words, allowed);
        words.next_if_eq(&")");
        return inside;
    }
    let name = match words.next_if_eq(&"WITH") {
        Some(_) => format!("{word} WITH {}", words.next().unwrap_or_default()),
        None => word.to_owned(),
    };
    allowed.iter().find(|licence| **licence == name).map(|licence| vec![*licence])
}

#[test]
fn every_dependency_is_under_an_allowed_licence() {
    let packages = packages();
    assert!(packages.len() > 100, "cargo lists the whole tree");
    none(check(Tree::project().text(DENY).expect("deny.toml exists"), &packages));
}

#[test]
fn foreign_licences_unused_allowances_and_banned_crates_are_found() {
    let deny = "[licenses]\nallow = [\n  \"MIT\",\n  \"Zlib\", # unused\n]\n[bans]\ndeny = [{ crate = \"openssl\" }]\n";
    let of = |name: &str, licence: &str| (name.to_owned(), (!licence.is_empty()).then(|| licence.to_owned()));
    let packages =
        [of("a", "MIT OR GPL-3.0"), of("b", "MIT AND GPL-3.0"), of("c", ""), of("openssl", "MIT")].into();
    exactly(check(deny, &packages), &[DENY; 4]);
}

#[test]
fn licence_expressions_are_weighed() {
    let allowed = ["MIT", "Apache-2.0 WITH LLVM-exception", "ISC"];
    for (expression, is_fine) in [
        ("MIT", true),
        ("GPL-2.0", false),
        ("Apache-2.0/MIT", true),
        ("(GPL-2.0 OR MIT) AND ISC", true),
        ("(GPL-2.0 OR BSD) AND ISC", false),
        ("MIT AND GPL-2.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
    ] {
        assert_eq!(chosen(expression, &allowed).is_some(), is_fine, "{expression}");
    }
}
