//! The packs of an index as sorted rows of bytes, in the heap or in a mapped file.
//!
//! A pack that is named in two ways is two rows: one of them is false, and nothing but the pack itself tells which. What
//! the rows of the false one say is tried in vain; what the true one says is not lost.

use std::io;
use std::ops::Range;

use memmap2::Advice;

use crate::format::id::{KeyId, PackId, SessionId};
use crate::format::index::IndexPack;
use crate::format::pack::PackKind;
use crate::repo::index::PackInfo;
use crate::repo::index::bytes::{Bytes, Out, Scratch, array, u32_at};
use crate::repo::index::sorter::Sorter;

/// id ‖ naming ‖ arrival ‖ kind ‖ flags ‖ sessions ‖ length ‖ hash ‖ origin ‖ named by ‖ first session, or where they
/// are.
const PACK: usize = 16 + 32 + 4 + 1 + 1 + 2 + 4 + 32 + 16 + 16 + 16;
type Row = [u8; PACK];
const OWN: u8 = 1;
const VERIFIED: u8 = 2;
const NAMED_BY_SESSION: u8 = 4;
/// Where they begin in a row.
const NAMING: usize = 16;
const ARRIVAL: usize = 48;
const KIND: usize = 52;
const FLAGS: usize = 53;
const SESSIONS: usize = 54;
const LEN: usize = 56;
const HASH: usize = 60;
const ORIGIN: usize = 92;
const NAMED_BY: usize = 108;
const SESSION: usize = 124;

/// Beside a pack's number: its records are nodes, …
pub const NODE: u32 = 1 << 31;
/// … and not one's own. So one's own copy of a record stands first: that one is trusted.
pub const FOREIGN: u32 = 1 << 30;
/// For who keeps numbers to say one thing more.
pub const SPARE: u32 = 1 << 29;
pub const NUMBER: u32 = SPARE - 1;
/// In place of a pack's number: it was named before.
pub const AGAIN: u32 = u32::MAX;

/// What stands beside the number of a pack.
pub fn marks(kind: PackKind, own: bool) -> u32 {
    let whose = if own { 0 } else { FOREIGN };
    whose | if kind == PackKind::Nodes { NODE } else { 0 }
}

fn kind(row: &Row) -> PackKind {
    if row[KIND] == PackKind::Data.number() { PackKind::Data } else { PackKind::Nodes }
}

/// Packs on their way.
pub struct Building {
    scratch: Option<Scratch>,
    rows: Sorter<PACK>,
    sessions: Out,
    sessions_len: u64,
    arrived: u32,
}

impl Building {
    pub fn new(scratch: Option<Scratch>, held_bytes: usize) -> Self {
        Self {
            rows: Sorter::new(scratch.clone(), held_bytes),
            sessions: Out::new(scratch.clone()),
            sessions_len: 0,
            arrived: 0,
            scratch,
        }
    }

    /// Gives how many came before it.
    pub fn add(&mut self, pack: &IndexPack, named_by: Option<SessionId>, own: bool) -> io::Result<u32> {
        let arrival = self.arrived;
        let flags = u8::from(own) * OWN
            + u8::from(pack.verified) * VERIFIED
            + u8::from(named_by.is_some()) * NAMED_BY_SESSION;
        let mut row = [0; PACK];
        row[..NAMING].copy_from_slice(&pack.id.0);
        row[NAMING..ARRIVAL].copy_from_slice(&pack.naming());
        row[ARRIVAL..KIND].copy_from_slice(&arrival.to_be_bytes());
        row[KIND] = pack.kind.number();
        row[FLAGS] = flags;
        let sessions = u16::try_from(pack.sessions.len()).expect("bounded by PACK_SESSIONS");
        row[SESSIONS..LEN].copy_from_slice(&sessions.to_be_bytes());
        row[LEN..HASH].copy_from_slice(&pack.len.to_be_bytes());
        row[HASH..ORIGIN].copy_from_slice(&pack.hash);
        row[ORIGIN..NAMED_BY].copy_from_slice(&pack.origin.0);
        row[NAMED_BY..SESSION].copy_from_slice(&named_by.map_or([0; 16], |session| session.0));
        match pack.sessions[..] {
            [] => {}
            [one] => row[SESSION..].copy_from_slice(&one.0),
            _ => {
                row[SESSION..SESSION + 8].copy_from_slice(&self.sessions_len.to_be_bytes());
                for session in &pack.sessions {
                    self.sessions.write(&session.0)?;
                }
                self.sessions_len += u64::from(sessions);
            }
        }
        self.rows.push(row)?;
        self.arrived += 1;
        assert!(self.arrived <= NUMBER, "an index beyond 500 million packs");
        Ok(arrival)
    }

    /// Gives packs their numbers, in the order of their ids. What was named again in the same way is the pack that was
    /// named first: gives the number of each pack by its arrival, with its marks.
    pub fn finish(self) -> io::Result<(Packs, Vec<u32>)> {
        let mut numbers = vec![AGAIN; self.arrived as usize];
        let mut out = Out::new(self.scratch);
        let mut count = 0;
        let mut rows = self.rows.finish()?;
        let mut next = rows.next()?;
        while let Some(mut first) = next {
            loop {
                next = rows.next()?;
                let Some(again) = next.filter(|again| again[..ARRIVAL] == first[..ARRIVAL]) else { break };
                // The generation's word, or the later session's, is as good as the first one's.
                first[FLAGS] &= again[FLAGS] | !NAMED_BY_SESSION;
            }
            let marks = marks(kind(&first), first[FLAGS] & OWN != 0);
            numbers[u32_at(&first, ARRIVAL) as usize] = marks | count;
            count += 1;
            out.write(&first)?;
        }
        let (rows, sessions) = (out.finish(Advice::Random)?, self.sessions.finish(Advice::Random)?);
        Ok((Packs { rows, sessions }, numbers))
    }
}

/// Sorted rows of packs.
#[derive(Default)]
pub struct Packs {
    rows: Bytes,
    /// Of the packs that have more than one.
    sessions: Bytes,
}

impl Packs {
    fn rows(&self) -> &[Row] {
        self.rows.as_chunks().0
    }

    pub fn len(&self) -> usize {
        self.rows().len()
    }

    pub fn id(&self, number: usize) -> PackId {
        PackId(array(&self.rows()[number], 0))
    }

    pub fn get(&self, number: usize) -> PackInfo {
        let row = &self.rows()[number];
        PackInfo {
            id: PackId(array(row, 0)),
            naming: array(row, NAMING),
            kind: kind(row),
            len: u32_at(row, LEN),
            hash: array(row, HASH),
            origin: KeyId(array(row, ORIGIN)),
            verified: row[FLAGS] & VERIFIED != 0,
            sessions: self.sessions_of(row),
            session: (row[FLAGS] & NAMED_BY_SESSION != 0).then(|| SessionId(array(row, NAMED_BY))),
            own: row[FLAGS] & OWN != 0,
        }
    }

    fn sessions_of(&self, row: &Row) -> Vec<SessionId> {
        match usize::from(u16::from_be_bytes(array(row, SESSIONS))) {
            0 => Vec::new(),
            1 => vec![SessionId(array(row, SESSION))],
            count => {
                let start = u64::from_be_bytes(array(row, SESSION)) as usize;
                let all: &[[u8; 16]] = self.sessions.as_chunks().0;
                all[start..start + count].iter().map(|id| SessionId(*id)).collect()
            }
        }
    }

    /// The numbers of the packs with this id: more than one only if it is named in more than one way.
    pub fn with(&self, id: PackId) -> Range<usize> {
        let packs = self.rows();
        let first = packs.partition_point(|pack| pack[..NAMING] < id.0[..]);
        first..first + packs[first..].partition_point(|pack| pack[..NAMING] == id.0[..])
    }

    #[cfg(test)]
    pub fn are_mapped(&self) -> bool {
        matches!(self.rows, Bytes::Mapped(_))
    }
}
