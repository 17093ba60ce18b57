//! Reads one file that the walk found: the same one, though its path may be swapped meanwhile.
//!
//! Between walk and chunker. Holes are found by asking the file system, so they cost no reading.
//! Invariant: reading never waits for another process, follows no link, and does not change the time of
//! the last access where we may choose; a file that becomes shorter is an error, never filled with zeros.

use std::ffi::CString;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;

use rustix::fs::{Advice, FileType, OFlags, SeekFrom, Statx};
use rustix::io::Errno;

use crate::archive::folder::{self, FileId};
use crate::archive::problem::{Problem, ProblemKind};
use crate::archive::walk::{Found, FoundKind, file_time};
use crate::format::entry::{FileTime, TreePath};

/// Holes shorter than this between data are read as data: each would cost an extent, and no file system
/// in use has smaller blocks by default. A hole at the end is kept whatever its length, or the file would
/// take a block more.
pub const HOLE_MIN_BYTES: u64 = 4096;

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
    Ok(FileReader { fd, path: path.clone(), state: State::of(&stat) })
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
            match rustix::io::pread(&self.fd, &mut out[filled..], offset + filled as u64) {
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

    /// Tells the system to read ahead: worth it for long files.
    pub fn will_read_in_order(&self) {
        // Advice only: nothing is lost if it is not taken.
        _ = rustix::fs::fadvise(&self.fd, 0, None, Advice::Sequential);
    }

    /// Drops what was read from the page cache, which counts as our memory.
    pub fn forget_cached(&self, offset: u64, len: u64) {
        if let Some(len) = NonZeroU64::new(len) {
            _ = rustix::fs::fadvise(&self.fd, offset, Some(len), Advice::DontNeed);
        }
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
