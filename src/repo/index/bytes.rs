//! Bytes that are written once and then looked into: in the heap as long as they are few, then in a file.
//!
//! The file is unlinked before anything is in it: whatever ends the process leaves nothing to clean up. It is mapped
//! only when it is whole, so that a full disk is an error of a write and never a signal.

#![allow(unsafe_code, reason = "a map of a file has no safe form")]

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Advice, Mmap};

use crate::format::id::hex;
use crate::world::World;

/// From here on bytes go to a file, if there is a place for it.
const HEAP_BYTES: usize = 1024 * 1024;
const BUFFER_BYTES: usize = 256 * 1024;

/// The folder for files that only this process needs.
#[derive(Clone)]
pub struct Scratch {
    folder: Arc<Path>,
    world: World,
}

impl Scratch {
    pub fn new(folder: PathBuf, world: World) -> Self {
        Self { folder: folder.into(), world }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file of this process's own, without a name.
    pub fn file(&self) -> io::Result<File> {
        let path = self.folder.join(format!("kist-{}", hex(&self.world.bytes::<16>())));
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }
}

/// Bytes on their way.
pub struct Out {
    scratch: Option<Scratch>,
    heap: Vec<u8>,
    file: Option<BufWriter<File>>,
}

impl Out {
    pub fn new(scratch: Option<Scratch>) -> Self {
        Self { scratch, heap: Vec::new(), file: None }
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            return file.write_all(bytes);
        }
        self.heap.extend_from_slice(bytes);
        if self.heap.len() > HEAP_BYTES
            && let Some(scratch) = &self.scratch
        {
            let mut file = BufWriter::with_capacity(BUFFER_BYTES, scratch.file()?);
            file.write_all(&std::mem::take(&mut self.heap))?;
            self.file = Some(file);
        }
        Ok(())
    }

    /// The bytes, to be looked into in this way.
    pub fn finish(self, way: Advice) -> io::Result<Bytes> {
        let Some(file) = self.file else { return Ok(Bytes::Heap(self.heap)) };
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        // SAFETY: the file has no name and this process has its only descriptor, which is closed here: nobody changes
        // or cuts it while it is mapped.
        let map = unsafe { Mmap::map(&file)? };
        map.advise(way)?;
        Ok(Bytes::Mapped(map))
    }
}

/// The bytes of a row from a place on.
pub fn array<const N: usize>(row: &[u8], at: usize) -> [u8; N] {
    *row[at..].first_chunk().expect("within the row")
}

pub fn u32_at(row: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(row, at))
}

/// Bytes that are whole.
pub enum Bytes {
    Heap(Vec<u8>),
    Mapped(Mmap),
}

impl Default for Bytes {
    fn default() -> Self {
        Bytes::Heap(Vec::new())
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Heap(bytes) => bytes,
            Bytes::Mapped(bytes) => bytes,
        }
    }
}
