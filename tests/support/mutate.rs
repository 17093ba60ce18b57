//! Changes a tree on disk at random: contents, holes, names, kinds, links, attributes.
//!
//! Part of [`super`]; the seed says all.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FallocateFlags, Gid, Mode, Uid, XattrFlags};

use super::{Dice, all_xattrs, pseudo_random, set_mtime};

/// Changes a tree on disk in some twenty ways at random places. Returns what was done, for messages.
pub fn mutate(root: &Path, seed: u64) -> Vec<String> {
    let mut dice = Dice::new(seed);
    let count = 1 + dice.below(20);
    (0..count).map(|_| change(root, &mut dice)).collect()
}

fn all_paths(root: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut folders, mut others) = (vec![root.to_owned()], Vec::new());
    let mut next = 0;
    while next < folders.len() {
        let entries: BTreeSet<PathBuf> =
            fs::read_dir(&folders[next]).unwrap().map(|entry| entry.unwrap().path()).collect();
        for path in entries {
            match fs::symlink_metadata(&path).unwrap().is_dir() {
                true => folders.push(path),
                false => others.push(path),
            }
        }
        next += 1;
    }
    (folders, others)
}

fn change(root: &Path, dice: &mut Dice) -> String {
    let (folders, others) = all_paths(root);
    let any_folder = folders[dice.below(folders.len() as u64) as usize].clone();
    let fresh = any_folder.join(format!("new-{:x}", dice.next()));
    let roll = dice.below(20);
    let is_root_only = folders.len() == 1;
    let Some(path) = others.get(dice.below(others.len() as u64) as usize).cloned().filter(|_| roll > 1)
    else {
        if roll == 0 {
            fs::create_dir(&fresh).unwrap();
        } else {
            fs::write(&fresh, pseudo_random(dice.below(200_000) as usize, roll)).unwrap();
        }
        return format!("made {fresh:?}");
    };
    let done = match roll {
        2..=9 => change_content(&path, roll, dice),
        10..=14 => change_attributes(&path, roll, dice),
        15 => {
            fs::rename(&path, &fresh).unwrap();
            "renamed"
        }
        16 => {
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            fs::write(path.join("inside"), "was a file").unwrap();
            "file to folder"
        }
        17 => {
            fs::hard_link(&path, &fresh).unwrap();
            "linked"
        }
        18 if !is_root_only => {
            let folder = &folders[1 + dice.below(folders.len() as u64 - 1) as usize];
            fs::remove_dir_all(folder).unwrap();
            fs::write(folder, "was a folder").unwrap();
            return format!("folder to file {folder:?}");
        }
        _ => {
            fs::remove_file(&path).unwrap();
            "deleted"
        }
    };
    format!("{done} {path:?}")
}

fn change_content(path: &Path, roll: u64, dice: &mut Dice) -> &'static str {
    let meta = fs::symlink_metadata(path).unwrap();
    if !meta.is_file() {
        fs::remove_file(path).unwrap();
        symlink(format!("to-{}", dice.next()), path).unwrap();
        return "replaced by a link";
    }
    let file = File::options().read(true).write(true).open(path).unwrap();
    let (size, at) = (meta.size(), dice.below(meta.size()));
    match roll {
        2 | 3 => {
            file.write_all_at(&pseudo_random(1 + dice.below(100) as usize, roll), at).unwrap();
            "edited"
        }
        4 => {
            file.write_all_at(&pseudo_random(dice.below(50_000) as usize, roll), size).unwrap();
            "appended"
        }
        5 if size < 10_000_000 => {
            let mut bytes = fs::read(path).unwrap();
            let more = pseudo_random(1 + dice.below(100) as usize, roll);
            bytes.splice(at as usize..at as usize, more);
            file.write_all_at(&bytes, 0).unwrap();
            "inserted into"
        }
        6 => {
            file.set_len(at).unwrap();
            "truncated"
        }
        7 => {
            file.set_len(size + dice.below(100_000)).unwrap();
            "hole after"
        }
        8 if size > 4096 => {
            let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            _ = rustix::fs::fallocate(&file, how, at, 8192);
            "hole in"
        }
        _ => {
            fs::remove_file(path).unwrap();
            fs::write(path, pseudo_random(size.min(100_000) as usize, dice.next())).unwrap();
            "written anew"
        }
    }
}

fn change_attributes(path: &Path, roll: u64, dice: &mut Dice) -> &'static str {
    let is_link = fs::symlink_metadata(path).unwrap().is_symlink();
    match roll {
        10 if !is_link => {
            let mode = Mode::from_raw_mode(dice.below(0o10000) as u32);
            rustix::fs::chmodat(CWD, path, mode, AtFlags::empty()).unwrap();
            "mode of"
        }
        11 => {
            let (uid, gid) = (Uid::from_raw(dice.below(5000) as u32), Gid::from_raw(dice.below(5000) as u32));
            rustix::fs::chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).unwrap();
            "owner of"
        }
        12 => {
            let value = dice.next().to_le_bytes();
            _ = rustix::fs::lsetxattr(path, "trusted.changed", &value, XattrFlags::empty());
            "attribute of"
        }
        13 => {
            for (name, _) in all_xattrs() {
                _ = rustix::fs::lremovexattr(path, name.as_slice());
            }
            "no attributes of"
        }
        _ => {
            set_mtime(path, (dice.below(1 << 31) as i64 - (1 << 30), dice.below(1_000_000_000) as u32));
            "time of"
        }
    }
}
