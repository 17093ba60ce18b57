//! Commits: the object that makes a session's snapshot exist.
//!
//! Spec: chapter 7. A commit has a routing part (structure key: what maintenance needs and no
//! more) and a summary (meta key of its source), and is signed by the session's writer. Under
//! the same key a collector may have put a fence: then the session never commits.

use crate::crypto::secret::Key;
use crate::crypto::{context, seal, sign};
use crate::format::codec::{Reader, Writer};
use crate::format::id::{NodeId, RepoId, SessionId, SourceId};
use crate::format::keys::{Certificate, KeyName};
use crate::format::{Error, limits, signed};
use crate::world::Time;

const WHAT: &str = "commit";

/// What a root is the tree of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootKind {
    Files,
    Manifests,
    Volume,
}

/// One tree of a snapshot. Its entries are sealed with the meta key of (the writer's scope, `source`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    pub kind: RootKind,
    pub source: SourceId,
    pub node: NodeId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The highest slot of the gc log that the session had read; 0 for an empty log.
    pub view: u64,
    /// BLAKE3 of the entry in that slot, as stored; zeros for an empty log.
    pub head: [u8; 32],
    /// When the data was cut, by the writer's clock.
    pub time: Time,
    pub source: SourceId,
    /// Whether everything that was selected is in it.
    pub complete: bool,
    /// Counts this writer's commits, from 1.
    pub sequence: u64,
    /// BLAKE3 of this writer's commit before this one, as stored; zeros for the first.
    pub previous: [u8; 32],
    /// Retention class: opaque to the maintainer.
    pub class: Vec<u8>,
    /// Held from the start: it is not forgotten until that is lifted.
    pub held: bool,
    pub roots: Vec<Root>,
    /// The summary, sealed.
    pub summary: Vec<u8>,
    pub certificate: Certificate,
    pub signature: [u8; sign::SIGNATURE_LEN],
}

/// What lies at `commits/<sid>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    Commit(Box<Commit>),
    /// Put there by a collector; the session never commits.
    Fence,
    /// The session has copied records, as they are, into packs of its own, and is done. No snapshot.
    Repack(Box<Repack>),
}

/// The end of a session that only copied records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repack {
    pub certificate: Certificate,
    pub signature: [u8; sign::SIGNATURE_LEN],
}

impl Repack {
    pub fn new(certificate: Certificate, seed: &Key, repo: RepoId, session: SessionId) -> Self {
        let mut repack = Self { certificate, signature: [0; sign::SIGNATURE_LEN] };
        repack.signature = sign::sign(seed, context::SIGN_COMMIT, &repack.signed(repo, session));
        repack
    }

    pub fn verify(
        &self,
        owner: &[u8; sign::PUBLIC_LEN],
        repo: RepoId,
        session: SessionId,
    ) -> Result<(), Error> {
        self.certificate.verify_maintains(owner, repo)?;
        self.certificate.holds(WHAT, context::SIGN_COMMIT, &self.signed(repo, session), &self.signature)
    }

    fn signed(&self, repo: RepoId, session: SessionId) -> [u8; 32] {
        signed::message(&[&repo.0, &session.0], |out| self.write_body(out))
    }

    fn write_body(&self, out: &mut Writer) {
        out.u8(3);
        self.certificate.write(out);
    }

    pub fn encode(&self) -> Vec<u8> {
        signed::encode(|out| self.write_body(out), &self.signature)
    }
}

/// What is stored of a fence, before it is sealed.
pub fn fence() -> Vec<u8> {
    vec![2]
}

impl Commit {
    pub fn sign(&mut self, seed: &Key, repo: RepoId, session: SessionId) {
        self.signature = sign::sign(seed, context::SIGN_COMMIT, &self.signed(repo, session));
    }

    /// Holds the certificate against the owner's key, and the signature against the certificate.
    pub fn verify(
        &self,
        owner: &[u8; sign::PUBLIC_LEN],
        repo: RepoId,
        session: SessionId,
    ) -> Result<(), Error> {
        self.certificate.verify_adds(owner, repo)?;
        self.certificate.holds(WHAT, context::SIGN_COMMIT, &self.signed(repo, session), &self.signature)
    }

    /// The key of the entries under `root`, and of the summary for the commit's own source.
    pub fn meta_key_name(&self, source: SourceId) -> KeyName {
        KeyName::Meta { scope: self.certificate.key, source }
    }

    fn signed(&self, repo: RepoId, session: SessionId) -> [u8; 32] {
        signed::message(&[&repo.0, &session.0], |out| self.write_body(out))
    }

    fn write_body(&self, out: &mut Writer) {
        out.u8(1);
        out.u64(self.view);
        out.raw(&self.head);
        out.i64(self.time.0);
        out.raw(&self.source.0);
        out.u8(self.complete.into());
        out.u64(self.sequence);
        out.raw(&self.previous);
        out.bytes(&self.class);
        out.u8(self.held.into());
        out.varint(self.roots.len() as u64);
        for root in &self.roots {
            out.u8(match root.kind {
                RootKind::Files => 1,
                RootKind::Manifests => 2,
                RootKind::Volume => 3,
            });
            out.raw(&root.source.0);
            out.raw(&root.node.0);
        }
        out.bytes(&self.summary);
        self.certificate.write(out);
    }

    pub fn encode(&self) -> Vec<u8> {
        signed::encode(|out| self.write_body(out), &self.signature)
    }
}

impl Resolution {
    /// Decodes what [`crate::format::object::open_object`] gave: padding may follow.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Reader::new(WHAT, bytes);
        let resolution = match input.u8()? {
            1 => Resolution::Commit(Box::new(read_commit(&mut input)?)),
            2 => Resolution::Fence,
            3 => {
                let certificate = Certificate::read(&mut input)?;
                Resolution::Repack(Box::new(Repack { certificate, signature: input.array()? }))
            }
            other => return Err(input.invalid("kind", other)),
        };
        input.zeros()?;
        Ok(resolution)
    }
}

fn read_commit(input: &mut Reader<'_>) -> Result<Commit, Error> {
    Ok(Commit {
        view: input.u64()?,
        head: input.array()?,
        time: Time(input.i64()?),
        source: SourceId::read(input)?,
        complete: input.flag("complete")?,
        sequence: input.u64()?,
        previous: input.array()?,
        class: input.bytes("retention class", limits::CLASS_LEN)?.to_vec(),
        held: input.flag("held")?,
        roots: read_roots(input)?,
        summary: input.bytes("summary", limits::SUMMARY_LEN + seal::OVERHEAD)?.to_vec(),
        certificate: Certificate::read(input)?,
        signature: input.array()?,
    })
}

fn read_roots(input: &mut Reader<'_>) -> Result<Vec<Root>, Error> {
    let count = input.count("roots", limits::ROOTS, 1 + 16 + 32)?;
    let mut roots = Vec::with_capacity(count);
    for _ in 0..count {
        let kind = match input.u8()? {
            1 => RootKind::Files,
            2 => RootKind::Manifests,
            3 => RootKind::Volume,
            other => return Err(input.invalid("root kind", other)),
        };
        roots.push(Root { kind, source: SourceId::read(input)?, node: NodeId::read(input)? });
    }
    Ok(roots)
}

/// What a summary is bound to.
pub fn summary_context(repo: RepoId, session: SessionId) -> Vec<u8> {
    [b"kist summary".as_slice(), &repo.0, &session.0].concat()
}
