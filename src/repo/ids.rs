//! The keys that make ids and cuts, for who has them: everyone but a maintainer.
//!
//! Spec: chapters 3 and 6. They open nothing. Whoever has them can tell whether content that it knows, or
//! guesses, is in the domain.

use crate::crypto::secret::Key;
use crate::crypto::{context, hash};
use crate::format::entry::TreePath;
use crate::format::id::{ChunkId, LinkGroup, NodeId, SourceId};
use crate::format::keys::{IdKeys, KeyName};
use crate::format::node::{NodeCut, NodeParts, node_id};
use crate::format::summary::Source;

/// What makes the ids and cuts of one domain.
#[derive(Clone)]
pub struct Ids {
    keys: IdKeys,
    chunk: Key,
    node: Key,
    file: Key,
}

impl Ids {
    pub(super) fn new(keys: IdKeys) -> Self {
        let from = |context| hash::derive(context, &keys.id, b"");
        Self {
            chunk: from(context::CHUNK_ID),
            node: from(context::NODE_ID),
            file: from(context::FILE_HASH),
            keys,
        }
    }

    pub(super) fn keys(&self) -> &IdKeys {
        &self.keys
    }

    pub fn chunk_id(&self, plain: &[u8]) -> ChunkId {
        ChunkId(hash::keyed(&self.chunk, &[plain]))
    }

    pub fn node_id(&self, key: &KeyName, parts: &NodeParts) -> NodeId {
        node_id(&self.node, key, parts)
    }

    /// The hash of a bundled file's whole content.
    pub fn file_hash(&self, content: &[u8]) -> [u8; 32] {
        hash::keyed(&self.file, &[content])
    }

    pub fn source_id(&self, source: &Source) -> SourceId {
        SourceId(self.half(context::SOURCE_ID, &source.canonical()))
    }

    /// Names the files that are one file with the one at `first`.
    pub fn link_group(&self, first: &TreePath) -> LinkGroup {
        LinkGroup(self.half(context::LINK_GROUP, first.sort_key()))
    }

    fn half(&self, context: &'static str, of: &[u8]) -> [u8; 16] {
        let key = hash::derive(context, &self.keys.id, b"");
        *hash::keyed(&key, &[of]).first_chunk().expect("a hash has 32 bytes")
    }

    /// The table that the chunker rolls with.
    pub fn gear_table(&self) -> [u64; 256] {
        hash::derive_words(context::GEAR, &self.keys.chunker)
    }

    pub fn node_cut(&self) -> NodeCut {
        NodeCut::new(hash::derive(context::NODE_CUT, &self.keys.chunker, b""))
    }
}
