//! `kist ls`

use serde_json::json;

use crate::catalog::{EntryKind, EntryRow};
use crate::cli::args::Ls;
use crate::cli::exit::{Exit, Failure};
use crate::cli::render;
use crate::cli::settings::{Settings, snapshot_and_path};
use crate::format::entry::escape;
use crate::job::{find, list};

pub async fn run(settings: &Settings, args: Ls) -> Result<Exit, Failure> {
    let filter = args.choice.filter()?;
    let (which, path) = snapshot_and_path(&args.snapshot);
    let path = list::tree_path(path.unwrap_or_default())?;
    let opened = settings.open_to_read(&which).await?;
    let catalog = settings.catalog(opened.catalog_id());
    let found = find::find(&opened, catalog.as_ref(), &which, &filter).await?;
    let part = match (args.volume, args.manifests) {
        (Some(volume), _) => find::Part::Volume(volume),
        (None, true) => find::Part::Manifests,
        (None, false) => find::Part::Files,
    };
    let mut listing = list::list(&opened, catalog.as_ref(), &found, &part, path, args.recursive).await?;
    while let Some(entry) = listing.next().await? {
        match (settings.json, args.long) {
            (true, _) => show_json(&entry),
            (false, true) => render::line(&long(&entry)),
            (false, false) => render::line(&entry.path.to_string()),
        }
    }
    Ok(Exit::Complete)
}

fn kind(entry: &EntryRow) -> (&'static str, char) {
    match entry.kind {
        EntryKind::Folder => ("folder", 'd'),
        EntryKind::File { .. } => ("file", '-'),
        EntryKind::Symlink { .. } => ("symlink", 'l'),
        EntryKind::Fifo => ("fifo", 'p'),
        EntryKind::Socket => ("socket", 's'),
        EntryKind::CharDevice { .. } => ("charDevice", 'c'),
        EntryKind::BlockDevice { .. } => ("blockDevice", 'b'),
    }
}

fn size(entry: &EntryRow) -> u64 {
    match entry.kind {
        EntryKind::File { size } => size,
        _ => 0,
    }
}

fn show_json(entry: &EntryRow) {
    let target = match &entry.kind {
        EntryKind::Symlink { target } => Some(escape(target)),
        _ => None,
    };
    let fields = json!({
        "path": entry.path.to_string(),
        "kind": kind(entry).0,
        "size": size(entry),
        "mode": format!("{:04o}", entry.mode),
        "uid": entry.uid,
        "gid": entry.gid,
        "mtimeSecs": entry.mtime.secs,
        "mtimeNanos": entry.mtime.nanos,
        "target": target,
    });
    render::object("entry", fields);
}

/// As `ls -l` shows it, with the whole path.
fn long(entry: &EntryRow) -> String {
    let letter = |bit: u16, letter: char| if entry.mode & bit != 0 { letter } else { '-' };
    let mut mode: String = (0..9).map(|i| letter(0o400 >> i, ['r', 'w', 'x'][i % 3])).collect();
    for (bit, at, set) in [(0o4000, 2, 's'), (0o2000, 5, 's'), (0o1000, 8, 't')] {
        if entry.mode & bit != 0 {
            let executable = mode.as_bytes()[at] == b'x';
            let shown = if executable { set } else { set.to_ascii_uppercase() };
            mode.replace_range(at..=at, shown.encode_utf8(&mut [0; 4]));
        }
    }
    let target = match &entry.kind {
        EntryKind::Symlink { target } => format!(" -> {}", escape(target)),
        _ => String::new(),
    };
    format!(
        "{}{mode} {:>6} {:>6} {:>12} {} {}{target}",
        kind(entry).1,
        entry.uid,
        entry.gid,
        size(entry),
        render::file_time(entry.mtime.secs),
        entry.path,
    )
}
