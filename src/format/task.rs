//! What a job tells a mover to do, and what the mover tells of it: JSON in the messages of chapter 10.
//!
//! Job and mover may be of different versions: a reader passes over fields that it does not know, and
//! refuses another `version`. A task is secret: it holds keys and credentials, and nothing shows it.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::crypto::secret::Key;
use crate::format::codec::{Reader, Writer};
use crate::format::id::{ChunkPrefix, NodeId, SessionId, SourceId, hex, unhex};
use crate::format::keys::{Certificate, KeyName};
use crate::format::summary::{Counts, Missing};
use crate::format::{Error, limits};

/// The version of task and report.
pub const VERSION: u32 = 0;

const TASK: &str = "task";
const REPORT: &str = "report";

/// Bytes that are written in hex.
#[derive(Clone, PartialEq, Eq)]
pub struct Hex<T>(pub T);

/// Text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub Zeroizing<String>);

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    pub version: u32,
    /// `config` as stored.
    pub config: Hex<Vec<u8>>,
    /// How the store can be reached without the job; tried first.
    #[serde(default)]
    pub direct: Option<Direct>,
    pub keys: Keys,
    pub work: Work,
}

/// A store at a URL, with what opens it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Direct {
    pub url: String,
    pub access_key_id: Hidden,
    pub secret_access_key: Hidden,
    #[serde(default)]
    pub session_token: Option<Hidden>,
    #[serde(default)]
    pub region: Option<String>,
    /// Authorities to trust, as PEM.
    #[serde(default)]
    pub authorities: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Keys {
    pub certificate: Hex<Certificate>,
    pub structure: Hex<Key>,
    pub id: Hex<Key>,
    pub chunker: Hex<Key>,
    /// Of the volume's entries.
    pub meta_name: Hex<KeyName>,
    pub meta: Hex<Key>,
}

/// The lane that a backup writes in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lane {
    pub session: Hex<SessionId>,
    pub number: u32,
    pub data: Hex<Key>,
    pub signing: Hex<Key>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Work {
    /// Reads the folder `path` into the repository.
    Backup {
        path: String,
        source: Hex<SourceId>,
        parent: Option<Hex<NodeId>>,
        /// Chunks whose files are bundled anew, as the parent's snapshot lists them.
        #[serde(default)]
        sparse: Vec<ChunkPrefix>,
        lane: Lane,
    },
    /// Writes a tree into the folder `path`, which has to be empty.
    Restore {
        path: String,
        root: Hex<NodeId>,
        /// Goes on where another mover stopped: what is there already and looks the same is kept.
        #[serde(default)]
        resume: bool,
    },
}

/// The way that the bytes took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// The mover spoke to the store itself.
    Direct,
    /// Through the job.
    Relay,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub version: u32,
    pub transport: Transport,
    /// Why that way.
    pub why: String,
    pub done: Done,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Done {
    Backup(BackedUp),
    Restore(Restored),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackedUp {
    pub root: Hex<NodeId>,
    pub counts: Counts,
    pub missing: Vec<Missing>,
    pub more_missing: u64,
    /// As in the summary of a snapshot.
    #[serde(default)]
    pub sparse: Vec<ChunkPrefix>,
    /// What changed while it was read; none if nothing did.
    pub changed: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    pub files: u64,
    pub bytes: u64,
    /// What can't be had from the repository.
    pub lost: Vec<Missing>,
    pub more_lost: u64,
    /// What could not be written, or not with all of its attributes.
    pub problems: Vec<Missing>,
    pub more_problems: u64,
    /// How many of the problems are things that are not there at all.
    #[serde(default)]
    pub unwritten: u64,
    /// Attributes of the volume's own folder, which belongs to who made the volume.
    pub remarks: Vec<Missing>,
}

/// Why a mover's work ended early.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub class: FailureClass,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureClass {
    Interrupted,
    Full,
    Denied,
    Transient,
    Damaged,
    Other,
}

/// How far a mover is, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Progress {
    pub entries: u64,
    pub bytes: u64,
    pub pack_bytes: u64,
}

/// Asks for the key of a lane; not JSON. Answered with the 32 bytes of the key, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRequest {
    pub session: SessionId,
    pub lane: u32,
}

impl Task {
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(serde_json::to_vec(self).expect("a task is plain data"))
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let task: Self = decode(TASK, bytes)?;
        known(TASK, task.version)?;
        Ok(task)
    }
}

impl Report {
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let report: Self = decode(REPORT, bytes)?;
        known(REPORT, report.version)?;
        Ok(report)
    }
}

impl Failure {
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        decode("failure", bytes)
    }
}

impl Progress {
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        decode("progress", bytes)
    }
}

impl KeyRequest {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.raw(&self.session.0);
        out.u32(self.lane);
        out.into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Reader::new("key request", bytes);
        let request = Self { session: SessionId::read(&mut input)?, lane: input.u32()? };
        input.end()?;
        Ok(request)
    }
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("what movers say is plain data")
}

fn decode<'a, T: Deserialize<'a>>(what: &'static str, bytes: &'a [u8]) -> Result<T, Error> {
    // The parser's own message might show what it read, and a task is secret.
    serde_json::from_slice(bytes).map_err(|error| Error::Invalid {
        what,
        field: "JSON",
        found: format!("{:?} in line {}, column {}", error.classify(), error.line(), error.column()),
    })
}

fn known(what: &'static str, found: u32) -> Result<(), Error> {
    match found == VERSION {
        true => Ok(()),
        false => Err(Error::Invalid {
            what,
            field: "version",
            found: format!("{found}, this kist speaks {VERSION}"),
        }),
    }
}

/// What can be written in hex.
pub trait Bytes: Sized {
    fn to_bytes(&self) -> Zeroizing<Vec<u8>>;
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

macro_rules! bytes_of_id {
    ($($name:ident),*) => {$(
        impl Bytes for $name {
            fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
                Zeroizing::new(self.0.to_vec())
            }

            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                Some(Self(bytes.try_into().ok()?))
            }
        }
    )*};
}

bytes_of_id!(NodeId, SessionId, SourceId);

impl Bytes for Key {
    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.expose().to_vec())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self::new(bytes.try_into().ok()?))
    }
}

impl Bytes for Vec<u8> {
    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.clone())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= limits::CONFIG_LEN).then(|| bytes.to_vec())
    }
}

impl Bytes for KeyName {
    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new((*self).to_bytes().to_vec())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        whole(bytes, KeyName::read)
    }
}

impl Bytes for Certificate {
    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Writer::new();
        self.write(&mut out);
        Zeroizing::new(out.into_bytes())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        whole(bytes, Certificate::read)
    }
}

fn whole<T>(bytes: &[u8], read: impl FnOnce(&mut Reader<'_>) -> Result<T, Error>) -> Option<T> {
    let mut input = Reader::new(TASK, bytes);
    let value = read(&mut input).ok()?;
    input.end().ok()?;
    Some(value)
}

impl<T: Bytes> Serialize for Hex<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(hex(&self.0.to_bytes())))
    }
}

impl<'de, T: Bytes> Deserialize<'de> for Hex<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = unhex(&text).map(Zeroizing::new);
        let value = bytes.and_then(|bytes| T::from_bytes(&bytes));
        value.map(Hex).ok_or_else(|| D::Error::custom("not the hex of what belongs here"))
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Hex<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Zeroizing::new(String::deserialize(deserializer)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sign;
    use crate::format::id::{DomainId, KeyId, RepoId};
    use crate::format::keys::Role;

    fn task() -> Task {
        let signing = Key::new([2; 32]);
        let of = (Role::Writer, KeyId([4; 16]), DomainId::DEFAULT, 0);
        let certificate =
            Certificate::issue(&Key::new([1; 32]), RepoId([3; 16]), of, sign::public(&signing), "shop");
        let hidden = |text: &str| Hidden(Zeroizing::new(text.to_owned()));
        Task {
            version: VERSION,
            config: Hex(vec![1, 2, 3]),
            direct: Some(Direct {
                url: "s3://bucket/kist".into(),
                access_key_id: hidden("id"),
                secret_access_key: hidden("secret"),
                session_token: None,
                region: None,
                authorities: None,
            }),
            keys: Keys {
                certificate: Hex(certificate),
                structure: Hex(Key::new([5; 32])),
                id: Hex(Key::new([6; 32])),
                chunker: Hex(Key::new([7; 32])),
                meta_name: Hex(KeyName::Meta { scope: KeyId([4; 16]), source: SourceId([8; 16]) }),
                meta: Hex(Key::new([9; 32])),
            },
            work: Work::Backup {
                path: "/volumes/0".into(),
                source: Hex(SourceId([8; 16])),
                parent: None,
                sparse: vec![ChunkPrefix([13; 16])],
                lane: Lane {
                    session: Hex(SessionId([10; 16])),
                    number: 1,
                    data: Hex(Key::new([11; 32])),
                    signing: Hex(Key::new([12; 32])),
                },
            },
        }
    }

    #[test]
    fn a_task_comes_back() {
        let task = task();
        let back = Task::decode(&task.encode()).unwrap();
        assert!(back.keys == task.keys && back.work == task.work && back.direct == task.direct);
        assert_eq!(back.config, task.config);
    }

    #[test]
    fn fields_to_come_are_passed_over_and_another_version_is_refused() {
        let text = String::from_utf8(task().encode().to_vec()).unwrap();
        let longer = text.replacen('{', "{\"toCome\":1,", 1);
        assert!(Task::decode(longer.as_bytes()).is_ok());
        let other = text.replacen("\"version\":0", "\"version\":7", 1);
        assert!(Task::decode(other.as_bytes()).err().unwrap().to_string().contains("speaks 0"));
    }

    #[test]
    fn an_error_shows_nothing_of_the_task() {
        let text = String::from_utf8(task().encode().to_vec()).unwrap();
        let broken = text.replace("\"number\":1", "\"number\":\"hunter2\"");
        let error = Task::decode(broken.as_bytes()).err().unwrap().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
