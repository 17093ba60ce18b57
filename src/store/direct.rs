//! Writes a large file past the page cache.
//!
//! Nobody reads a pack soon after it was written: in the page cache it would push out what the node's other
//! processes need, and count as this process's memory in a cgroup. Copying it there also costs more than all
//! else that writing does. Where the file system can't do that, the file is written as any other.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

/// What file systems ask of memory, offset and length at most.
const ALIGN: usize = 4096;
/// How much is written by one call.
const PIECE_BYTES: usize = 1024 * 1024;

/// Makes a file for its owner alone and writes `parts` into it, end to end. On return all of it is on disk, but not
/// the entry in its folder.
pub(super) fn write_new(path: &Path, parts: &[impl AsRef<[u8]>]) -> io::Result<()> {
    let len: usize = parts.iter().map(|part| part.as_ref().len()).sum();
    let mut file = create(path)?;
    // It keeps the file in one piece, where the file system can do that, and finds out early that there is no room.
    if let Err(full @ (Errno::NOSPC | Errno::DQUOT)) =
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len as u64)
    {
        return Err(full.into());
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
                write_all(&mut file, piece)?;
                filled = 0;
            }
        }
    }
    let whole = filled - filled % ALIGN;
    write_all(&mut file, &piece[..whole])?;
    // The end of a file has any length.
    by_cache(&file)?;
    file.write_all(&piece[whole..filled])?;
    file.sync_all()
}

fn create(path: &Path) -> io::Result<File> {
    let options = |flags: OFlags| {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).custom_flags(flags.bits().cast_signed());
        options.open(path)
    };
    match options(OFlags::DIRECT) {
        // Some file systems make the file before they refuse.
        Err(refused) if refused.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            _ = std::fs::remove_file(path);
            options(OFlags::empty())
        }
        opened => opened,
    }
}

/// Writes an aligned piece; by the page cache if the file system wants another alignment than ours.
fn write_all(file: &mut File, mut piece: &[u8]) -> io::Result<()> {
    while !piece.is_empty() {
        match rustix::io::write(&*file, piece) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            // A short write may end anywhere; what is behind it is not aligned any more.
            Ok(written) if written % ALIGN != 0 => {
                by_cache(file)?;
                piece = &piece[written..];
            }
            Ok(written) => piece = &piece[written..],
            Err(Errno::INTR) => {}
            Err(Errno::INVAL) if is_direct(file)? => by_cache(file)?,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn is_direct(file: &File) -> io::Result<bool> {
    Ok(rustix::fs::fcntl_getfl(file)?.contains(OFlags::DIRECT))
}

fn by_cache(file: &File) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    Ok(rustix::fs::fcntl_setfl(file, flags.difference(OFlags::DIRECT))?)
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
