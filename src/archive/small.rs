//! Small files: read whole, and known again by the hash of their content.
//!
//! Between walk and bundle. A file that changes while it is read is read again a few times.

use std::collections::HashMap;

use crate::archive::backup::{Shared, Small, TRIES};
use crate::archive::file::{self, Segment};
use crate::archive::problem::{Problem, ProblemKind};
use crate::archive::walk::{Found, FoundKind};
use crate::format::entry::{Content, Extent};
use crate::format::limits;

/// Reads a file's content; `old` is the parent's hash and content of the same path.
pub fn read(shared: &Shared<'_>, found: Found, old: Option<([u8; 32], Content)>) -> Result<Small, Problem> {
    let ids = shared.ids;
    for attempt in 1..=TRIES {
        let Some(Whole { segments, data, size, moved }) =
            read_whole(&found, attempt, &|bytes| shared.progress.will_read(bytes))?
        else {
            continue;
        };
        if moved {
            shared.moved(&found.path)?;
        }
        let hash = match segments.as_slice() {
            [] | [Segment::Data { .. }] => ids.file_hash(&data),
            _ => ids.file_hash(&with_zeros(&segments, &data)),
        };
        let known =
            old.as_ref().filter(|(old_hash, content)| *old_hash == hash && same_holes(content, &segments));
        return Ok(Small {
            size,
            named: Box::new((found.path, found.attributes)),
            data: if known.is_some() { Vec::new() } else { data },
            segments,
            hash,
            known: known.map(|(_, content)| content.clone()),
        });
    }
    Err(Problem::found("reading", &found.path, ProblemKind::Changed, "it shrank each time it was read"))
}

/// All of a small file.
struct Whole {
    segments: Vec<Segment>,
    /// The data segments, end to end.
    data: Vec<u8>,
    size: u64,
    /// It changed while it was read, and so it did each time.
    moved: bool,
}

/// None if it changed and there are attempts left.
fn read_whole(found: &Found, attempt: u32, will_read: &dyn Fn(u64)) -> Result<Option<Whole>, Problem> {
    if matches!(found.kind, FoundKind::File { size: 0 }) {
        // There is nothing to open it for.
        return Ok(Some(Whole { segments: Vec::new(), data: Vec::new(), size: 0, moved: false }));
    }
    let read = || {
        let reader = file::open(found)?;
        if reader.size() > limits::CHUNK_LEN as u64 {
            let what = format!("it grew to {} bytes after it was looked at", reader.size());
            return Err(Problem::found("opening", &found.path, ProblemKind::Changed, what));
        }
        let segments = reader.segments().collect::<Result<Vec<_>, _>>()?;
        let mut data = Vec::new();
        for segment in &segments {
            if let Segment::Data { offset, len } = *segment {
                let at = data.len();
                data.resize(at + len as usize, 0);
                will_read(len);
                reader.read_at(offset, &mut data[at..])?;
            }
        }
        Ok(Whole { segments, data, size: reader.size(), moved: reader.changed_since_open() })
    };
    match read() {
        Ok(Whole { moved: true, .. }) if attempt < TRIES => Ok(None),
        Ok(whole) => Ok(Some(whole)),
        // Shorter than when it was opened; what was replaced stays so.
        Err(Problem { kind: ProblemKind::Changed, doing: "reading", .. }) if attempt < TRIES => Ok(None),
        Err(problem) => Err(problem),
    }
}

/// The file as a reader sees it, holes as zeros.
fn with_zeros(segments: &[Segment], data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    for segment in segments {
        match *segment {
            Segment::Data { len, .. } => {
                out.extend_from_slice(&data[at..at + len as usize]);
                at += len as usize;
            }
            Segment::Hole { len, .. } => out.resize(out.len() + len as usize, 0),
        }
    }
    out
}

fn same_holes(content: &Content, segments: &[Segment]) -> bool {
    let Content::Extents(extents) = content else { return false };
    let mut old: HashMap<u64, u64> = HashMap::new();
    let mut at = 0;
    for extent in extents {
        if let Extent::Hole { len } = extent {
            old.insert(at, *len);
        }
        at += extent.len();
    }
    let new = segments.iter().filter_map(|segment| match *segment {
        Segment::Hole { offset, len } => Some((offset, len)),
        Segment::Data { .. } => None,
    });
    let new: HashMap<u64, u64> = new.collect();
    old == new
}
