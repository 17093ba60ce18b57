//! Names of things: typed ids, so that one can't be taken for another.
//!
//! Spec: chapter 1. Chunk and node ids are keyed hashes; repository, session, pack, key
//! and slot ids are random; source and domain ids are keyed hashes cut to 16 bytes.

use crate::format::Error;
use crate::format::codec::Reader;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            pub const LEN: usize = $len;

            pub fn read(input: &mut Reader<'_>) -> Result<Self, Error> {
                Ok(Self(input.array()?))
            }

            /// Parses the lower-case hex form; nothing else.
            pub fn parse(text: &str) -> Option<Self> {
                Some(Self(unhex(text)?.try_into().ok()?))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), hex(&self.0))
            }
        }
    };
}

id!(
    /// A chunk: keyed hash of its plaintext.
    ChunkId, 32);
id!(
    /// A node of a tree: keyed hash of its two parts and of the key its entries are sealed with.
    NodeId, 32);
id!(
    /// A pack: random, never used twice.
    PackId, 16);
id!(
    /// A repository: random, in `config`.
    RepoId, 16);
id!(
    /// A key, as its certificate names it: random; zeros for the owner. Also the scope of the meta keys that
    /// its holder makes. It stays when the key is rotated.
    KeyId, 16);
id!(
    /// A slot: random. A rotated key gets another.
    SlotId, 16);
id!(
    /// A domain: drawn from its name with the owner's root; zeros for the default one.
    DomainId, 16);
id!(
    /// What a snapshot is of: keyed hash of its description. Opaque without the id key.
    SourceId, 16);
id!(
    /// Files of one snapshot that are one file: keyed hash of the first one's path.
    LinkGroup, 16);
id!(
    /// The first half of a chunk's id: enough to know it again where nothing depends on it.
    ChunkPrefix, 16);
id!(
    /// A session and the snapshot that it commits: four bytes of epoch, twelve random.
    SessionId, 16);

impl ChunkId {
    pub fn prefix(self) -> ChunkPrefix {
        ChunkPrefix(*self.0.first_chunk().expect("an id has 32 bytes"))
    }
}

impl serde::Serialize for ChunkPrefix {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ChunkPrefix {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not 32 hex digits"))
    }
}

impl DomainId {
    /// The domain that every repository has.
    pub const DEFAULT: DomainId = DomainId([0; 16]);
}

impl KeyId {
    /// The owner's.
    pub const OWNER: KeyId = KeyId([0; 16]);
}

impl SessionId {
    pub fn new(epoch: u32, random: [u8; 12]) -> Self {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&epoch.to_be_bytes());
        id[4..].copy_from_slice(&random);
        Self(id)
    }

    pub fn epoch(self) -> u32 {
        u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]])
    }

    /// The name that people see and type: the random part in hex.
    pub fn snapshot_name(self) -> String {
        hex(&self.0[4..])
    }
}

/// The id of a record: what is in it, typed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RecordId {
    Chunk(ChunkId),
    Node(NodeId),
}

impl RecordId {
    pub const CHUNK: u8 = 1;
    pub const NODE: u8 = 2;

    pub fn kind(&self) -> u8 {
        match self {
            RecordId::Chunk(_) => Self::CHUNK,
            RecordId::Node(_) => Self::NODE,
        }
    }

    pub fn bytes(&self) -> &[u8; 32] {
        match self {
            RecordId::Chunk(id) => &id.0,
            RecordId::Node(id) => &id.0,
        }
    }

    pub fn new(kind: u8, bytes: [u8; 32]) -> Option<Self> {
        match kind {
            Self::CHUNK => Some(RecordId::Chunk(ChunkId(bytes))),
            Self::NODE => Some(RecordId::Node(NodeId(bytes))),
            _ => None,
        }
    }

    pub fn read(input: &mut Reader<'_>) -> Result<Self, Error> {
        let kind = input.u8()?;
        let bytes = input.array()?;
        Self::new(kind, bytes).ok_or_else(|| input.invalid("record kind", kind))
    }
}

impl std::fmt::Display for RecordId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RecordId::Chunk(id) => write!(f, "chunk {id}"),
            RecordId::Node(id) => write!(f, "node {id}"),
        }
    }
}

pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Lower-case hex only: one text for each value.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_and_parse_as_lower_case_hex_only() {
        let id = PackId([0xab; 16]);
        assert_eq!(PackId::parse(&id.to_string()), Some(id));
        assert_eq!(PackId::parse(&id.to_string().to_uppercase()), None);
        assert_eq!(PackId::parse("ab"), None);
    }

    #[test]
    fn session_ids_sort_by_epoch() {
        assert!(SessionId::new(1, [0xff; 12]) < SessionId::new(2, [0; 12]));
        assert_eq!(SessionId::new(7, [1; 12]).epoch(), 7);
    }
}
