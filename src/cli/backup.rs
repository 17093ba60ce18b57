//! `kist backup files`

use serde_json::json;

use crate::archive::exclude::Exclude;
use crate::cli::args::BackupFiles;
use crate::cli::exit::{Exit, Failure, chain};
use crate::cli::render::{self, bytes};
use crate::cli::settings::{Settings, absolute, host_name};
use crate::cli::terminal::Shown;
use crate::format::summary::Missing;
use crate::job::backup::{self, Done, Files, Preview};
use crate::job::record;
use crate::pace::Limits;
use crate::repo::{Reader, Repository, Snapshots, WriterSettings};

pub async fn files(settings: &Settings, args: BackupFiles) -> Result<Exit, Failure> {
    let dry_run = args.dry_run;
    let files = to_files(args, settings.limits)?;
    let opened = settings.open().await?;
    let shown = Shown::start(settings.json);
    if dry_run {
        let preview = backup::preview(&opened, files, shown.clone()).await;
        shown.done();
        return Ok(show_preview(settings, &preview?));
    }
    let done = backup::files(&opened, files, shown.clone()).await;
    shown.done();
    let done = done?;
    show(settings, &done);
    fill_catalog(settings, &opened, done.known, done.reader).await;
    Ok(if done.snapshot.commit.complete { Exit::Complete } else { Exit::Incomplete })
}

fn to_files(args: BackupFiles, limits: Limits) -> Result<Files, Failure> {
    let mut patterns = args.exclude;
    for path in &args.exclude_file {
        let unusable =
            |error: &dyn std::error::Error| Failure::usage(format!("{}: {}", path.display(), chain(error)));
        let text = std::fs::read(path).map_err(|error| unusable(&error))?;
        patterns.extend(Exclude::patterns_in(&text).map_err(|error| unusable(&error))?);
    }
    let exclude = Exclude::new(&patterns).map_err(|error| Failure::usage(chain(&error)))?;
    let paths = args.paths.iter().map(|path| absolute(path)).collect::<Result<Vec<_>, _>>()?;
    Ok(Files {
        paths,
        host: args.host.unwrap_or_else(host_name),
        tags: args.tag,
        exclude,
        one_file_system: args.one_file_system,
        exclude_caches: args.exclude_caches,
        writer: WriterSettings::limited(limits.upload),
        read_limit: limits.read,
        kist: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// The catalog is a convenience: that it can't be filled is said, and fails nothing.
pub async fn fill_catalog(
    settings: &Settings,
    opened: &Repository,
    known: Snapshots,
    reader: Option<Reader>,
) {
    let Some(path) = settings.catalog_path(opened.catalog_id()) else { return };
    if let Err(error) = record::add(opened, &path, known, reader).await {
        render::note(&format!("kist: the catalog was not filled, the backup is fine: {}", chain(&error)));
    }
}

fn show(settings: &Settings, done: &Done) {
    let summary = &done.summary;
    show_missing(settings, &summary.missing, summary.more_missing);
    if settings.json {
        let fields = json!({
            "snapshot": done.snapshot.name(),
            "complete": done.snapshot.commit.complete,
            "parent": summary.parent,
            "counts": summary.counts,
            "missing": summary.missing.len() as u64 + summary.more_missing,
        });
        render::object("backup", fields);
        return;
    }
    let counts = &summary.counts;
    let verdict = if done.snapshot.commit.complete { "complete" } else { "INCOMPLETE" };
    render::line(&format!("snapshot {} {verdict}", done.snapshot.name()));
    render::line(&format!(
        "  {} entries, {} files of {}; read {}, new {}, stored {}",
        counts.entries,
        counts.files,
        bytes(counts.bytes),
        bytes(counts.read_bytes),
        bytes(counts.new_bytes),
        bytes(counts.stored_bytes),
    ));
}

/// What is not in a snapshot, or would not be.
pub fn show_missing(settings: &Settings, missing: &[Missing], more: u64) {
    for missing in missing {
        match settings.json {
            true => render::object("missing", json!({ "what": missing.what, "why": missing.why })),
            false => render::note(&format!("missing: {}: {}", missing.what, missing.why)),
        }
    }
    if more > 0 && !settings.json {
        render::note(&format!("missing: {more} more"));
    }
}

fn show_preview(settings: &Settings, preview: &Preview) -> Exit {
    if settings.json {
        let fields = json!({
            "parent": preview.parent, "counts": preview.counts, "missing": preview.missing,
        });
        render::object("preview", fields);
    } else {
        show_missing(settings, &preview.missing, 0);
        let counts = &preview.counts;
        render::line(&format!(
            "would back up {} entries, {} files of {}, and read {}; nothing was written",
            counts.entries,
            counts.files,
            bytes(counts.bytes),
            bytes(counts.read_bytes),
        ));
    }
    if preview.missing.is_empty() { Exit::Complete } else { Exit::Incomplete }
}
