//! What checks have read of the packs, so that the next one reads another part.
//!
//! Spec: chapter 12. Ids of packs are random, so a part of the packs is a range of ids. Each object holds the whole
//! state; the newest that holds counts. Sealed as an object at `checks/<n>`. Nothing is deleted on its word.

use crate::crypto::secret::Key;
use crate::crypto::{context, sign};
use crate::format::codec::{Reader, Writer};
use crate::format::id::{PackId, RepoId};
use crate::format::keys::{Certificate, Role};
use crate::format::{Error, limits, signed};
use crate::world::Time;

const WHAT: &str = "check state";
const RANGE_LEN: usize = 4 + 4 + 8 + 8;

/// `checks/<n>`, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checks {
    /// By its author's clock.
    pub time: Time,
    /// Of these the bytes were compared with their hashes.
    pub hashed: Vec<Range>,
    /// Of these each record was opened too, and compared with its id.
    pub opened: Vec<Range>,
    pub certificate: Certificate,
    pub signature: [u8; sign::SIGNATURE_LEN],
}

/// Packs whose ids begin with what lies between two numbers, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub first: u32,
    pub last: u32,
    /// No pack of the range was read before this, …
    pub since: Time,
    /// … and each was read that the store gave an earlier time than this.
    pub upto: Time,
}

/// The first four bytes of a pack's id, as a number: what ranges are of.
pub fn place_of(pack: PackId) -> u32 {
    u32::from_be_bytes(*pack.0.first_chunk().expect("an id has 16 bytes"))
}

/// Who may say what was read: not who is backed up, and might want to keep it from being read.
pub const AUTHORS: &[Role] = &[Role::Maintainer, Role::Reader, Role::Owner];

impl Checks {
    pub fn sign(&mut self, seed: &Key, repo: RepoId, n: u64) {
        self.signature = sign::sign(seed, context::SIGN_CHECKS, &self.signed(repo, n));
    }

    /// Holds author and signature against the owner's key.
    pub fn verify(&self, owner: &[u8; sign::PUBLIC_LEN], repo: RepoId, n: u64) -> Result<(), Error> {
        self.certificate.verify_as((AUTHORS, "which says not what was read"), owner, repo)?;
        self.certificate.holds(WHAT, context::SIGN_CHECKS, &self.signed(repo, n), &self.signature)
    }

    fn signed(&self, repo: RepoId, n: u64) -> [u8; 32] {
        let names: [&[u8]; 3] = [&repo.0, &self.certificate.domain.0, &n.to_le_bytes()];
        signed::message(&names, |out| self.write_body(out))
    }

    fn write_body(&self, out: &mut Writer) {
        out.i64(self.time.0);
        for ranges in [&self.hashed, &self.opened] {
            out.varint(ranges.len() as u64);
            for range in ranges {
                out.u32(range.first);
                out.u32(range.last);
                out.i64(range.since.0);
                out.i64(range.upto.0);
            }
        }
        self.certificate.write(out);
    }

    pub fn encode(&self) -> Vec<u8> {
        signed::encode(|out| self.write_body(out), &self.signature)
    }

    /// Decodes what [`crate::format::object::open_object`] gave: padding may follow.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Reader::new(WHAT, bytes);
        let checks = Self {
            time: Time(input.i64()?),
            hashed: read_ranges(&mut input)?,
            opened: read_ranges(&mut input)?,
            certificate: Certificate::read(&mut input)?,
            signature: input.array()?,
        };
        input.zeros()?;
        Ok(checks)
    }
}

fn read_ranges(input: &mut Reader<'_>) -> Result<Vec<Range>, Error> {
    let count = input.count("ranges", limits::CHECK_RANGES, RANGE_LEN)?;
    let mut ranges: Vec<Range> = Vec::with_capacity(count);
    for _ in 0..count {
        let (first, last) = (input.u32()?, input.u32()?);
        let range = Range { first, last, since: Time(input.i64()?), upto: Time(input.i64()?) };
        let follows = ranges.last().is_none_or(|before| before.last < first && !joins(before, &range));
        if last < first || !follows {
            return Err(input.invalid("range", format!("{first:08x} to {last:08x}")));
        }
        ranges.push(range);
    }
    Ok(ranges)
}

/// Whether two ranges, one behind the other, are one.
pub fn joins(before: &Range, behind: &Range) -> bool {
    let is_next = before.last.checked_add(1) == Some(behind.first);
    is_next && (before.since, before.upto) == (behind.since, behind.upto)
}
