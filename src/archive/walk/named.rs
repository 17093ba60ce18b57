//! The paths that a walk was given, as one tree of names.
//!
//! Links on the way to a given path are followed here, once, before the walk: they are kept as links, and
//! the place they lead to is named in their stead. So nothing is stored twice, nothing is missing, and a
//! restore of the whole brings back a way that leads there.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::archive::problem::{Problem, ProblemKind};
use crate::format::entry::TreePath;

/// As many links on the way as the kernel follows.
const LINKS_MAX: usize = 40;

#[derive(Clone, Default)]
pub(super) struct Named {
    /// Given itself: all of it is wanted.
    pub whole: bool,
    pub children: BTreeMap<CString, Arc<Named>>,
}

impl Named {
    pub fn resolve(paths: &[PathBuf]) -> Result<Self, Problem> {
        let mut named = Self::default();
        for path in paths {
            named.add(path.as_os_str().as_bytes())?;
        }
        Ok(named)
    }

    fn add(&mut self, given: &[u8]) -> Result<(), Problem> {
        let refused = |what: &str| {
            let shown = TreePath::from_slashes(given).unwrap_or_default();
            Problem::found("taking the path", &shown, ProblemKind::Other, what)
        };
        if !given.starts_with(b"/") {
            return Err(refused("it is not absolute"));
        }
        if given.contains(&0) {
            return Err(refused("it has a NUL in it"));
        }
        let mut todo: VecDeque<Vec<u8>> = components(given);
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    done.pop();
                    continue;
                }
                _ => done.push(name),
            }
            // A trailing slash leaves an empty component: then the last one is a folder on the way too.
            let Some(target) = (!todo.is_empty()).then(|| link_target(&done)).flatten() else { continue };
            links += 1;
            if links > LINKS_MAX {
                return Err(refused("too many links on the way"));
            }
            self.insert(&done);
            done.pop();
            if target.starts_with(b"/") {
                done.clear();
            }
            let mut way = components(&target);
            way.append(&mut todo);
            todo = way;
        }
        self.insert(&done);
        Ok(())
    }

    fn insert(&mut self, names: &[Vec<u8>]) {
        let mut at = self;
        for name in names {
            let name = CString::new(name.clone()).expect("paths with a NUL were refused");
            at = Arc::make_mut(at.children.entry(name).or_default());
        }
        at.whole = true;
    }
}

fn components(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|&b| b == b'/').map(<[u8]>::to_vec).collect()
}

/// None if it is no link; nor if it can't be looked at: then the walk meets the same error, and reports it.
fn link_target(names: &[Vec<u8>]) -> Option<Vec<u8>> {
    let path: PathBuf =
        std::iter::once(OsStr::new("/")).chain(names.iter().map(|name| OsStr::from_bytes(name))).collect();
    std::fs::read_link(path).ok().map(|target| target.as_os_str().as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(named: &Named, at: &str, out: &mut Vec<String>) {
        if named.whole {
            out.push(format!("{at}/"));
        }
        for (name, child) in &named.children {
            wanted(child, &format!("{at}/{}", name.to_str().unwrap()), out);
        }
    }

    #[test]
    fn links_on_the_way_are_named_and_followed() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("releases/42")).unwrap();
        std::os::unix::fs::symlink("releases/../releases/42", base.join("current")).unwrap();
        let b = base.to_str().unwrap();
        let rows = [
            ("current/x", vec!["/current/", "/releases/42/x/"]),
            ("current", vec!["/current/"]),
            ("current/", vec!["/current/", "/releases/42/"]),
            ("gone/./y//z", vec!["/gone/y/z/"]),
            ("releases/../current/..", vec!["/current/", "/releases/"]),
        ];
        for (given, expected) in rows {
            let mut out = Vec::new();
            wanted(&Named::resolve(&[base.join(given)]).unwrap_or_default(), "", &mut out);
            let expected: Vec<_> = expected.iter().map(|path| format!("{b}{path}")).collect();
            assert_eq!(out, expected, "{given}");
        }
    }

    #[test]
    fn relative_paths_and_circles_of_links_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
        assert!(Named::resolve(&["etc".into()]).is_err());
        assert!(Named::resolve(&[dir.path().join("loop/x")]).is_err());
    }
}
