//! Every bound on what is read from outside, in one place.
//!
//! Spec: chapter 1. A writer keeps within them, a reader refuses what goes beyond.

/// A whole path, components and the bytes between them.
pub const PATH_LEN: usize = 64 * 1024;
/// One file name, in bytes.
pub const NAME_LEN: usize = 255;
/// A symlink's target, in bytes.
pub const LINK_TARGET_LEN: usize = 4096;
/// Extended attributes of one entry.
pub const XATTRS: usize = 1024;
/// Name of an extended attribute, in bytes.
pub const XATTR_NAME_LEN: usize = 255;
/// Value of an extended attribute, in bytes.
pub const XATTR_VALUE_LEN: usize = 64 * 1024;
/// All extended attributes of an entry together, in bytes.
pub const XATTRS_LEN: usize = 512 * 1024;
/// A Kubernetes object as JSON, in bytes. What serves them takes 3 MiB, and may be told to take a few times that.
pub const DOCUMENT_LEN: usize = 64 * 1024 * 1024;
/// Extents that an entry holds itself; more go to a tree of extents.
pub const INLINE_EXTENTS: usize = 128;
/// One part of a node before compression, in bytes.
pub const NODE_PART_LEN: usize = 4 * 1024 * 1024;
/// Levels of a tree, leaves included.
pub const TREE_LEVELS: u8 = 16;
/// A chunk before compression, in bytes.
pub const CHUNK_LEN: usize = 16 * 1024 * 1024;
/// A whole pack, in bytes.
pub const PACK_LEN: usize = 64 * 1024 * 1024;
/// Records in a pack.
pub const PACK_RECORDS: usize = 256 * 1024;
/// Packs in an index delta.
pub const INDEX_PACKS: usize = 4096;
/// Records in an index delta.
pub const INDEX_RECORDS: usize = 512 * 1024;
/// An index delta as stored, in bytes.
pub const INDEX_LEN: usize = 40 * 1024 * 1024;
/// `config` as stored, in bytes.
pub const CONFIG_LEN: usize = 64 * 1024;
/// A key slot as stored, in bytes.
pub const SLOT_LEN: usize = 256 * 1024;
/// Recipients that a lane's key is wrapped to.
pub const RECIPIENTS: usize = 64;
/// Epochs of the owner's recipient, the first included.
pub const EPOCHS: usize = 64;
/// Lanes of a session.
pub const LANES: usize = 16 * 1024;
/// A session as stored, in bytes.
pub const SESSION_LEN: usize = 64 * 1024 * 1024;
/// A commit as stored, in bytes.
pub const COMMIT_LEN: usize = 32 * 1024 * 1024;
/// Roots of a commit: the manifests and one for each volume.
pub const ROOTS: usize = 64 * 1024;
/// The summary of a commit, in bytes.
pub const SUMMARY_LEN: usize = 16 * 1024 * 1024;
/// Chunks that a summary lists as little used, of one root; …
pub const SPARSE_CHUNKS: usize = 1024;
/// … and of all roots together.
pub const ALL_SPARSE_CHUNKS: usize = 64 * 1024;
/// A retention class, in bytes.
pub const CLASS_LEN: usize = 64;
/// Ids in an entry of the gc log.
pub const LOG_IDS: usize = 1024 * 1024;
/// Packs in an entry of the gc log that says that they were read.
pub const LOG_VERIFIED: usize = 256 * 1024;
/// The note of a hold, in bytes.
pub const NOTE_LEN: usize = 256;
/// An entry of the gc log as stored, in bytes.
pub const LOG_LEN: usize = 20 * 1024 * 1024;
/// Parts of a checkpoint's state, and parts of its index.
pub const CHECKPOINT_PARTS: usize = 64 * 1024;
/// A checkpoint as stored, without its parts, in bytes.
pub const CHECKPOINT_LEN: usize = 8 * 1024 * 1024;
/// Things of one sort in the state of a checkpoint.
pub const STATE_ROWS: usize = 256 * 1024 * 1024;
/// Ranges of what was read, in each list of a check's state.
pub const CHECK_RANGES: usize = 4096;
/// A check's state as stored, in bytes.
pub const CHECKS_LEN: usize = 256 * 1024;
/// Sessions whose lane keys the records of one pack are sealed with.
pub const PACK_SESSIONS: usize = 4096;
/// The name of a key, in bytes of UTF-8.
pub const KEY_NAME_LEN: usize = 64;
/// The name of a domain, in bytes of ASCII.
pub const DOMAIN_NAME_LEN: usize = 64;
/// A key in the store, in bytes.
pub const STORE_KEY_LEN: usize = 512;
/// A frame of a link, in bytes.
pub const FRAME_LEN: usize = 32 * 1024;
/// Numbered frames that are sent and not acknowledged: 4 MiB under way.
pub const FRAME_WINDOW: u64 = 128;
/// A message's body, in bytes: a whole pack, and 64 KiB of what is said about it.
pub const MESSAGE_LEN: usize = 1025 * 64 * 1024;
/// Objects in a page of a listing: at most about 4 MiB.
pub const RELAY_PAGE: usize = 8192;
/// The text of a failed store request, in bytes.
pub const RELAY_TEXT_LEN: usize = 4096;
