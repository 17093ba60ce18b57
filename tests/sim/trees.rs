//! What is backed up: small trees whose files come, change, go and come back.
//!
//! Contents are from a small pool that all writers share, so that a chunk is met again while it is condemned, or
//! after it was swept.

use std::collections::BTreeMap;

use kist::archive::tree::{ContentBuilder, NodeSink, TreeBuilder};
use kist::format::entry::{Attributes, Content, Entry, Extent, Kind, TreePath};
use kist::format::refs::ChunkRef;
use kist::repo::{Result, Writer};

use crate::draw::Draw;

/// Files by name.
pub type Tree = BTreeMap<String, Vec<u8>>;

/// Contents that there are.
const POOL: u64 = 24;
/// Names that there are.
const NAMES: u64 = 40;
const CHUNK_BYTES: usize = 1000;
/// Extents of a file that takes a tree of its own.
const LARGE_CHUNKS: usize = 140;

/// A tree to begin with.
pub fn sown(draw: &mut Draw) -> Tree {
    let mut tree = Tree::new();
    for _ in 0..4 + draw.below(12) {
        put(&mut tree, draw);
    }
    tree
}

/// Changes some files.
pub fn change(tree: &mut Tree, draw: &mut Draw) {
    for _ in 0..draw.below(6) {
        match tree.len() > 2 && draw.per_mille(500) {
            true => {
                let name = draw.pick(&tree.keys().cloned().collect::<Vec<_>>()).clone();
                tree.remove(&name);
            }
            false => put(tree, draw),
        }
    }
}

fn put(tree: &mut Tree, draw: &mut Draw) {
    let name = format!("file {:02}", draw.below(NAMES));
    tree.insert(name, content(draw.below(POOL)));
}

/// Bytes that don't compress; of each twelfth so many chunks that the file's extents need a tree.
fn content(number: u64) -> Vec<u8> {
    let mut out = match number % 12 {
        0 => {
            // Few different chunks, many times: it is the number that takes a tree.
            let piece = noise(CHUNK_BYTES, number);
            piece.repeat(LARGE_CHUNKS)
        }
        _ => noise(200 + (number as usize * 397) % 5000, number),
    };
    out.extend(number.to_le_bytes());
    out
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// Saves the next files of a tree. Blocks.
pub fn save(sink: &NodeSink<'_>, builder: &mut TreeBuilder, files: &[(String, Vec<u8>)]) -> Result<()> {
    for (name, bytes) in files {
        let content = save_content(sink, sink.writer, bytes)?;
        let path = TreePath::root().join(name.as_bytes()).expect("the name of a file");
        let kind = Kind::File { size: bytes.len() as u64, content, hash: None };
        builder.push(sink, Entry { path, attributes: Attributes::default(), kind })?;
    }
    Ok(())
}

fn save_content(sink: &NodeSink<'_>, writer: &Writer, bytes: &[u8]) -> Result<Content> {
    let mut content = ContentBuilder::new();
    for piece in bytes.chunks(CHUNK_BYTES) {
        let len = piece.len() as u32;
        let chunk = ChunkRef { id: writer.save_chunk(piece)?.id, len };
        content.push(sink, Extent::Data { chunk, offset: 0, len })?;
    }
    content.finish(sink)
}
