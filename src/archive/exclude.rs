//! Patterns of what a backup leaves out.
//!
//! A pattern without a slash fits a name anywhere; one with a slash inside fits that end of a path
//! anywhere; a leading slash binds it to the tree's root. `*`, `?`, `[…]` and `{a,b}` stay within a name,
//! `**` spans folders. A trailing slash fits folders only. `!` before a pattern takes back what an earlier
//! one left out; the last that fits decides. Names are bytes and need not be UTF-8.
//! Invariant: a folder that is left out is not entered, so nothing below it can be taken back.

use globset::{Candidate, GlobBuilder, GlobSet};

use crate::format::entry::TreePath;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExcludeError {
    #[error("exclude pattern `{pattern}` is not valid")]
    Pattern {
        pattern: String,
        #[source]
        source: globset::Error,
    },
    #[error("line {line} of the exclude file is not UTF-8")]
    NotText { line: usize },
}

/// A set of patterns, ready to be matched.
#[derive(Clone, Debug, Default)]
pub struct Exclude {
    set: GlobSet,
    rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug)]
struct Rule {
    folders_only: bool,
    takes_back: bool,
}

impl Exclude {
    /// From patterns, the way they are given on a command line.
    pub fn new<P: AsRef<str>>(patterns: impl IntoIterator<Item = P>) -> Result<Self, ExcludeError> {
        let mut builder = GlobSet::builder();
        let mut rules = Vec::new();
        for pattern in patterns {
            let pattern = pattern.as_ref();
            let invalid = |source| ExcludeError::Pattern { pattern: pattern.to_owned(), source };
            let (takes_back, rest) = match pattern.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, pattern),
            };
            let body = rest.trim_end_matches('/');
            let glob = match body.strip_prefix('/') {
                Some(anchored) => anchored.trim_start_matches('/').to_owned(),
                None => format!("**/{body}"),
            };
            if body.is_empty() {
                continue;
            }
            let glob = GlobBuilder::new(&glob)
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(invalid)?;
            builder.add(glob);
            rules.push(Rule { folders_only: rest.ends_with('/'), takes_back });
        }
        let set = builder
            .build()
            .map_err(|source| ExcludeError::Pattern { pattern: "all of them together".into(), source })?;
        Ok(Self { set, rules })
    }

    /// The patterns in the text of an exclude file: one a line; blank lines and those that start with `#`
    /// don't count.
    pub fn patterns_in(text: &[u8]) -> Result<Vec<String>, ExcludeError> {
        let mut patterns = Vec::new();
        for (index, line) in text.split(|&b| b == b'\n').enumerate() {
            let line = std::str::from_utf8(line).map_err(|_| ExcludeError::NotText { line: index + 1 })?;
            let line = line.strip_suffix('\r').unwrap_or(line);
            if !line.trim().is_empty() && !line.starts_with('#') {
                patterns.push(line.to_owned());
            }
        }
        Ok(patterns)
    }

    /// Whether the last pattern that fits this path leaves it out.
    pub fn matches(&self, path: &TreePath, is_folder: bool) -> bool {
        if self.rules.is_empty() {
            return false;
        }
        let slashes = path.to_slashes();
        let fitting = self.set.matches_candidate(&Candidate::from_bytes(&slashes));
        let last = fitting
            .into_iter()
            .filter_map(|index| self.rules.get(index).map(|rule| (index, rule)))
            .filter(|(_, rule)| is_folder || !rule.folders_only)
            .max_by_key(|(index, _)| *index);
        last.is_some_and(|(_, rule)| !rule.takes_back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_what_the_table_says() {
        let rows: &[(&[&str], &str, bool, bool)] = &[
            (&["x"], "x", false, true),
            (&["x"], "a/b/x", false, true),
            (&["x"], "a/xx", false, false),
            (&["x"], "x/y", false, false),
            (&["/x"], "x", false, true),
            (&["/x"], "a/x", false, false),
            (&["/a/b"], "a/b", false, true),
            (&["/a/b"], "c/a/b", false, false),
            (&["a/b"], "c/a/b", false, true),
            (&["a/b"], "c/xa/b", false, false),
            (&["*.log"], "a/b/c.log", false, true),
            (&["*.log"], "a/.log", false, true),
            (&["/a/*"], "a/b", false, true),
            (&["/a/*"], "a/b/c", false, false),
            (&["/a/**"], "a/b/c", false, true),
            (&["/a/**"], "a", true, false),
            (&["/a/**/z"], "a/z", false, true),
            (&["/a/**/z"], "a/b/c/z", false, true),
            (&["tmp/"], "a/tmp", true, true),
            (&["tmp/"], "a/tmp", false, false),
            (&["/tmp//"], "tmp", true, true),
            (&["?at"], "cat", false, true),
            (&["?at"], "at", false, false),
            (&["[ab]c"], "bc", false, true),
            (&["[!ab]c"], "bc", false, false),
            (&["{a,b}.o"], "x/b.o", false, true),
            (&["\\#x"], "#x", false, true),
            (&["\\!x"], "!x", false, true),
            (&["\\*"], "*", false, true),
            (&["\\*"], "a", false, false),
            (&["*", "!keep"], "keep", false, false),
            (&["*", "!keep"], "other", false, true),
            (&["!keep", "*"], "keep", false, true),
            (&["end."], "a/end.", false, true),
            (&[".hidden"], "a/.hidden", false, true),
            (&["a b "], "a b ", false, true),
            (&["two\nlines"], "two\nlines", false, true),
            (&["t*s"], "two\nlines", false, true),
            (&["grün"], "x/grün", false, true),
            (&["", "/", "!"], "x", true, false),
            (&[], "x", true, false),
        ];
        for (patterns, path, is_folder, expected) in rows {
            let exclude = Exclude::new(*patterns).unwrap();
            let path = TreePath::from_slashes(path.as_bytes()).unwrap();
            assert_eq!(exclude.matches(&path, *is_folder), *expected, "{patterns:?} {path}");
        }
    }

    #[test]
    fn names_that_are_not_utf8_are_matched_by_wildcards() {
        let path = TreePath::from_slashes(b"a/x\xff\xfe.log").unwrap();
        assert!(Exclude::new(["*.log"]).unwrap().matches(&path, false));
        assert!(Exclude::new(["x*"]).unwrap().matches(&path, false));
        assert!(Exclude::new(["/a/x**"]).unwrap().matches(&path, false));
        assert!(!Exclude::new(["*.txt"]).unwrap().matches(&path, false));
    }

    #[test]
    fn exclude_files_have_comments_and_blank_lines() {
        let text = b"# comment\n\n  \n*.o\r\n/build/\n#x\n a\n";
        assert_eq!(Exclude::patterns_in(text).unwrap(), ["*.o", "/build/", " a"]);
        let error = Exclude::patterns_in(b"a\n\xff\n").unwrap_err();
        assert_eq!(error.to_string(), "line 2 of the exclude file is not UTF-8");
    }

    #[test]
    fn a_broken_pattern_is_refused_by_name() {
        let error = Exclude::new(["fine", "[a"]).unwrap_err();
        assert_eq!(error.to_string(), "exclude pattern `[a` is not valid");
    }
}
