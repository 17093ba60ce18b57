//! What a node refers to, and how its items use it: by number, in the order of first use.
//!
//! Spec: chapter 6.

use std::collections::HashMap;

use crate::format::codec::{Reader, Writer};
use crate::format::id::{ChunkId, NodeId};
use crate::format::{Error, limits};

/// The ids that a node refers to: each once, in the order of first use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refs {
    pub chunks: Vec<ChunkId>,
    pub nodes: Vec<NodeId>,
}

/// A chunk as an extent refers to it. Who has no key to open it learns its length here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkRef {
    pub id: ChunkId,
    /// Bytes of the whole chunk: 1 to [`limits::CHUNK_LEN`].
    pub len: u32,
}

/// Gives out indexes into [`Refs`] while encoding.
#[derive(Default)]
pub(super) struct RefsWriter {
    pub refs: Refs,
    chunks: HashMap<ChunkId, u64>,
}

impl RefsWriter {
    /// Writes the chunk's number, and its length if the node has not said it yet.
    pub fn chunk(&mut self, out: &mut Writer, chunk: ChunkRef) {
        match self.chunks.get(&chunk.id) {
            Some(number) => out.varint(*number),
            None => {
                let number = self.refs.chunks.len() as u64;
                self.chunks.insert(chunk.id, number);
                self.refs.chunks.push(chunk.id);
                out.varint(number);
                out.varint(chunk.len.into());
            }
        }
    }

    pub fn node(&mut self, id: NodeId) {
        self.refs.nodes.push(id);
    }
}

/// Hands out refs while decoding, and holds that each is used, in the order of first use.
pub(super) struct RefsReader<'a> {
    refs: &'a Refs,
    /// Lengths of the chunks that were used.
    lens: Vec<u32>,
    nodes_used: usize,
}

impl<'a> RefsReader<'a> {
    pub fn new(refs: &'a Refs) -> Self {
        Self { refs, lens: Vec::new(), nodes_used: 0 }
    }

    pub fn chunk(&mut self, input: &mut Reader<'_>) -> Result<ChunkRef, Error> {
        let number = input.varint()?;
        let id = usize::try_from(number).ok().and_then(|number| self.refs.chunks.get(number));
        let (Some(id), true) = (id, number <= self.lens.len() as u64) else {
            return Err(input.invalid("chunk reference", number));
        };
        if number == self.lens.len() as u64 {
            match input.varint()? {
                len @ 1..=CHUNK_LEN => self.lens.push(len as u32),
                len => return Err(input.invalid("chunk length", len)),
            }
        }
        Ok(ChunkRef { id: *id, len: self.lens[number as usize] })
    }

    pub fn node(&mut self, input: &Reader<'_>) -> Result<NodeId, Error> {
        let id =
            self.refs.nodes.get(self.nodes_used).ok_or_else(|| input.invalid("node reference", "missing"))?;
        self.nodes_used += 1;
        Ok(*id)
    }

    pub fn end(&self, input: &Reader<'_>) -> Result<(), Error> {
        match self.lens.len() == self.refs.chunks.len() && self.nodes_used == self.refs.nodes.len() {
            true => Ok(()),
            false => Err(input.invalid("references", "some are not used")),
        }
    }
}

const CHUNK_LEN: u64 = limits::CHUNK_LEN as u64;
