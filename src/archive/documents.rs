//! Trees of documents that are in memory, such as manifests: saved in bundles, and read back whole.
//!
//! Spec: chapter 6. A document is a file without attributes. One whose content the parent has under the same
//! path keeps its place, so that a second backup uploads what changed.

use std::collections::HashMap;
use std::sync::Arc;

use crate::archive::assemble::Assembler;
use crate::archive::backup::{Outcome, Read, Setting, Shared, Small};
use crate::archive::compare::{OldEntries, Parent};
use crate::archive::cursor::{Cursor, Extents};
use crate::archive::file::Segment;
use crate::archive::problem::{Problem, ProblemKind};
use crate::archive::witness::Witness;
use crate::format::entry::{Attributes, Content, Extent, Kind, TreePath};
use crate::format::refs::ChunkRef;
use crate::format::{self, limits};
use crate::repo::{Error, Result, TreeReader};

/// Chunks that are kept while a tree is read: documents that follow each other lie in the same ones.
const KEPT_CHUNKS: usize = 4;

/// Saves documents, which come in path order, each path once. Blocks; must not run on a thread of the runtime.
pub fn save(
    documents: Vec<(TreePath, Vec<u8>)>,
    parent: Option<Parent>,
    setting: Setting<'_>,
) -> Result<Outcome> {
    let mut old = OldEntries::new(parent, setting.writer.index().clone());
    let shared = Shared::new(setting);
    rayon::in_place_scope_fifo(|cpus| {
        let mut save = |chunk| shared.save(cpus, chunk);
        let mut assembler = Assembler::new(&shared, &mut save);
        for (path, data) in documents {
            if shared.is_ending() {
                break;
            }
            assembler.take(match is_too_long(data.len() as u64) {
                false => Read::Small(Box::new(document(setting, &mut old, path, data)?)),
                true => Read::Problem(Problem::found("saving", &path, ProblemKind::Limit, TOO_LONG)),
            })?;
        }
        assembler.finish(Witness::default().finish())
    })
}

const TOO_LONG: &str = "it is longer than an object of Kubernetes can be";

fn is_too_long(len: u64) -> bool {
    len > limits::DOCUMENT_LEN as u64
}

fn document(setting: Setting<'_>, old: &mut OldEntries, path: TreePath, data: Vec<u8>) -> Result<Small> {
    let hash = setting.ids.file_hash(&data);
    let known = match old.entry(&path)?.map(|entry| entry.kind) {
        Some(kind) if old.may_keep(&kind, data.len() as u64)? => match kind {
            Kind::File { content, hash: Some(same), .. } if same == hash => Some(content),
            _ => None,
        },
        _ => None,
    };
    let size = data.len() as u64;
    let segments = if size == 0 { Vec::new() } else { vec![Segment::Data { offset: 0, len: size }] };
    let named = Box::new((path, Attributes::default()));
    let data = if known.is_some() { Vec::new() } else { data };
    Ok(Small { named, size, segments, data, hash, known })
}

/// Reads all documents of a tree, in path order. Memory is as large as the documents.
pub async fn load(tree: &TreeReader) -> Result<Vec<(TreePath, Vec<u8>)>> {
    let mut cursor = Cursor::new(tree.clone());
    let mut kept = Kept { tree, chunks: HashMap::new(), order: Vec::new() };
    let mut documents = Vec::new();
    while let Some(entry) = cursor.next().await? {
        let Kind::File { size, content, .. } = &entry.kind else { continue };
        if is_too_long(*size) {
            let (key, found, most) =
                (format!("the document {}", entry.path), *size, limits::DOCUMENT_LEN as u64);
            let source = format::Error::TooMuch { what: "document", field: "size", found, most };
            return Err(Error::Object { key, source });
        }
        let data = kept.read(*size, content).await?;
        documents.push((entry.path, data));
    }
    Ok(documents)
}

struct Kept<'a> {
    tree: &'a TreeReader,
    chunks: HashMap<ChunkRef, Arc<Vec<u8>>>,
    order: Vec<ChunkRef>,
}

impl Kept<'_> {
    async fn read(&mut self, size: u64, content: &Content) -> Result<Vec<u8>> {
        let mut extents = Extents::of(self.tree.clone(), size, content);
        let mut data = Vec::new();
        while let Some(extent) = extents.next().await? {
            match extent {
                Extent::Hole { len } => data.resize(data.len() + len as usize, 0),
                Extent::Data { chunk, offset, len } => {
                    let plain = self.chunk(chunk).await?;
                    data.extend_from_slice(&plain[offset as usize..][..len as usize]);
                }
            }
        }
        Ok(data)
    }

    async fn chunk(&mut self, chunk: ChunkRef) -> Result<Arc<Vec<u8>>> {
        if let Some(plain) = self.chunks.get(&chunk) {
            return Ok(plain.clone());
        }
        let plain = Arc::new(self.tree.reader.chunk(chunk).await?);
        if self.order.len() == KEPT_CHUNKS {
            self.chunks.remove(&self.order.remove(0));
        }
        self.order.push(chunk);
        self.chunks.insert(chunk, plain.clone());
        Ok(plain)
    }
}
