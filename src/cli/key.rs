//! `kist key add`, and how key files are written.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::json;

use crate::cli::args::{KeyAdd, Role};
use crate::cli::exit::{Exit, Failure};
use crate::cli::render;
use crate::cli::settings::Settings;
use crate::repo;

pub async fn add(settings: &Settings, args: KeyAdd) -> Result<Exit, Failure> {
    check_free(&args.out)?;
    let opened = settings.open().await?;
    let key = match args.role {
        Role::Writer => repo::add_writer(&opened, &args.name).await?,
    };
    let comment = format!("kist: writer {:?} of repository {}", args.name, opened.config.repo);
    write_key(&args.out, &key.to_text(&comment))?;
    if settings.json {
        let fields = json!({ "role": "writer", "name": args.name, "id": key.slot.to_string() });
        render::object("key", fields);
    } else {
        render::line(&format!("wrote the bundle of writer {} to {}", args.name, args.out.display()));
        render::line("it can add backups and read the names of its own, not their contents");
    }
    Ok(Exit::Complete)
}

/// A key file is never overwritten: looked at before anything is made.
pub fn check_free(path: &Path) -> Result<(), Failure> {
    match path.symlink_metadata() {
        Ok(_) => Err(Failure::usage(format!("{} exists already; it was left as it is", path.display()))),
        Err(_) => Ok(()),
    }
}

/// Writes a new file that only its owner can read, and makes it durable.
pub fn write_key(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write()
        .map_err(|error| Failure::other(format!("the key can't be written to {}: {error}", path.display())))
}
