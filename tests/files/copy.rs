//! Copies a folder the way a backup and a restore do, without a repository in between.

use std::collections::HashMap;
use std::path::Path;

use kist::archive::exclude::Exclude;
use kist::archive::file::{self, Segment};
use kist::archive::problem::Problem;
use kist::archive::target::{Device, Target};
use kist::archive::walk::{Found, FoundKind, Options, Step, Walk, XattrReader};
use kist::format::entry::{Attributes, TreePath};
use kist::format::id::LinkGroup;
use kist::world::Time;

/// A path from its text.
pub fn path(text: &str) -> TreePath {
    TreePath::from_slashes(text.as_bytes()).unwrap()
}

/// Names a group after its first path, so that tests can tell which path that was.
pub fn link_group(first: &TreePath) -> LinkGroup {
    let mut bytes = [0; 16];
    first.sort_key().iter().enumerate().for_each(|(i, b)| bytes[i % 16] = (bytes[i % 16] ^ b).rotate_left(3));
    LinkGroup(bytes)
}

pub fn options(exclude: &Exclude) -> Options<'_> {
    Options {
        exclude,
        one_file_system: false,
        exclude_caches: false,
        link_group: &link_group,
        clock: &|| Time(0),
    }
}

pub fn split(walk: Walk<'_>) -> (Vec<Found>, Vec<Problem>) {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for step in walk {
        match step {
            Step::Found(mut one) => {
                one.close();
                found.push(one);
            }
            Step::Problem(problem) => problems.push(problem),
        }
    }
    (found, problems)
}

/// All that is in a folder, without problems.
pub fn walk_all(base: &Path) -> Vec<Found> {
    let exclude = Exclude::default();
    let (found, problems) = split(Walk::of_folder(base, options(&exclude)).unwrap());
    assert!(problems.is_empty(), "{problems:?}");
    found
}

/// Copies `from` into `to`, over what is there, and deletes what is only there if `delete` says so.
pub fn copy(from: &Path, to: &Path, delete: bool) -> Vec<Problem> {
    let exclude = Exclude::default();
    let target = Target::open(to, true).unwrap();
    let mut links: HashMap<LinkGroup, TreePath> = HashMap::new();
    let mut folders: Vec<(TreePath, Attributes)> = Vec::new();
    let mut problems = Vec::new();
    let mut xattrs = XattrReader::default();
    let wanted = if delete { walk_all(from) } else { Vec::new() };
    if delete {
        delete_others(&target, &TreePath::root(), &wanted);
    }
    for step in Walk::of_folder(from, options(&exclude)).unwrap() {
        let found = match step {
            Step::Found(mut found) => match xattrs.read(&mut found) {
                Ok(problem) => {
                    problems.extend(problem);
                    found
                }
                Err(gone) => {
                    problems.push(gone);
                    continue;
                }
            },
            Step::Problem(problem) => {
                problems.push(problem);
                continue;
            }
        };
        if found.kind == FoundKind::Folder {
            target.make_folder(&found.path).unwrap();
            folders.push((found.path, found.attributes));
            continue;
        }
        if let Some(first) = found.attributes.link.and_then(|group| links.get(&group)) {
            target.hard_link(first, &found.path).unwrap();
            continue;
        }
        if let Some(group) = found.attributes.link {
            links.insert(group, found.path.clone());
        }
        problems.extend(put(&target, &found));
    }
    for (path, attributes) in folders.iter().rev() {
        problems.extend(target.set_attributes(path, attributes));
    }
    problems
}

fn delete_others(target: &Target, folder: &TreePath, wanted: &[Found]) {
    for name in target.list(folder).unwrap() {
        let path = folder.join(&name).unwrap();
        let here = target.existing(&path).unwrap().unwrap();
        match wanted.iter().find(|found| found.path == path) {
            Some(found) if found.kind == FoundKind::Folder && here.is_folder() => {
                delete_others(target, &path, wanted);
            }
            Some(_) if !here.is_folder() => {}
            _ => target.remove(&path).unwrap(),
        }
    }
}

fn put(target: &Target, found: &Found) -> Vec<Problem> {
    let path = &found.path;
    match &found.kind {
        FoundKind::Folder => unreachable!("folders are made by the caller"),
        FoundKind::File { .. } => return put_file(target, found),
        FoundKind::Symlink { target: to } => target.symlink(path, to).unwrap(),
        FoundKind::Fifo => target.fifo(path).unwrap(),
        FoundKind::Socket => target.socket(path).unwrap(),
        &FoundKind::CharDevice { major, minor } => {
            target.device(path, Device::Char { major, minor }).unwrap();
        }
        &FoundKind::BlockDevice { major, minor } => {
            target.device(path, Device::Block { major, minor }).unwrap();
        }
    }
    target.set_attributes(path, &found.attributes)
}

fn put_file(target: &Target, found: &Found) -> Vec<Problem> {
    let reader = file::open(found).unwrap();
    let out = target.create_file(&found.path, reader.size()).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut end = 0;
    for segment in reader.segments() {
        match segment.unwrap() {
            Segment::Hole { offset, len } => {
                assert_eq!(offset, end);
                end = offset + len;
            }
            Segment::Data { offset, len } => {
                assert_eq!(offset, end);
                end = offset + len;
                for at in (offset..end).step_by(buffer.len()) {
                    let part = &mut buffer[..(end - at).min(1 << 20) as usize];
                    reader.read_at(at, part).unwrap();
                    out.write_at(at, part).unwrap();
                }
            }
        }
    }
    assert_eq!(end, reader.size());
    assert!(!reader.changed_since_open());
    out.place(&found.attributes)
}
