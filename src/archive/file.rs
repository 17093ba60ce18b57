//! Reads one file that the walk found: the same one, though its path may be swapped meanwhile.
//!
//! Between walk and chunker. Holes are found by asking the file system, so they cost no reading.
//! The page cache is the node's: what was in it before a file was read is in it afterwards, and nothing else of the
//! file. A database beside us keeps its working set, and what we read does not count as our memory. On kernels before
//! 6.14 that is told by a quarter of a megabyte: where one page of it is missing, all of it goes.
//! Invariant: reading never waits for another process, follows no link, and does not change the time of
//! the last access where we may choose; a file that becomes shorter is an error, never filled with zeros.

use std::ffi::CString;
use std::io::IoSliceMut;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, FileType, OFlags, SeekFrom, Statx};
use rustix::io::{Errno, ReadWriteFlags};

use crate::archive::folder::{self, FileId};
use crate::archive::problem::{Problem, ProblemKind};
use crate::archive::walk::{Found, FoundKind, file_time};
use crate::format::entry::{FileTime, TreePath};

/// Holes shorter than this between data are read as data: each would cost an extent, and no file system
/// in use has smaller blocks by default. A hole at the end is kept whatever its length, or the file would
/// take a block more.
pub const HOLE_MIN_BYTES: u64 = 4096;

/// `RWF_DONTCACHE` (Linux 6.14): what a read has brought into the page cache goes again.
const DONT_CACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);
/// Where the kernel does not know that, so much is asked for at a time.
const PROBE_BYTES: usize = 256 * 1024;

/// A run of a file, as the file system stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    Data { offset: u64, len: u64 },
    Hole { offset: u64, len: u64 },
}

impl Segment {
    /// Bytes that have to be read for it.
    pub fn data_len(&self) -> u64 {
        match self {
            Segment::Data { len, .. } => *len,
            Segment::Hole { .. } => 0,
        }
    }
}

/// An open file, and what it was when it was opened.
#[derive(Debug)]
pub struct FileReader {
    fd: OwnedFd,
    path: TreePath,
    state: State,
    /// The kernel can't keep what we read out of the page cache, so we do.
    probes: AtomicBool,
}

/// What of a file changes when its content does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    size: u64,
    mtime: FileTime,
    ctime: FileTime,
}

impl State {
    fn of(stat: &Statx) -> Self {
        let (mtime, ctime) = (file_time(stat.stx_mtime), file_time(stat.stx_ctime));
        Self { size: stat.stx_size, mtime, ctime }
    }
}

/// Opens a file that was found. Refuses what is no longer that file.
pub fn open(found: &Found) -> Result<FileReader, Problem> {
    let path = &found.path;
    let cannot = |errno| Problem::system("opening", path, errno);
    let changed = |what| Problem::found("opening", path, ProblemKind::Changed, what);
    if !matches!(found.kind, FoundKind::File { .. }) {
        return Err(changed("it is not a regular file"));
    }
    let folder = found.folder.as_ref().ok_or_else(|| changed("its folder was closed"))?;
    let name = CString::new(path.name()).expect("a path has no NUL in its names");
    let fd =
        folder::open_quietly(folder, name.as_c_str(), OFlags::NOFOLLOW | OFlags::NOCTTY).map_err(cannot)?;
    let stat = folder::stat_open(&fd).map_err(cannot)?;
    if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::RegularFile || FileId::of(&stat) != found.id
    {
        return Err(changed("it was replaced meanwhile"));
    }
    Ok(FileReader { fd, path: path.clone(), state: State::of(&stat), probes: AtomicBool::new(false) })
}

impl FileReader {
    /// The size when it was opened. May differ from what the walk saw.
    pub fn size(&self) -> u64 {
        self.state.size
    }

    pub fn mtime(&self) -> FileTime {
        self.state.mtime
    }

    pub fn ctime(&self) -> FileTime {
        self.state.ctime
    }

    /// Data and holes in turn, from 0 up to the size when it was opened, without gaps.
    pub fn segments(&self) -> Segments<'_> {
        Segments { reader: self, offset: 0, done: false }
    }

    /// Fills all of `out` from `offset` on.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), Problem> {
        let mut filled = 0;
        while filled < out.len() {
            match self.read_some(offset + filled as u64, &mut out[filled..]) {
                Ok(0) => return Err(self.shrank(offset + filled as u64)),
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.cannot(errno)),
            }
        }
        Ok(())
    }

    /// Whether size or times are other than when it was opened; also if that can't be told.
    pub fn changed_since_open(&self) -> bool {
        folder::stat_open(&self.fd).map(|stat| State::of(&stat)) != Ok(self.state)
    }

    fn read_some(&self, offset: u64, out: &mut [u8]) -> Result<usize, Errno> {
        let read =
            |out: &mut [u8], flags| rustix::io::preadv2(&self.fd, &mut [IoSliceMut::new(out)], offset, flags);
        if !self.probes.load(Ordering::Relaxed) {
            match read(out, DONT_CACHE) {
                Ok(count) => return Ok(count),
                Err(Errno::INTR) => return Err(Errno::INTR),
                // The kernel, the file system or a filter of system calls does not know it; what else may be wrong with the
                // file the plain read tells.
                Err(_) => self.probe(),
            }
        }
        let most = out.len().min(PROBE_BYTES);
        // What is there already is had without waiting, and stays.
        match read(&mut out[..most], ReadWriteFlags::NOWAIT) {
            Ok(count) if count > 0 => Ok(count),
            _ => {
                let count = rustix::io::pread(&self.fd, &mut out[..most], offset)?;
                if let Some(len) = NonZeroU64::new(count as u64) {
                    // Advice only.
                    _ = rustix::fs::fadvise(&self.fd, offset, Some(len), Advice::DontNeed);
                }
                Ok(count)
            }
        }
    }

    /// From now on we look what is in the page cache. What the kernel reads ahead would look as if it had been there.
    fn probe(&self) {
        _ = rustix::fs::fadvise(&self.fd, 0, None, Advice::Random);
        self.probes.store(true, Ordering::Relaxed);
    }

    /// Tells the system to read ahead: worth it for long files.
    pub fn will_read_in_order(&self) {
        // Advice only: nothing is lost if it is not taken.
        _ = rustix::fs::fadvise(&self.fd, 0, None, Advice::Sequential);
    }

    fn cannot(&self, errno: Errno) -> Problem {
        Problem::system("reading", &self.path, errno)
    }

    fn shrank(&self, to: u64) -> Problem {
        let what = format!("it shrank from {} to {to} bytes", self.state.size);
        Problem::found("reading", &self.path, ProblemKind::Changed, what)
    }

    /// The start of the next data at or after `offset`; the size if there is none.
    fn next_data(&self, offset: u64) -> Result<u64, Problem> {
        match rustix::fs::seek(&self.fd, SeekFrom::Data(offset)) {
            Ok(at) => Ok(at.min(self.state.size)),
            // Either a hole up to the end, or the file ends before `offset` by now.
            Err(Errno::NXIO) => match folder::stat_open(&self.fd).map_err(|errno| self.cannot(errno))? {
                stat if stat.stx_size < self.state.size => Err(self.shrank(stat.stx_size)),
                _ => Ok(self.state.size),
            },
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(offset),
            Err(errno) => Err(self.cannot(errno)),
        }
    }

    /// The start of the next hole after data at `offset`; the size if there is none.
    fn next_hole(&self, offset: u64) -> Result<u64, Problem> {
        match rustix::fs::seek(&self.fd, SeekFrom::Hole(offset)) {
            Ok(at) => Ok(at.min(self.state.size)),
            Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => Ok(self.state.size),
            Err(errno) => Err(self.cannot(errno)),
        }
    }
}

/// Goes through a file's [`Segment`]s. Ends after the first error.
pub struct Segments<'a> {
    reader: &'a FileReader,
    offset: u64,
    done: bool,
}

impl Segments<'_> {
    fn step(&mut self) -> Result<Option<Segment>, Problem> {
        let (offset, size) = (self.offset, self.reader.state.size);
        if offset >= size {
            return Ok(None);
        }
        let data = self.reader.next_data(offset)?;
        if data >= size || data - offset >= HOLE_MIN_BYTES {
            self.offset = data;
            return Ok(Some(Segment::Hole { offset, len: data - offset }));
        }
        let mut end = self.reader.next_hole(data)?;
        while end < size {
            let data = self.reader.next_data(end)?;
            if data >= size || data - end >= HOLE_MIN_BYTES {
                break;
            }
            end = self.reader.next_hole(data)?.max(data + 1);
        }
        self.offset = end.max(offset + 1);
        Ok(Some(Segment::Data { offset, len: self.offset - offset }))
    }
}

impl Iterator for Segments<'_> {
    type Item = Result<Segment, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let step = self.step().transpose();
        self.done = !matches!(step, Some(Ok(_)));
        step
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::archive::exclude::Exclude;
    use crate::archive::walk::{Options, Step, Walk};
    use crate::format::id::LinkGroup;
    use crate::world::Time;

    const LEN: usize = 4 * 1024 * 1024;
    const HALF: usize = LEN / 2;

    /// How much of a file is in the page cache. To read it and see would bring it in.
    fn cached(path: &Path) -> usize {
        let done = Command::new("fincore").args(["-n", "-b", "-o", "RES"]).arg(path).output().unwrap();
        String::from_utf8(done.stdout).unwrap().trim().parse().unwrap()
    }

    #[test]
    fn the_page_cache_has_the_same_of_a_file_before_and_after_it_was_read() {
        // Beside the code: what is below the system's temporary folder may lie in memory.
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, vec![7; LEN]).unwrap();
        let exclude = Exclude::default();
        let options = Options {
            exclude: &exclude,
            one_file_system: false,
            exclude_caches: false,
            link_group: &|_| LinkGroup([0; 16]),
            clock: &|| Time(0),
        };
        let found = Walk::of_folder(dir.path(), options).unwrap().find_map(|step| match step {
            Step::Found(found) if matches!(found.kind, FoundKind::File { .. }) => Some(found),
            _ => None,
        });
        let (found, file) = (found.unwrap(), File::open(&path).unwrap());
        for probes in [false, true] {
            file.sync_all().unwrap();
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
            rustix::fs::fadvise(&file, 0, None, Advice::Random).unwrap();
            file.read_exact_at(&mut vec![0; HALF], 0).unwrap();
            assert_eq!(cached(&path), HALF);
            let reader = open(&found).unwrap();
            reader.will_read_in_order();
            if probes {
                reader.probe();
            }
            let mut out = vec![0; LEN];
            reader.read_at(0, &mut out).unwrap();
            assert!(out.iter().all(|&byte| byte == 7));
            assert_eq!(cached(&path), HALF, "probing: {probes}");
        }
    }
}
