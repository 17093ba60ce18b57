//! Container images made on the spot: no registry can be reached from a test.
//!
//! An image is one layer (a tar) in a docker-archive: layer, config, manifest. Archives lie
//! in the cache, named by the hash of what they are made from, and are made once; a lock
//! beside each keeps two runs from making the same one.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::cluster::error::{Error, Result};
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

/// The archive of the pause image: what a pod's own container runs.
pub fn pause() -> Result<PathBuf> {
    let busybox = busybox_program()?;
    let command = ["/bin/busybox", "sleep", FOREVER];
    scratch(PAUSE_IMAGE, "/bin/busybox", &busybox, &[], &command)
}

/// The archive of the busybox image; it sleeps if no command is given.
pub fn busybox() -> Result<PathBuf> {
    let busybox = busybox_program()?;
    scratch(BUSYBOX_IMAGE, "/bin/busybox", &busybox, &APPLETS, &["/bin/sleep", FOREVER])
}

/// The archive of kist's own image: one static program, and nothing else.
pub fn kist(program: &Path) -> Result<PathBuf> {
    scratch(KIST_IMAGE, "/kist", program, &[], &["/kist"])
}

/// Wraps a tar of a root file system as an image archive at `target`.
pub fn wrap(layer: &Path, reference: &str, command: &[&str], target: &Path) -> Result<()> {
    let mut source = File::open(layer).map_err(Error::io("open", layer))?;
    let size = source.metadata().map_err(Error::io("stat", layer))?.len();
    let digest = sha256(&mut source).map_err(Error::io("read", layer))?;
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": { "Cmd": command, "Env": [format!("PATH={}", tools::PATH)] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
        "history": [],
    });
    let config = config.to_string().into_bytes();
    let config_digest = sha256(&mut config.as_slice()).map_err(Error::io("hash", target))?;
    let config_name = format!("{config_digest}.json");
    let manifest = json!([{
        "Config": config_name, "RepoTags": [reference], "Layers": ["layer.tar"],
    }]);
    let manifest = manifest.to_string().into_bytes();
    let write = || -> io::Result<()> {
        let mut archive = Tar::new(io::BufWriter::new(File::create(target)?));
        let mut layer = File::open(layer)?;
        archive.file("layer.tar", 0o644, size, &mut layer)?;
        archive.file(&config_name, 0o644, config.len() as u64, &mut config.as_slice())?;
        archive.file("manifest.json", 0o644, manifest.len() as u64, &mut manifest.as_slice())?;
        archive.finish()?.flush()
    };
    write().map_err(Error::io("write the image", target))
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

/// The image of one static program, with links to it in `/bin`.
fn scratch(
    reference: &str,
    place: &str,
    program: &Path,
    links: &[&str],
    command: &[&str],
) -> Result<PathBuf> {
    let bytes = fs::read(program).map_err(Error::io("read", program))?;
    let mut key = Sha256::new();
    key.update(&bytes);
    key.update(format!("{reference} {place} {links:?} {command:?}"));
    let short: String = hex(&key.finalize()).chars().take(16).collect();
    let name = reference.rsplit('/').next().unwrap_or(reference).replace(':', "-");
    cached(&format!("{name}-{short}.tar"), |work| {
        let layer = work.join("layer.tar");
        write_layer(&layer, place, &bytes, links).map_err(Error::io("write", &layer))?;
        let image = work.join("image.tar");
        wrap(&layer, reference, command, &image)?;
        Ok(image)
    })
}

fn write_layer(layer: &Path, place: &str, program: &[u8], links: &[&str]) -> io::Result<()> {
    let mut tar = Tar::new(io::BufWriter::new(File::create(layer)?));
    for (folder, mode) in [("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777)] {
        tar.entry(&Entry { name: folder, mode, kind: Kind::Folder })?;
    }
    let place = place.trim_start_matches('/');
    tar.file(place, 0o755, program.len() as u64, &mut &*program)?;
    for link in links {
        let name = format!("bin/{link}");
        tar.entry(&Entry { name: &name, mode: 0o777, kind: Kind::Link("busybox") })?;
    }
    tar.finish()?.flush()
}

fn busybox_program() -> Result<PathBuf> {
    tools::system("busybox").ok_or_else(|| Error::Missing(vec!["busybox".into()]))
}

/// The name that images have for this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn sha256(source: &mut impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            length => hash.update(&buffer[..length]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
