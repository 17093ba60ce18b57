//! What a rule has to say about a place in the tree.

use std::fmt;

/// A broken rule: where, what is wrong, what to do.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    path: String,
    line: usize,
    text: String,
}

impl Finding {
    /// `line` counts from 1; 0 speaks of the whole file.
    pub fn new(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.text),
            line => write!(f, "{}:{line}: {}", self.path, self.text),
        }
    }
}

/// Fails with all of them, in order.
#[track_caller]
pub fn none(mut findings: Vec<Finding>) {
    findings.sort();
    let lines: Vec<_> = findings.iter().map(|finding| format!("\n  {finding}")).collect();
    assert!(findings.is_empty(), "{} findings:{}", findings.len(), lines.concat());
}

/// Fails unless the findings are these: each given as `path:line`, or `path` for a whole file.
#[track_caller]
pub fn exactly(mut findings: Vec<Finding>, places: &[&str]) {
    findings.sort();
    let found: Vec<_> = findings
        .iter()
        .map(|finding| match finding.line {
            0 => finding.path.clone(),
            line => format!("{}:{line}", finding.path),
        })
        .collect();
    assert_eq!(found, places, "{findings:#?}");
}
