//! A writer of tar archives, as far as images need it: files, folders and symbolic links
//! of root, names below 100 bytes, sizes below 8 GiB (POSIX ustar).

use std::io::{self, Read, Write};

const BLOCK: usize = 512;

/// An entry without contents.
pub struct Entry<'a> {
    pub name: &'a str,
    pub mode: u32,
    pub kind: Kind<'a>,
}

pub enum Kind<'a> {
    Folder,
    Link(&'a str),
}

pub struct Tar<W> {
    out: W,
}

impl<W: Write> Tar<W> {
    pub fn new(out: W) -> Self {
        Tar { out }
    }

    /// Writes a folder or a link.
    pub fn entry(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let (kind, target) = match entry.kind {
            Kind::Folder => (b'5', ""),
            Kind::Link(target) => (b'2', target),
        };
        self.header(entry.name, entry.mode, 0, kind, target)
    }

    /// Writes a file with its contents, which must have exactly `size` bytes.
    pub fn file(&mut self, name: &str, mode: u32, size: u64, contents: &mut impl Read) -> io::Result<()> {
        self.header(name, mode, size, b'0', "")?;
        let copied = io::copy(&mut contents.take(size), &mut self.out)?;
        if copied != size {
            return Err(io::Error::other(format!("{name} has {copied} bytes, not {size}")));
        }
        let rest = size.next_multiple_of(BLOCK as u64) - size;
        io::copy(&mut io::repeat(0).take(rest), &mut self.out)?;
        Ok(())
    }

    /// Writes the end mark and hands the writer back.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn header(&mut self, name: &str, mode: u32, size: u64, kind: u8, link: &str) -> io::Result<()> {
        if name.len() >= 100 || link.len() >= 100 || size >= 1 << 33 {
            return Err(io::Error::other(format!("{name} does not fit a plain tar header")));
        }
        let mut header = [0; BLOCK];
        put(&mut header, 0, name);
        put(&mut header, 100, &format!("{mode:07o}"));
        put(&mut header, 108, "0000000");
        put(&mut header, 116, "0000000");
        put(&mut header, 124, &format!("{size:011o}"));
        put(&mut header, 136, "00000000000");
        put(&mut header, 148, "        "); // the checksum counts itself as spaces
        header[156] = kind;
        put(&mut header, 157, link);
        put(&mut header, 257, "ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        put(&mut header, 148, &format!("{sum:06o}\0 "));
        self.out.write_all(&header)
    }
}

fn put(header: &mut [u8; BLOCK], at: usize, text: &str) {
    header[at..at + text.len()].copy_from_slice(text.as_bytes());
}
