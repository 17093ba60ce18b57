//! `kist restore files`

use serde_json::json;

use crate::archive::plan;
use crate::archive::restore::{List, Report};
use crate::cli::args::{Overwrite, RestoreFiles};
use crate::cli::exit::{Exit, Failure};
use crate::cli::render::{self, bytes};
use crate::cli::settings::{Settings, absolute, snapshot_and_path};
use crate::cli::terminal::Shown;
use crate::job::{find, list, restore};

pub async fn files(settings: &Settings, args: RestoreFiles) -> Result<Exit, Failure> {
    let filter = args.choice.filter()?;
    let (which, path) = snapshot_and_path(&args.snapshot);
    let from = list::tree_path(path.unwrap_or_default())?;
    let target = absolute(&args.target)?;
    let request = restore::Request {
        part: args.volume.map_or(find::Part::Files, find::Part::Volume),
        overwrite: args.overwrite.map(|overwrite| match overwrite {
            Overwrite::Never => plan::Overwrite::Never,
            Overwrite::Changed => plan::Overwrite::Changed,
            Overwrite::Always => plan::Overwrite::Always,
        }),
        delete: args.delete,
        dry_run: args.dry_run,
    };
    let opened = settings.open_to_read(&which).await?;
    let found = find::find(&opened, settings.catalog(opened.catalog_id()).as_ref(), &which, &filter).await?;
    let shown = Shown::start(settings.json);
    let report = restore::files(&opened, &found, &from, &target, &request, shown.clone()).await;
    shown.done();
    let report = report?;
    show(settings, &found.name(), &report, args.dry_run);
    Ok(match (report.lost.is_empty(), report.problems.is_empty()) {
        (false, _) => Exit::Damaged,
        (true, false) => Exit::Incomplete,
        (true, true) => Exit::Complete,
    })
}

fn show(settings: &Settings, snapshot: &str, report: &Report, dry_run: bool) {
    show_list(settings, "lost", &report.lost);
    show_list(settings, "problem", &report.problems);
    if settings.json {
        let fields = json!({
            "snapshot": snapshot, "dryRun": dry_run, "files": report.files, "bytes": report.bytes,
            "written": report.written, "replaced": report.replaced, "kept": report.kept,
            "deleted": report.deleted, "lost": report.lost.listed.len() as u64 + report.lost.more,
            "problems": report.problems.listed.len() as u64 + report.problems.more,
        });
        return render::object("restore", fields);
    }
    for path in &report.deleted {
        render::line(&format!("{} {path}", if dry_run { "would delete" } else { "deleted" }));
    }
    let verb = if dry_run { "would restore" } else { "restored" };
    render::line(&format!(
        "{verb} {} files of {} from snapshot {snapshot}; {} replaced, {} kept, {} deleted",
        report.files,
        bytes(report.bytes),
        report.replaced,
        report.kept,
        report.deleted.len(),
    ));
}

fn show_list(settings: &Settings, kind: &str, list: &List) {
    for item in &list.listed {
        match settings.json {
            true => render::object(kind, json!({ "what": item.what, "why": item.why })),
            false => render::note(&format!("{kind}: {}: {}", item.what, item.why)),
        }
    }
    if list.more > 0 && !settings.json {
        render::note(&format!("{kind}: {} more", list.more));
    }
}
