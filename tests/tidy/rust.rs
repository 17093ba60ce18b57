//! A Rust file as the rules see it: masked code, tests told from the rest, functions, paths.
//!
//! No parser: enough of the grammar to find names, braces and `use` trees in formatted code.

use std::ops::Range;

use crate::scan::{body_or_end, closed, is_word, mask, words};

pub struct Source {
    pub path: String,
    pub text: String,
    /// The text with comments and literals blanked.
    pub code: String,
    tests: Vec<Range<usize>>,
    /// Whether all of it is for tests.
    is_test: bool,
}

/// A function with a body.
pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

/// A path such as `crate::store::Store`; those of `use` trees are written out in full.
#[derive(Debug, PartialEq, Eq)]
pub struct Path {
    pub at: usize,
    pub segments: Vec<String>,
    pub is_use: bool,
}

impl Path {
    pub fn starts(&self, with: &[&str]) -> bool {
        self.segments.len() >= with.len() && self.segments.iter().zip(with).all(|(a, b)| a == b)
    }

    pub fn has(&self, run: &[&str]) -> bool {
        self.segments.windows(run.len()).any(|window| window == run)
    }
}

/// A `mod name;` or `mod name { … }`.
pub struct Mod {
    pub at: usize,
    pub name: String,
    /// The body, if it has one here.
    pub body: Option<Range<usize>>,
    /// What `#[path]` says.
    pub file: Option<String>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let code = mask(text);
        let tests = test_ranges(&code);
        let is_test = !path.starts_with("src/");
        Self { path: path.to_owned(), text: text.to_owned(), code, tests, is_test }
    }

    /// The whole file is declared under `#[cfg(test)]`.
    pub fn mark_as_test(&mut self) {
        self.is_test = true;
    }

    pub fn line(&self, at: usize) -> usize {
        1 + self.code.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count()
    }

    /// Whether what stands at this offset is only compiled for tests.
    pub fn is_test(&self, at: usize) -> bool {
        self.is_test || self.tests.iter().any(|range| range.contains(&at))
    }

    /// Lines that are not in `#[cfg(test)]` items.
    pub fn lines(&self) -> usize {
        let lines = |range: &Range<usize>| self.text[range.clone()].lines().count();
        self.text.lines().count() - self.tests.iter().map(lines).sum::<usize>()
    }

    pub fn words(&self) -> impl Iterator<Item = (usize, &str)> {
        words(&self.code)
    }

    /// All offsets of this piece of code.
    pub fn find<'a>(&'a self, piece: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.code.match_indices(piece).map(|(at, _)| at)
    }

    pub fn functions(&self) -> Vec<Function> {
        let mut all = Vec::new();
        for (at, word) in self.words() {
            let name = self.code[at + word.len()..].trim_start();
            let name: String = name.chars().take_while(|&c| c.is_alphanumeric() || c == '_').collect();
            if word != "fn" || name.is_empty() {
                continue;
            }
            if let Some((open, b'{')) = body_or_end(&self.code, at) {
                let end = closed(&self.code, open);
                all.push(Function { name, line: self.line(at), lines: self.text[at..end].lines().count() });
            }
        }
        all
    }

    pub fn mods(&self) -> Vec<Mod> {
        let mut all = Vec::new();
        for (at, word) in self.words() {
            let rest = &self.code[at + word.len()..];
            let name: String =
                rest.trim_start().bytes().take_while(|&b| is_word(b)).map(char::from).collect();
            if word != "mod" || name.is_empty() {
                continue;
            }
            let behind = rest.trim_start()[name.len()..].trim_start();
            let body = match behind.as_bytes().first() {
                Some(b';') => None,
                Some(b'{') => {
                    let open = self.code.len() - behind.len();
                    Some(open..closed(&self.code, open))
                }
                _ => continue,
            };
            all.push(Mod { at, name, body, file: self.path_attribute(at) });
        }
        all
    }

    /// What `#[path = "…"]` right before the item at `at` says.
    fn path_attribute(&self, at: usize) -> Option<String> {
        let start = self.code[..at].rfind("#[path")?;
        if self.code[start..at].contains([';', '{', '}']) {
            return None;
        }
        self.text[start..at].split('"').nth(1).map(str::to_owned)
    }

    /// Every path of at least two segments, and every `use`.
    pub fn paths(&self) -> Vec<Path> {
        let tokens = tokens(&self.code);
        let mut all = Vec::new();
        let mut next = 0;
        while next < tokens.len() {
            let (at, token) = tokens[next];
            // `impl Trait + use<'a>` captures and imports nothing.
            let is_capture = tokens.get(next + 1).is_some_and(|&(_, token)| token == "<");
            if token == "use" && !is_capture {
                next = use_tree(&tokens, next + 1, &[], &mut all);
            } else if is_word(token.as_bytes()[0]) {
                let mut segments = vec![token.to_owned()];
                next += 1;
                while let [(_, "::"), (_, word), ..] = tokens[next..]
                    && is_word(word.as_bytes()[0])
                {
                    segments.push(word.to_owned());
                    next += 2;
                }
                if segments.len() > 1 {
                    all.push(Path { at, segments, is_use: false });
                }
            } else {
                next += 1;
            }
        }
        all
    }
}

/// Items under `#[cfg(test)]`, attribute included.
fn test_ranges(code: &str) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (start, attribute) in code.match_indices("#[cfg(test)]") {
        if ranges.iter().any(|range| range.contains(&start)) {
            continue;
        }
        if let Some((at, byte)) = body_or_end(code, start + attribute.len()) {
            ranges.push(start..if byte == b'{' { closed(code, at) } else { at + 1 });
        }
    }
    ranges
}

/// Words, `::`, and single bytes of what else there is.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let bytes = code.as_bytes();
    let mut all = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let len = match bytes[at] {
            b if is_word(b) => bytes[at..].iter().take_while(|&&b| is_word(b)).count(),
            b':' if bytes.get(at + 1) == Some(&b':') => 2,
            b if b.is_ascii_graphic() => 1,
            _ => {
                at += 1;
                continue;
            }
        };
        all.push((at, &code[at..at + len]));
        at += len;
    }
    all
}

/// Writes out one `use` tree; returns the token behind it.
fn use_tree(tokens: &[(usize, &str)], start: usize, prefix: &[String], all: &mut Vec<Path>) -> usize {
    let mut segments = prefix.to_vec();
    let Some(&(at, _)) = tokens.get(start) else { return start };
    let mut next = start;
    let mut is_group = false;
    while let Some(&(_, token)) = tokens.get(next) {
        next += 1;
        match token {
            "{" => {
                is_group = true;
                while tokens.get(next).is_some_and(|&(_, token)| token != "}") {
                    next = use_tree(tokens, next, &segments, all);
                    next += usize::from(tokens.get(next).is_some_and(|&(_, token)| token == ","));
                }
                next += 1;
            }
            "as" => next += 1,
            "," | "}" | ";" => {
                next -= 1;
                break;
            }
            "::" => {}
            word => segments.push(word.to_owned()),
        }
    }
    if !is_group {
        all.push(Path { at, segments, is_use: true });
    }
    next
}

#[test]
fn use_trees_are_written_out() {
    let source = Source::new(
        "src/a.rs",
        "pub use crate::{a, b::{self, C as D, e::*}};\nlet x = std::f::g(1);\nfn h() -> impl I + use<> { { i(); } }",
    );
    let paths: Vec<_> = source.paths().iter().map(|path| path.segments.join("::")).collect();
    assert_eq!(paths, ["crate::a", "crate::b::self", "crate::b::C", "crate::b::e::*", "std::f::g"]);
}

#[test]
fn tests_functions_and_modules_are_found() {
    let text = "fn a(x: [u8; 2]) {\n  b();\n}\n#[cfg(test)]\nmod tests {\n  fn c() {}\n}\n\
                #[path = \"../x.rs\"]\nmod y;\ntype F = fn(u8);\n";
    let source = Source::new("src/a.rs", text);
    let functions: Vec<_> = source.functions().into_iter().map(|f| (f.name, f.line, f.lines)).collect();
    assert_eq!(functions, [("a".to_owned(), 1, 3), ("c".to_owned(), 6, 1)]);
    assert_eq!(source.lines(), 6);
    assert!(!source.is_test(text.find("b()").unwrap()) && source.is_test(text.find("fn c").unwrap()));
    let mods: Vec<_> = source.mods().into_iter().map(|m| (m.name, m.body.is_some(), m.file)).collect();
    assert_eq!(mods, [("tests".to_owned(), true, None), ("y".to_owned(), false, Some("../x.rs".to_owned()))]);
}
