//! Large files: read piece by piece, cut by content, holes left out.
//!
//! Spec: chapter 6. The cut starts anew behind each hole. Memory is one buffer of two of the
//! longest chunks, and the extents that a node can hold, whatever the file's size.

use std::collections::VecDeque;

use crate::archive::backup::{LargeRead, Shared, TRIES};
use crate::archive::file::{self, FileReader, Segment};
use crate::archive::pool::Awaited;
use crate::archive::problem::{Problem, ProblemKind};
use crate::archive::tree::ContentBuilder;
use crate::archive::walk::Found;
use crate::format::entry::Extent;
use crate::format::refs::ChunkRef;
use crate::repo::{Error, Result};

/// Chunks of one file that may be on their way at a time.
const AHEAD: usize = 16;

type Save<'a> = &'a dyn Fn(Vec<u8>) -> Awaited<Result<ChunkRef>>;

/// Saves a file's content. The outer error is the file's, the inner one the repository's. A file that becomes
/// shorter meanwhile is read anew.
pub fn read(shared: &Shared<'_>, found: &Found, save: Save<'_>) -> Result<LargeRead, Problem> {
    for _ in 1..TRIES {
        match read_once(shared, found, save) {
            Err(Problem { kind: ProblemKind::Changed, doing: "reading", .. }) => {}
            read => return read,
        }
    }
    read_once(shared, found, save)
}

fn read_once(shared: &Shared<'_>, found: &Found, save: Save<'_>) -> Result<LargeRead, Problem> {
    let reader = file::open(found)?;
    reader.will_read_in_order();
    let mut content = Cutting { shared, save, builder: ContentBuilder::new(), ahead: VecDeque::new() };
    for segment in reader.segments() {
        let taken = match segment? {
            Segment::Hole { len, .. } => content.hole(len),
            Segment::Data { offset, len } => content.data(&reader, offset, len)?,
        };
        if let Err(error) = taken {
            return Ok(Err(error));
        }
    }
    if reader.changed_since_open() {
        shared.moved(&found.path)?;
    }
    Ok(content.finish().map(|content| (reader.size(), content)))
}

struct Cutting<'a> {
    shared: &'a Shared<'a>,
    save: Save<'a>,
    builder: ContentBuilder,
    ahead: VecDeque<Next>,
}

enum Next {
    Hole(u64),
    Chunk(Awaited<Result<ChunkRef>>),
}

impl Cutting<'_> {
    fn hole(&mut self, len: u64) -> Result<()> {
        self.ahead.push_back(Next::Hole(len));
        self.settle(AHEAD)
    }

    /// Reads and cuts one run of data.
    fn data(&mut self, reader: &FileReader, offset: u64, len: u64) -> Result<Result<()>, Problem> {
        let chunker = self.shared.chunker;
        let longest = chunker.max_bytes();
        let mut buffer = vec![0; (2 * longest).min(usize::try_from(len).unwrap_or(usize::MAX))];
        let (mut filled, mut start) = (0, 0);
        let (mut at, end) = (offset, offset + len);
        loop {
            if filled - start < longest && at < end {
                buffer.copy_within(start..filled, 0);
                filled -= start;
                start = 0;
                let room = ((buffer.len() - filled) as u64).min(end - at) as usize;
                self.shared.progress.will_read(room as u64);
                reader.read_at(at, &mut buffer[filled..filled + room])?;
                at += room as u64;
                filled += room;
            }
            if start == filled {
                return Ok(Ok(()));
            }
            if self.shared.is_ending() {
                return Ok(Ok(()));
            }
            let cut = chunker.first_cut(&buffer[start..filled]);
            let chunk = buffer[start..start + cut].to_vec();
            start += cut;
            self.ahead.push_back(Next::Chunk((self.save)(chunk)));
            if let Err(error) = self.settle(AHEAD) {
                return Ok(Err(error));
            }
        }
    }

    /// Takes the oldest results until no more than `most` are still to come.
    fn settle(&mut self, most: usize) -> Result<()> {
        while self.ahead.len() > most {
            let extent = match self.ahead.pop_front() {
                Some(Next::Hole(len)) => Extent::Hole { len },
                Some(Next::Chunk(saved)) => {
                    let chunk = saved.wait().unwrap_or(Err(Error::Abandoned))?;
                    Extent::Data { chunk, offset: 0, len: chunk.len }
                }
                None => break,
            };
            self.builder.push(&self.shared.sink(), extent)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<crate::format::entry::Content> {
        self.settle(0)?;
        self.builder.finish(&self.shared.sink())
    }
}
