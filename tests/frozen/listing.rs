//! A folder as text: what a restore has to bring back, in a form that is kept.

use std::fmt::Write;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::compare::{data_segments, describe_all};

/// A line for each path. Where a file has holes is left to the file system that it is restored to.
pub fn of(folder: &Path) -> String {
    let mut text = String::new();
    for (path, facts) in describe_all(folder) {
        write!(text, "{}", path.as_os_str().as_bytes().escape_ascii()).unwrap();
        for (fact, value) in facts.iter().filter(|(fact, _)| *fact != "data") {
            write!(text, " | {fact}: {value}").unwrap();
        }
        if facts["type"] == "file" {
            write!(text, " | content: {}", content(&folder.join(&path))).unwrap();
        }
        text.push('\n');
    }
    text
}

const BLOCK: u64 = 4096;

/// SHA-256 of all blocks that are not zero, each behind its number.
fn content(path: &Path) -> String {
    let (file, len) = (File::open(path).unwrap(), fs::metadata(path).unwrap().len());
    let mut hash = Sha256::new();
    let mut next = 0;
    for (start, end) in data_segments(path) {
        for number in (start / BLOCK).max(next)..end.div_ceil(BLOCK) {
            let at = number * BLOCK;
            let mut block = vec![0; BLOCK.min(len - at) as usize];
            file.read_exact_at(&mut block, at).unwrap();
            if block.iter().any(|byte| *byte != 0) {
                hash.update(number.to_le_bytes());
                hash.update(block);
            }
            next = number + 1;
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
