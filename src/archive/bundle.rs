//! Bundles: the contents of small files, laid end to end in path order, cut as one stream.
//!
//! Spec: chapter 6. A file's place is known once the stream has been cut behind its end.

use std::collections::VecDeque;

use crate::archive::chunk::Chunker;
use crate::archive::pool::Awaited;
use crate::format::entry::Extent;
use crate::format::refs::ChunkRef;
use crate::repo::Result;

/// A chunk of the stream that is being saved, or is.
struct Cut {
    start: u64,
    len: usize,
    id: Id,
}

enum Id {
    Awaited(Awaited<Result<ChunkRef>>),
    Known(ChunkRef),
    /// Whoever saved it is gone.
    Gone,
}

/// The stream and its cuts, from the first one that a file still waits for.
pub struct Bundle {
    /// What is not cut yet begins at `from`: it is moved to the beginning only when there is no more room behind it.
    buffer: Vec<u8>,
    from: usize,
    /// Position in the stream of the first byte that is not cut yet.
    start: u64,
    cuts: VecDeque<Cut>,
}

/// A run of bytes of the stream.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    pub start: u64,
    pub len: u64,
}

impl Default for Bundle {
    fn default() -> Self {
        Self::new()
    }
}

impl Bundle {
    pub fn new() -> Self {
        Self { buffer: Vec::new(), from: 0, start: 0, cuts: VecDeque::new() }
    }

    /// Adds bytes; `save` takes each chunk that is now complete.
    pub fn add(
        &mut self,
        chunker: &Chunker,
        bytes: &[u8],
        save: &mut dyn FnMut(Vec<u8>) -> Awaited<Result<ChunkRef>>,
    ) -> Stretch {
        let start = self.start + self.uncut().len() as u64;
        if self.buffer.capacity() - self.buffer.len() < bytes.len() {
            self.buffer.drain(..self.from);
            self.from = 0;
            // Once: what is not cut is shorter than the longest chunk.
            self.buffer.reserve_exact((2 * chunker.max_bytes()).saturating_sub(self.buffer.len()));
        }
        self.buffer.extend_from_slice(bytes);
        while self.uncut().len() >= chunker.max_bytes() {
            self.cut(chunker, save);
        }
        Stretch { start, len: bytes.len() as u64 }
    }

    /// Cuts what is left, to the last byte.
    pub fn flush(&mut self, chunker: &Chunker, save: &mut dyn FnMut(Vec<u8>) -> Awaited<Result<ChunkRef>>) {
        while !self.uncut().is_empty() {
            self.cut(chunker, save);
        }
    }

    fn cut(&mut self, chunker: &Chunker, save: &mut dyn FnMut(Vec<u8>) -> Awaited<Result<ChunkRef>>) {
        let len = chunker.first_cut(self.uncut());
        let chunk = self.uncut()[..len].to_vec();
        self.from += len;
        self.cuts.push_back(Cut { start: self.start, len, id: Id::Awaited(save(chunk)) });
        self.start += len as u64;
    }

    fn uncut(&self) -> &[u8] {
        &self.buffer[self.from..]
    }

    pub fn is_cut_behind(&self, stretch: &Stretch) -> bool {
        stretch.start + stretch.len <= self.start
    }

    /// Whether the stream has been cut behind `stretch` and all of its chunks are saved.
    pub fn is_settled(&self, stretch: &Stretch) -> bool {
        let end = stretch.start + stretch.len;
        let settled = |cut: &Cut| match &cut.id {
            Id::Known(_) | Id::Gone => true,
            Id::Awaited(id) => id.is_set(),
        };
        self.is_cut_behind(stretch) && self.cuts.iter().take_while(|cut| cut.start < end).all(settled)
    }

    /// Where `stretch` lies; waits for its chunks. The stream must have been cut behind it.
    /// Stretches are settled in the order of the stream: what lies before is forgotten.
    /// None if the saving thread is gone.
    pub fn settle(&mut self, stretch: &Stretch) -> Result<Option<Vec<Extent>>> {
        let end = stretch.start + stretch.len;
        while self.cuts.front().is_some_and(|cut| cut.start + cut.len as u64 <= stretch.start) {
            self.cuts.pop_front();
        }
        let mut extents = Vec::new();
        for cut in &mut self.cuts {
            if cut.start >= end {
                break;
            }
            let Some(chunk) = cut.known()? else { return Ok(None) };
            let from = stretch.start.max(cut.start);
            let to = end.min(cut.start + cut.len as u64);
            extents.push(Extent::Data { chunk, offset: (from - cut.start) as u32, len: (to - from) as u32 });
        }
        Ok(Some(extents))
    }
}

impl Cut {
    fn known(&mut self) -> Result<Option<ChunkRef>> {
        let known = match std::mem::replace(&mut self.id, Id::Gone) {
            Id::Awaited(chunk) => chunk.wait().transpose()?,
            Id::Known(chunk) => Some(chunk),
            Id::Gone => None,
        };
        self.id = known.map_or(Id::Gone, Id::Known);
        Ok(known)
    }
}
