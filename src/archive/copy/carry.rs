//! Carries a window of steps over: reads its chunks, saves them in the copy, and says what became of each step.
//!
//! Chunks are read together, opened, compared with their ids and saved on the CPU threads, which wait if the copy's
//! store is slower. Data is held only as long as hashes of files are made of it.

use std::collections::{HashMap, HashSet};

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::archive::copy::Setting;
use crate::archive::copy::plan::{Step, extents_of};
use crate::archive::place::damage_or;
use crate::format::entry::{Content, Entry, Extent, Kind};
use crate::format::refs::ChunkRef;
use crate::repo::{Error, Fetch, Ids, Result, Writer, on_cpu};

/// What the builder takes.
pub enum Built {
    Entry(Box<Entry>),
    /// The next extents of the file that is ended by the next [`Built::End`].
    Extents(Vec<Extent>),
    /// That file can't be had.
    Broken(String),
    End(Box<Entry>),
    Link(Box<Entry>),
    /// A whole file that can't be had.
    Lost(Box<Entry>, String),
}

/// A chunk that was read, or why not.
type Read = Result<Chunk, String>;

struct Chunk {
    copy: ChunkRef,
    /// If a hash is made of it.
    plain: Option<Vec<u8>>,
}

/// Carries a window over.
pub async fn carry(setting: &Setting, steps: Vec<Step>) -> Result<Vec<Built>> {
    let mut wanted = HashSet::new();
    let mut kept = HashSet::new();
    let mut read: HashMap<ChunkRef, Read> = HashMap::new();
    for step in &steps {
        match step {
            Step::Hashed(entry) => kept.extend(data(extents_of(&entry.kind))),
            Step::Piece(extents) => {
                for chunk in data(extents) {
                    // Kept from here on: what is known now may be forgotten until the end of the window.
                    match setting.known.get(chunk) {
                        Some(copy) => drop(read.insert(chunk, Ok(Chunk { copy, plain: None }))),
                        None => drop(wanted.insert(chunk)),
                    }
                }
            }
            _ => {}
        }
    }
    wanted.extend(&kept);
    let writer = setting.writer.clone();
    let mut saving = Fetch::new(setting.tree.reader.clone(), move |chunk, keep, read| {
        Ok::<_, Error>((
            chunk,
            match damage_or(read)? {
                Ok(plain) => Ok(save(&writer, chunk, plain, keep)?),
                Err(why) => Err(why),
            },
        ))
    });
    let wanted = wanted.into_iter().map(|chunk| (chunk, kept.contains(&chunk))).collect();
    let mut saved = saving.ask(wanted, Result::is_err).await;
    saved.extend(saving.rest().await);
    for saved in saved {
        let (chunk, saved) = saved?;
        if let Ok(Chunk { copy, .. }) = &saved {
            setting.known.insert(chunk, *copy);
        }
        read.insert(chunk, saved);
    }
    let writer = setting.writer.clone();
    on_cpu(move || {
        let ids = writer.repo().keys.ids()?;
        Ok(steps.into_par_iter().map(|step| finish(step, ids, &read)).collect())
    })
    .await?
}

/// The chunks of some extents.
fn data(extents: &[Extent]) -> impl Iterator<Item = ChunkRef> {
    extents.iter().filter_map(|extent| match *extent {
        Extent::Data { chunk, .. } => Some(chunk),
        Extent::Hole { .. } => None,
    })
}

fn save(writer: &Writer, chunk: ChunkRef, plain: Vec<u8>, keep: bool) -> Result<Chunk> {
    let copy = ChunkRef { id: writer.save_chunk(&plain)?.id, ..chunk };
    Ok(Chunk { copy, plain: keep.then_some(plain) })
}

fn finish(step: Step, ids: &Ids, read: &HashMap<ChunkRef, Read>) -> Built {
    match step {
        Step::Entry(entry) => Built::Entry(entry),
        Step::End(entry) => Built::End(entry),
        Step::Link(entry) => Built::Link(entry),
        Step::Broken(why) => Built::Broken(why),
        Step::Piece(extents) => {
            let renamed = extents.into_iter().map(|extent| renamed(extent, read));
            renamed.collect::<Result<_, String>>().map_or_else(Built::Broken, Built::Extents)
        }
        Step::Hashed(mut entry) => match hashed(&entry, ids, read) {
            Ok(kind) => {
                entry.kind = kind;
                Built::Entry(entry)
            }
            Err(why) => Built::Lost(entry, why),
        },
    }
}

/// An extent as the copy has it.
fn renamed(extent: Extent, read: &HashMap<ChunkRef, Read>) -> Result<Extent, String> {
    let Extent::Data { chunk, offset, len } = extent else { return Ok(extent) };
    match read.get(&chunk) {
        Some(Ok(found)) => Ok(Extent::Data { chunk: found.copy, offset, len }),
        Some(Err(why)) => Err(why.clone()),
        None => Err(format!("chunk {} was not read", chunk.id)),
    }
}

/// A file with the places and the hash that it has in the copy.
fn hashed(entry: &Entry, ids: &Ids, read: &HashMap<ChunkRef, Read>) -> Result<Kind, String> {
    let mut content = Vec::new();
    let mut extents = Vec::new();
    for extent in extents_of(&entry.kind) {
        let renamed = renamed(*extent, read)?;
        match *extent {
            Extent::Hole { len } => content.resize(content.len() + len as usize, 0),
            Extent::Data { chunk, offset, len } => {
                let plain = read.get(&chunk).and_then(|read| read.as_ref().ok()?.plain.as_ref());
                let plain = plain.ok_or_else(|| format!("chunk {} was not read", chunk.id))?;
                content.extend_from_slice(&plain[offset as usize..][..len as usize]);
            }
        }
        extents.push(renamed);
    }
    let size = content.len() as u64;
    Ok(Kind::File { size, content: Content::Extents(extents), hash: Some(ids.file_hash(&content)) })
}
