//! Writes a large file past the page cache.
//!
//! Nobody reads a pack soon after it was written: in the page cache it would push out what the node's other
//! processes need, and count as this process's memory in a cgroup. Copying it there also costs more than all
//! else that writing does. Where the file system can't do that, the file is written as any other.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

/// What file systems ask of memory, offset and length at most.
const ALIGN: usize = 4096;
/// How much is written by one call.
const PIECE_BYTES: usize = 1024 * 1024;

/// Makes a file for its owner alone and writes `parts` into it, end to end. On return all of it is on disk, but not
/// the entry in its folder; after an error there is no file, unless there was one before.
pub(super) fn write_new(path: &Path, parts: &[impl AsRef<[u8]>]) -> io::Result<()> {
    match attempt(path, parts, OFlags::DIRECT) {
        // Said at open, at a write, or by a FUSE daemon of a tail that is not aligned.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(attempt(path, parts, OFlags::empty())?),
        done => Ok(done?),
    }
}

fn attempt(path: &Path, parts: &[impl AsRef<[u8]>], how: OFlags) -> Result<(), Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | how;
    let file = match rustix::fs::openat(CWD, path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => file,
        Err(errno) => {
            if errno == Errno::INVAL {
                // Some file systems make the file before they refuse; where there was one the answer is another.
                _ = std::fs::remove_file(path);
            }
            return Err(errno);
        }
    };
    fill(&file, parts).inspect_err(|_| _ = std::fs::remove_file(path))
}

fn fill(file: &OwnedFd, parts: &[impl AsRef<[u8]>]) -> Result<(), Errno> {
    let len: usize = parts.iter().map(|part| part.as_ref().len()).sum();
    // It keeps the file in one piece, where the file system can do that, and finds out early that there is no room.
    if let Err(full @ (Errno::NOSPC | Errno::DQUOT)) =
        rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len as u64)
    {
        return Err(full);
    }
    let mut room = vec![0; PIECE_BYTES + ALIGN];
    let start = room.as_ptr().align_offset(ALIGN);
    let piece = &mut room[start..start + PIECE_BYTES];
    let mut filled = 0;
    for part in parts {
        let mut rest = part.as_ref();
        while !rest.is_empty() {
            let taken = rest.len().min(PIECE_BYTES - filled);
            piece[filled..filled + taken].copy_from_slice(&rest[..taken]);
            filled += taken;
            rest = &rest[taken..];
            if filled == PIECE_BYTES {
                write_all(file, piece)?;
                filled = 0;
            }
        }
    }
    let whole = filled - filled % ALIGN;
    write_all(file, &piece[..whole])?;
    // The end of a file has any length.
    by_cache(file)?;
    write_all(file, &piece[whole..filled])?;
    rustix::fs::fsync(file)
}

fn write_all(file: &OwnedFd, mut piece: &[u8]) -> Result<(), Errno> {
    while !piece.is_empty() {
        match rustix::io::write(file, piece) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                piece = &piece[written..];
                if written % ALIGN != 0 {
                    // What is behind a short write is not aligned any more.
                    by_cache(file)?;
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn by_cache(file: &OwnedFd) -> Result<(), Errno> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    rustix::fs::fcntl_setfl(file, flags.difference(OFlags::DIRECT))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_of_any_length_and_parts_are_written_whole_for_the_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let lens = [
            0,
            1,
            511,
            512,
            ALIGN - 1,
            ALIGN,
            ALIGN + 1,
            PIECE_BYTES,
            PIECE_BYTES + 1,
            3 * PIECE_BYTES + 5000,
        ];
        for len in lens {
            let bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            for part in [len.max(1), 1000, PIECE_BYTES - 1] {
                let path = folder.path().join(format!("{len}-{part}"));
                write_new(&path, &bytes.chunks(part).collect::<Vec<_>>()).unwrap();
                assert!(std::fs::read(&path).unwrap() == bytes, "{len} bytes in parts of {part}");
                assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            }
        }
    }

    #[test]
    fn a_file_system_that_has_only_the_page_cache_is_written_to_all_the_same() {
        // Memory: no version of it before Linux 6.6 knows another way.
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let bytes = vec![7; 2 * PIECE_BYTES + 77];
        write_new(&folder.path().join("file"), &[&bytes]).unwrap();
        assert!(std::fs::read(folder.path().join("file")).unwrap() == bytes);
    }

    #[test]
    fn what_is_there_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "before").unwrap();
        let error = write_new(&path, &[b"after"]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"before");
    }
}
