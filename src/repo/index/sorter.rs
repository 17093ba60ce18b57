//! Sorts rows of a fixed length, more of them than memory holds: sorted runs go to a scratch file and are merged.
//!
//! Without scratch all rows stay in the heap. Rows are compared as bytes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::repo::index::bytes::Scratch;

/// What is held before it is spilled.
pub const HELD_BYTES: usize = 8 * 1024 * 1024;
/// What is read of a run at a time.
const READ_BYTES: usize = 64 * 1024;

pub struct Sorter<const N: usize> {
    scratch: Option<Scratch>,
    held_bytes: usize,
    held: Vec<[u8; N]>,
    runs: Vec<Range<u64>>,
    file: Option<File>,
}

impl<const N: usize> Sorter<N> {
    pub fn new(scratch: Option<Scratch>, held_bytes: usize) -> Self {
        Self { scratch, held_bytes, held: Vec::new(), runs: Vec::new(), file: None }
    }

    pub fn push(&mut self, row: [u8; N]) -> io::Result<()> {
        if self.held.len() * N >= self.held_bytes {
            self.spill()?;
        }
        self.held.push(row);
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        let Some(scratch) = &self.scratch else { return Ok(()) };
        self.held.sort_unstable();
        let mut file = match self.file.take() {
            Some(file) => file,
            None => scratch.file()?,
        };
        file.write_all(self.held.as_flattened())?;
        self.file = Some(file);
        let start = self.runs.last().map_or(0, |run| run.end);
        self.runs.push(start..start + (self.held.len() * N) as u64);
        self.held.clear();
        Ok(())
    }

    /// All rows, in order.
    pub fn finish(mut self) -> io::Result<Merged<N>> {
        self.held.sort_unstable();
        let mut merged = Merged { file: self.file, runs: Vec::new(), next: BinaryHeap::new() };
        let held = Run { rest: 0..0, read: self.held, at: 0 };
        let spilled = self.runs.into_iter().map(|rest| Run { rest, read: Vec::new(), at: 0 });
        for mut run in spilled.chain([held]) {
            if let Some(row) = run.next(merged.file.as_ref())? {
                merged.next.push(Reverse((row, merged.runs.len())));
                merged.runs.push(run);
            }
        }
        Ok(merged)
    }
}

struct Run<const N: usize> {
    /// Where in the file lies what has not been read.
    rest: Range<u64>,
    read: Vec<[u8; N]>,
    at: usize,
}

impl<const N: usize> Run<N> {
    fn next(&mut self, file: Option<&File>) -> io::Result<Option<[u8; N]>> {
        if self.at == self.read.len() {
            let rows = (((self.rest.end - self.rest.start) / N as u64) as usize).min(READ_BYTES / N);
            self.read.resize(rows, [0; N]);
            if let Some(file) = file {
                file.read_exact_at(self.read.as_flattened_mut(), self.rest.start)?;
            }
            self.rest.start += (rows * N) as u64;
            self.at = 0;
        }
        let row = self.read.get(self.at).copied();
        self.at += 1;
        Ok(row)
    }
}

pub struct Merged<const N: usize> {
    file: Option<File>,
    runs: Vec<Run<N>>,
    /// The next row of each run that has one.
    next: BinaryHeap<Reverse<([u8; N], usize)>>,
}

impl<const N: usize> Merged<N> {
    pub fn next(&mut self) -> io::Result<Option<[u8; N]>> {
        let Some(mut first) = self.next.peek_mut() else { return Ok(None) };
        let Reverse((row, run)) = *first;
        match self.runs[run].next(self.file.as_ref())? {
            Some(after) => *first = Reverse((after, run)),
            None => drop(PeekMut::pop(first)),
        }
        Ok(Some(row))
    }
}
