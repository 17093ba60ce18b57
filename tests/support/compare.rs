//! Compares two folders in everything that a restore has to bring back.
//!
//! Independent of the code under test: std and rustix only. Left out are only the times of the last access
//! and of the last change of the inode, which nobody can set.
#![allow(dead_code, reason = "not every test that includes this file uses all of it")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// What is different, one line each; empty if nothing is.
pub fn differences(a: &Path, b: &Path) -> Vec<String> {
    let (left, right) = (describe_all(a), describe_all(b));
    let mut out = Vec::new();
    for (path, facts) in &left {
        let Some(others) = right.get(path) else {
            out.push(format!("{path:?}: only in the first"));
            continue;
        };
        for (fact, value) in facts {
            if others.get(fact) != Some(value) {
                out.push(format!("{path:?}: {fact}: {value} / {:?}", others.get(fact)));
            }
        }
        for fact in others.keys().filter(|fact| !facts.contains_key(*fact)) {
            out.push(format!("{path:?}: {fact}: only in the second"));
        }
        if facts["type"] == "file" && others["type"] == "file" && content(a, path) != content(b, path) {
            out.push(format!("{path:?}: the content differs"));
        }
    }
    out.extend(
        right.keys().filter(|path| !left.contains_key(*path)).map(|p| format!("{p:?}: only in the second")),
    );
    out
}

fn content(base: &Path, path: &Path) -> Vec<u8> {
    fs::read(base.join(path)).unwrap()
}

/// What is known of a path but for its content, by names.
pub type Facts = BTreeMap<String, String>;

/// Everything below `base`, itself (empty) included.
pub fn describe_all(base: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut all = BTreeMap::new();
    let mut inodes: BTreeMap<(u64, u64), Vec<PathBuf>> = BTreeMap::new();
    for path in paths(base) {
        let full = if path.as_os_str().is_empty() { base.to_owned() } else { base.join(&path) };
        let meta = fs::symlink_metadata(&full).unwrap();
        if !meta.is_dir() {
            inodes.entry((meta.dev(), meta.ino())).or_default().push(path.clone());
        }
        all.insert(path, describe(&full, &meta));
    }
    for group in inodes.into_values().filter(|group| group.len() > 1) {
        for path in &group {
            all.get_mut(path).unwrap().insert("same file as".into(), format!("{group:?}"));
        }
    }
    all
}

/// All paths below `base`, itself (empty) included.
pub fn paths(base: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    let mut todo = vec![PathBuf::new()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(base.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                todo.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}

fn describe(full: &Path, meta: &fs::Metadata) -> Facts {
    let kind = meta.file_type();
    let mut facts = Facts::new();
    let mut fact = |name: &str, value: String| facts.insert(name.to_owned(), value);
    fact("owner", format!("{}:{}", meta.uid(), meta.gid()));
    fact("mode", format!("{:o}", meta.mode()));
    fact("mtime", format!("{}.{:09}", meta.mtime(), meta.mtime_nsec()));
    for (name, value) in xattrs(full) {
        fact(&format!("xattr {}", name.escape_ascii()), format!("{} bytes {:x}", value.len(), sum(&value)));
    }
    if kind.is_file() {
        fact("type", "file".into());
        fact("size", meta.len().to_string());
        fact("data", format!("{:?}", data_segments(full)));
    } else if kind.is_symlink() {
        fact("type", "link".into());
        fact("target", format!("{}", fs::read_link(full).unwrap().as_os_str().as_bytes().escape_ascii()));
    } else if kind.is_block_device() || kind.is_char_device() {
        fact("type", format!("device {} {:x}", kind.is_block_device(), meta.rdev()));
    } else {
        fact("type", format!("folder {} fifo {} socket {}", kind.is_dir(), kind.is_fifo(), kind.is_socket()));
    }
    facts
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &b| (sum ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut list = vec![0; 1 << 16];
    let len = match rustix::fs::llistxattr(path, &mut list[..]) {
        Ok(len) => len,
        Err(Errno::OPNOTSUPP) => 0,
        Err(errno) => panic!("{path:?}: {errno}"),
    };
    let names = list[..len].split(|&b| b == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 1 << 16];
            let len = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(len);
            (name.to_vec(), value)
        })
        .collect()
}

/// Where a file has data, as (start, end).
pub fn data_segments(path: &Path) -> Vec<(u64, u64)> {
    let file = File::open(path).unwrap();
    let (mut segments, mut at) = (Vec::new(), 0);
    while let Ok(start) = rustix::fs::seek(&file, SeekFrom::Data(at)) {
        let end = rustix::fs::seek(&file, SeekFrom::Hole(start)).unwrap();
        segments.push((start, end));
        at = end;
    }
    segments
}
