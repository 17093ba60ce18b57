//! The form of an image: an OCI image layout as a tar (`oci-layout`, `index.json`, `blobs/sha256/…`), which
//! containerd, podman and skopeo take in without a registry.
//!
//! Invariant: no time, no owner and no name of a machine is in it, so the same layer is the same image, byte
//! for byte; its name stands in the index alone, so that two names do not make two images.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cluster::error::{Error, Result};
use crate::cluster::tar::{Entry, Kind, Tar};
use crate::cluster::tools;

/// Changes when the form does: archives in the cache are named by it too.
pub const FORM: &str = "oci layout 1";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// What an image runs: the entrypoint with the command behind it.
#[derive(Debug)]
pub struct Start<'a> {
    pub entrypoint: &'a [&'a str],
    pub command: &'a [&'a str],
}

/// Wraps a tar of a root file system as an image archive at `target`.
pub fn wrap(layer: &Path, reference: &str, start: &Start<'_>, target: &Path) -> Result<()> {
    let mut source = File::open(layer).map_err(Error::io("open", layer))?;
    let size = source.metadata().map_err(Error::io("stat", layer))?.len();
    let layer_digest = sha256(&mut source).map_err(Error::io("read", layer))?;
    let mut run = json!({ "Env": [format!("PATH={}", tools::PATH)] });
    for (field, words) in [("Entrypoint", start.entrypoint), ("Cmd", start.command)] {
        if !words.is_empty() {
            run[field] = json!(words);
        }
    }
    let config = Blob::new(json!({
        "architecture": architecture(),
        "os": "linux",
        "config": run,
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
    }));
    let manifest = Blob::new(json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(CONFIG),
        "layers": [{ "mediaType": LAYER, "digest": format!("sha256:{layer_digest}"), "size": size }],
    }));
    let mut entry = manifest.descriptor(MANIFEST);
    entry["platform"] = json!({ "architecture": architecture(), "os": "linux" });
    let tag = reference.rsplit(':').next().unwrap_or(reference);
    // containerd takes the first, skopeo and podman the second.
    entry["annotations"] =
        json!({ "io.containerd.image.name": reference, "org.opencontainers.image.ref.name": tag });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();
    let mut write = || -> io::Result<()> {
        let mut archive = Tar::new(io::BufWriter::new(File::create(target)?));
        let version = json!({ "imageLayoutVersion": "1.0.0" }).to_string();
        archive.file("oci-layout", 0o644, version.len() as u64, &mut version.as_bytes())?;
        archive.file("index.json", 0o644, index.len() as u64, &mut index.as_bytes())?;
        for folder in ["blobs/", "blobs/sha256/"] {
            archive.entry(&Entry { name: folder, mode: 0o755, kind: Kind::Folder })?;
        }
        for blob in [&manifest, &config] {
            archive.file(&blob.place(), 0o644, blob.bytes.len() as u64, &mut blob.bytes.as_slice())?;
        }
        source.rewind()?;
        archive.file(&place(&layer_digest), 0o644, size, &mut source)?;
        archive.finish()?.flush()
    };
    write().map_err(Error::io("write the image", target))
}

struct Blob {
    bytes: Vec<u8>,
    digest: String,
}

impl Blob {
    fn new(value: Value) -> Blob {
        let bytes = value.to_string().into_bytes();
        let digest = hex(&Sha256::digest(&bytes));
        Blob { bytes, digest }
    }

    fn descriptor(&self, media_type: &str) -> Value {
        let digest = format!("sha256:{}", self.digest);
        json!({ "mediaType": media_type, "digest": digest, "size": self.bytes.len() })
    }

    fn place(&self) -> String {
        place(&self.digest)
    }
}

fn place(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
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

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
