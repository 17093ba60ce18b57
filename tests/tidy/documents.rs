//! What is written beside the code keeps up with it: README, ARCHITECTURE, CHANGELOG, the
//! chapters of the format, the Makefile; and no file names the host of a package registry.

use std::collections::BTreeSet;

use crate::finding::{Finding, exactly, none};
use crate::tree::Tree;

/// Hosts of package registries: which one a machine uses is its own business.
const HOSTS: [&str; 13] = [
    "crates.io",
    "proxy.golang.org",
    "sum.golang.org",
    "registry.npmjs.org",
    "registry.yarnpkg.com",
    "npmjs.com",
    "deb.debian.org",
    "security.debian.org",
    "ftp.debian.org",
    "snapshot.debian.org",
    "archive.ubuntu.com",
    "pypi.org",
    "files.pythonhosted.org",
];

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    check_present(tree, &mut findings);
    check_map(tree, &mut findings);
    check_chapters(tree, &mut findings);
    check_makefile(tree, &mut findings);
    check_promises(tree, &mut findings);
    check_hosts(tree, &mut findings);
    findings
}

fn check_present(tree: &Tree, findings: &mut Vec<Finding>) {
    for path in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE", "Makefile", ".ci/run"] {
        if tree.text(path).is_none() {
            findings.push(Finding::new(path, 0, "is missing"));
        }
    }
    let changelog = tree.text("CHANGELOG.md").unwrap_or_default();
    if !changelog.lines().any(|line| line.starts_with("## ") && line.contains("Unreleased")) {
        findings.push(Finding::new(
            "CHANGELOG.md",
            0,
            "has no section `## Unreleased`: each change is told there",
        ));
    }
}

/// ARCHITECTURE.md and the crate's own documentation name every module.
fn check_map(tree: &Tree, findings: &mut Vec<Finding>) {
    for path in ["ARCHITECTURE.md", "src/lib.rs"] {
        let text = tree.text(path).unwrap_or_default();
        for module in tree.top_modules() {
            let named = [format!("`{module}`"), format!("`{module}/"), format!("`src/{module}")];
            if !named.iter().any(|name| text.contains(name)) {
                findings.push(Finding::new(
                    path,
                    0,
                    format!("does not name the module `{module}`: say what it is"),
                ));
            }
        }
    }
}

/// Each file of `format` names its chapter of `format-spec/`, and the chapter exists.
fn check_chapters(tree: &Tree, findings: &mut Vec<Finding>) {
    const FORMAT: &str = "src/format/mod.rs";
    let Some(source) = tree.source(FORMAT) else { return };
    for module in source.mods().into_iter().filter(|module| module.body.is_none()) {
        let line = source.line(module.at);
        let text = source.text.lines().nth(line - 1).unwrap_or_default();
        let chapter =
            text.split_once("// chapter ").and_then(|(_, number)| number.trim().parse::<u32>().ok());
        let Some(chapter) = chapter else {
            let text = format!("write `// chapter N` behind `mod {};`", module.name);
            findings.push(Finding::new(FORMAT, line, text));
            continue;
        };
        let start = format!("format-spec/{chapter:02}-");
        if !tree.files().any(|(path, _)| path.starts_with(&start) && path.ends_with(".md")) {
            findings.push(Finding::new(
                FORMAT,
                line,
                format!("there is no {start}….md: bytes are specified first"),
            ));
        }
    }
}

/// Targets that README names exist; targets are phony and have a line of help.
fn check_makefile(tree: &Tree, findings: &mut Vec<Finding>) {
    let makefile = tree.text("Makefile").unwrap_or_default();
    let phony: BTreeSet<_> = makefile
        .lines()
        .filter_map(|line| line.strip_prefix(".PHONY:"))
        .flat_map(str::split_whitespace)
        .collect();
    let mut targets = BTreeSet::new();
    for (number, line) in makefile.lines().enumerate() {
        let Some((name, rest)) = line.split_once(':') else { continue };
        if !is_target(name) || rest.starts_with('=') {
            continue;
        }
        targets.insert(name);
        if !phony.contains(name) || !rest.contains("## ") {
            let text = format!("{name}: list it in .PHONY and write `## what it does` behind it");
            findings.push(Finding::new("Makefile", number + 1, text));
        }
    }
    for document in ["README.md", "ARCHITECTURE.md"] {
        for (line, name) in named_targets(tree.text(document).unwrap_or_default()) {
            if !targets.contains(name) {
                findings.push(Finding::new(
                    document,
                    line,
                    format!("`make {name}`: the Makefile has no such target"),
                ));
            }
        }
    }
    let ci = tree.text(".ci/run").unwrap_or_default();
    if !ci.lines().any(|line| line.trim_start().starts_with("make test")) {
        findings.push(Finding::new(".ci/run", 0, "does not call `make test`: nothing is checked only there"));
    }
}

fn is_target(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The targets that code in a Markdown text gives to `make`.
fn named_targets(text: &str) -> Vec<(usize, &str)> {
    let mut all = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        let code: Vec<&str> = match fenced || line.starts_with("    ") {
            true => vec![line],
            false => line.split('`').skip(1).step_by(2).collect(),
        };
        for piece in code {
            let piece = piece.split('#').next().unwrap_or_default();
            let words: Vec<_> = piece.split_whitespace().collect();
            let Some(make) = words.iter().position(|word| *word == "make") else { continue };
            let names = words[make + 1..].iter().take_while(|word| is_target(word) || word.contains('='));
            all.extend(names.filter(|word| is_target(word)).map(|word| (number + 1, *word)));
        }
    }
    all
}

/// Each test that README names behind a promise exists.
fn check_promises(tree: &Tree, findings: &mut Vec<Finding>) {
    let readme = tree.text("README.md").unwrap_or_default();
    let is_there = |name: &str| {
        let heads = [format!("fn {name}("), format!("def {name}(")];
        tree.files().any(|(path, text)| path != "README.md" && heads.iter().any(|head| text.contains(head)))
    };
    let lines = readme.lines().enumerate().skip_while(|(_, line)| *line != "| promise | test |");
    for (number, line) in lines.take_while(|(_, line)| line.starts_with('|')).skip(2) {
        let tests: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
        let missing: Vec<&str> = tests.iter().copied().filter(|name| !is_there(name)).collect();
        if tests.is_empty() || !missing.is_empty() {
            let text = format!("a promise without its test: {}", missing.join(", "));
            findings.push(Finding::new("README.md", number + 1, text));
        }
    }
}

fn check_hosts(tree: &Tree, findings: &mut Vec<Finding>) {
    for (path, text) in tree.files() {
        let name = path.rsplit('/').next().unwrap_or(path);
        if ["Cargo.lock", "go.sum"].contains(&name) || path.starts_with("tests/tidy/") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            if let Some(host) = HOSTS.iter().find(|host| line.contains(**host)) {
                let text = format!("names {host}: which registry a machine uses is set on the machine");
                findings.push(Finding::new(path, number + 1, text));
            }
        }
    }
}

#[test]
fn documents_keep_up_with_the_code() {
    none(check(Tree::project()));
}

#[test]
fn documents_that_lag_behind_are_found() {
    let tree = Tree::made(&[
        (
            "README.md",
            "Run `make test`, make sure; `make gone`.\n\n    make demo  # both\n    make build X=1 lost\n\n\
             | promise | test |\n| --- | --- |\n| a | `kept` |\n| b | `kept`, `lost` |\n| c | none |\n\n| d | `no` |\n",
        ),
        ("ARCHITECTURE.md", "`store` and `src/format/`\n"),
        ("CHANGELOG.md", "# Changes\n\n## 0.1\n"),
        ("Makefile", ".PHONY: test demo\nA := b\ntest: demo ## all\ndemo: ## x\nbuild: ## y\n"),
        ("LICENSE", "from crates.io\n"),
        ("src/lib.rs", "//! [`store`] [`format`] [`repo`]\n"),
        ("src/format/mod.rs", "mod a; // chapter 1\nmod b;\nmod c; // chapter 2\n"),
        ("src/store.rs", ""),
        ("src/repo/open.rs", "fn kept() {}"),
        ("format-spec/01-a.md", ""),
        ("Cargo.lock", "crates.io"),
    ]);
    let places = [
        ".ci/run",
        ".ci/run",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "LICENSE:1",
        "Makefile:5",
        "README.md:1",
        "README.md:4",
        "README.md:9",
        "README.md:10",
        "src/format/mod.rs:2",
        "src/format/mod.rs:3",
    ];
    exactly(check(&tree), &places);
}
