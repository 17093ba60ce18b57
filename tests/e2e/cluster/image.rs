//! Container images made on the spot: no registry can be reached from a test.
//!
//! Images have one layer. Archives lie in the cache, named by the hash of what they are made from, and are
//! made once; a lock beside each keeps two runs from making the same one. `make image` ships what is made
//! here: but for its name in the archive's index, kist's image is the one that the tests run.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::cluster::error::{Error, Result};
use crate::cluster::oci::{self, Start, hex};
use crate::cluster::tar::{Entry, Kind, Tar};
use crate::cluster::tools;

pub const PAUSE_IMAGE: &str = "kist.test/pause:1";
pub const BUSYBOX_IMAGE: &str = "kist.test/busybox:1";
pub const KIST_IMAGE: &str = "kist.test/kist:1";

/// The commands that the busybox image has by name.
const APPLETS: [&str; 30] = [
    "sh", "cat", "chmod", "cp", "date", "dd", "df", "du", "echo", "env", "false", "find", "grep", "head",
    "hostname", "httpd", "id", "ip", "ls", "md5sum", "mkdir", "nc", "ps", "rm", "sleep", "stat", "sync",
    "touch", "true", "wget",
];
/// Pause sleeps for 68 years; busybox has no longer number.
const FOREVER: &str = "2147483647";
/// Folders of the images with a shell.
const FOLDERS: [(&str, u32); 3] = [("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777)];
/// The authorities that this machine trusts; in the same place in kist's image, for without them it could
/// not speak TLS to an object store.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What is in an image's only layer, and what it runs.
struct Content<'a> {
    folders: &'a [(&'a str, u32)],
    /// Place in the image, mode, bytes.
    files: Vec<(&'a str, u32, Vec<u8>)>,
    /// Names in `/bin` of the program `busybox` there.
    links: &'a [&'a str],
    start: Start<'a>,
}

/// The archive of the pause image: what a pod's own container runs.
pub fn pause() -> Result<PathBuf> {
    let command = ["/bin/busybox", "sleep", FOREVER];
    made_once(PAUSE_IMAGE, &busybox_content(&[], &command)?)
}

/// The archive of the busybox image; it sleeps if no command is given.
pub fn busybox() -> Result<PathBuf> {
    made_once(BUSYBOX_IMAGE, &busybox_content(&APPLETS, &["/bin/sleep", FOREVER])?)
}

/// The archive of kist's own image, for tests.
pub fn kist(program: &Path) -> Result<PathBuf> {
    made_once(KIST_IMAGE, &kist_content(program)?)
}

/// Writes kist's own image to `target`, under a name of the caller's choice. Says whether the authorities
/// are in it.
pub fn ship_kist(program: &Path, reference: &str, target: &Path) -> Result<bool> {
    let content = kist_content(program)?;
    let folder = target.parent().unwrap_or(Path::new("."));
    let layer = folder.join(".kist-layer.tar");
    write_layer(&layer, &content).map_err(Error::io("write", &layer))?;
    oci::wrap(&layer, reference, &content.start, target)?;
    fs::remove_file(&layer).map_err(Error::io("remove", &layer))?;
    Ok(content.files.len() > 1)
}

/// One static program and the authorities to trust. No user is named: the pods say who runs it.
fn kist_content(program: &Path) -> Result<Content<'static>> {
    let mut files = vec![("kist", 0o755, fs::read(program).map_err(Error::io("read", program))?)];
    if let Ok(authorities) = fs::read(AUTHORITIES) {
        files.push((AUTHORITIES.trim_start_matches('/'), 0o644, authorities));
    }
    let folders = [("etc/", 0o755), ("etc/ssl/", 0o755), ("etc/ssl/certs/", 0o755)].as_slice();
    let start = Start { entrypoint: &["/kist"], command: &[] };
    Ok(Content { folders, files, links: &[], start })
}

fn busybox_content<'a>(links: &'a [&'a str], command: &'a [&'a str]) -> Result<Content<'a>> {
    let program = tools::system("busybox").ok_or_else(|| Error::Missing(vec!["busybox".into()]))?;
    let program = fs::read(&program).map_err(Error::io("read", &program))?;
    let files = vec![("bin/busybox", 0o755, program)];
    Ok(Content { folders: &FOLDERS, files, links, start: Start { entrypoint: &[], command } })
}

/// Makes a file of the cache, once for all runs on this machine: `make` fills a folder of
/// its own and returns which file in it is the result.
pub fn cached(name: &str, make: impl FnOnce(&Path) -> Result<PathBuf>) -> Result<PathBuf> {
    let folder = tools::cache().join("images");
    fs::create_dir_all(&folder).map_err(Error::io("make the folder", &folder))?;
    let path = folder.join(name);
    let lock_path = folder.join(format!(".{name}.lock"));
    let lock = File::create(&lock_path).map_err(Error::io("open the lock", &lock_path))?;
    lock.lock().map_err(Error::io("lock", &lock_path))?;
    if path.exists() {
        return Ok(path);
    }
    // Under the lock: what lies here is of a run that was killed.
    let work = folder.join(format!(".{name}.work"));
    let _ = fs::remove_dir_all(&work);
    fs::create_dir(&work).map_err(Error::io("make the folder", &work))?;
    let made = make(&work)?;
    fs::rename(&made, &path).map_err(Error::io("rename", &made))?;
    fs::remove_dir_all(&work).map_err(Error::io("remove", &work))?;
    Ok(path)
}

fn made_once(reference: &str, content: &Content<'_>) -> Result<PathBuf> {
    let mut key = Sha256::new();
    let Content { folders, files, links, start } = content;
    key.update(format!("{} {reference} {folders:?} {links:?} {start:?}", oci::FORM));
    for (place, mode, bytes) in files {
        key.update(format!(" {place} {mode} {} ", bytes.len()));
        key.update(bytes);
    }
    let short: String = hex(&key.finalize()).chars().take(16).collect();
    let name = reference.rsplit('/').next().unwrap_or(reference).replace(':', "-");
    cached(&format!("{name}-{short}.tar"), |work| {
        let layer = work.join("layer.tar");
        write_layer(&layer, content).map_err(Error::io("write", &layer))?;
        let image = work.join("image.tar");
        oci::wrap(&layer, reference, &content.start, &image)?;
        Ok(image)
    })
}

fn write_layer(layer: &Path, content: &Content<'_>) -> io::Result<()> {
    let mut tar = Tar::new(io::BufWriter::new(File::create(layer)?));
    for (folder, mode) in content.folders {
        tar.entry(&Entry { name: folder, mode: *mode, kind: Kind::Folder })?;
    }
    for (place, mode, bytes) in &content.files {
        tar.file(place, *mode, bytes.len() as u64, &mut bytes.as_slice())?;
    }
    for link in content.links {
        let name = format!("bin/{link}");
        tar.entry(&Entry { name: &name, mode: 0o777, kind: Kind::Link("busybox") })?;
    }
    tar.finish()?.flush()
}
