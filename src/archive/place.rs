//! Putting restored files into their places: content from chunks, then attributes, then the name.
//!
//! What the repository can't give is the file's misfortune and is told as such; what the target refuses is
//! a problem. Neither stops the others.

use std::collections::HashMap;
use std::sync::Arc;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::archive::problem::Problem;
use crate::archive::target::{Target, TargetFile};
use crate::format::entry::{Attributes, Extent, TreePath};
use crate::format::refs::ChunkRef;
use crate::format::summary::Missing;
use crate::progress::{Progress, Unit};
use crate::repo::{Error, Reader, Result};
use crate::store::Class;

/// A file to be written once its chunks are there.
pub(super) struct SmallFile {
    pub(super) path: TreePath,
    pub(super) attributes: Attributes,
    pub(super) size: u64,
    pub(super) extents: Vec<Extent>,
}

pub(super) type Chunks = HashMap<ChunkRef, std::result::Result<Arc<Vec<u8>>, String>>;

pub(super) enum Written {
    Lost(TreePath, String),
    Problems(Vec<Problem>),
}

pub(super) enum Filled {
    Whole,
    Lost(String),
    Problem(Problem),
}

/// Damage is the file's misfortune; what makes all further reading pointless ends the restore.
pub(super) fn damage_or<T>(read: Result<T>) -> Result<std::result::Result<T, String>> {
    match read {
        Ok(read) => Ok(Ok(read)),
        Err(error @ Error::Role { .. }) => Err(error),
        Err(Error::Store(error)) if matches!(error.class(), Class::Transient | Class::Denied) => {
            Err(error.into())
        }
        Err(error) => Ok(Err(error.to_string())),
    }
}

/// A part of a tree that can't be read, as it is listed: the entries behind `after`, up to `end`.
pub(super) fn gap(after: Option<TreePath>, end: Option<TreePath>, why: &str) -> Missing {
    let up_to = if end.is_some() { " up to this one" } else { "" };
    let after = after.map(|last| format!(" after {last}")).unwrap_or_default();
    Missing { what: end.unwrap_or_default().to_string(), why: format!("all entries{after}{up_to}: {why}") }
}

pub(super) fn write_files(
    target: &Target,
    files: &[SmallFile],
    chunks: &Chunks,
    progress: &dyn Progress,
) -> Vec<Written> {
    let write = |file: &SmallFile| {
        let written = write_small(target, file, chunks);
        progress.advance(Unit::Bytes, file.size);
        written
    };
    files.par_iter().map(write).collect()
}

fn write_small(target: &Target, file: &SmallFile, chunks: &Chunks) -> Written {
    let mut pieces = Vec::with_capacity(file.extents.len());
    let mut at = 0;
    for extent in &file.extents {
        if let Extent::Data { chunk, offset, len } = extent {
            match chunks.get(chunk) {
                Some(Ok(plain)) => pieces.push((at, &plain[*offset as usize..][..*len as usize])),
                Some(Err(why)) => return Written::Lost(file.path.clone(), why.clone()),
                None => {
                    return Written::Lost(file.path.clone(), format!("chunk {} was not fetched", chunk.id));
                }
            }
        }
        at += extent.len();
    }
    let placed = target.create_file(&file.path, file.size).and_then(|made| {
        pieces.into_iter().try_for_each(|(at, piece)| made.write_at(at, piece))?;
        Ok(made.place(&file.attributes))
    });
    Written::Problems(placed.unwrap_or_else(|problem| vec![problem]))
}

pub(super) async fn write_extent(
    reader: &Arc<Reader>,
    file: Arc<TargetFile>,
    extent: Extent,
    at: u64,
    progress: Arc<dyn Progress>,
) -> Result<Filled> {
    let Extent::Data { chunk, offset, len } = extent else { return Ok(Filled::Whole) };
    let plain = match damage_or(reader.chunk(chunk).await)? {
        Ok(plain) => plain,
        Err(why) => return Ok(Filled::Lost(why)),
    };
    let write = move || file.write_at(at, &plain[offset as usize..][..len as usize]);
    let written = tokio::task::spawn_blocking(write).await.expect("writing does not panic");
    progress.advance(Unit::Bytes, u64::from(len));
    Ok(match written {
        Ok(()) => Filled::Whole,
        Err(problem) => Filled::Problem(problem),
    })
}
