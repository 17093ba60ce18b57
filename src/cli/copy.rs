//! `kist copy`

use serde_json::json;

use crate::cli::args::Copy as Args;
use crate::cli::backup::{fill_catalog, show_missing};
use crate::cli::exit::{Exit, Failure, chain};
use crate::cli::render::{self, bytes};
use crate::cli::settings::{Elsewhere, Settings};
use crate::cli::terminal::Shown;
use crate::format::summary::Missing;
use crate::job::copy::{Chosen, Copied, Copying, Passed, Plan, Request, is_lost};
use crate::job::find::Which;
use crate::repo::{Snapshot, WriterSettings};

pub async fn run(settings: &Settings, args: Args) -> Result<Exit, Failure> {
    let request = Request {
        chosen: match args.all {
            true => Chosen::All,
            false => Chosen::These(args.snapshots.iter().map(|text| Which::parse(text)).collect()),
        },
        filter: args.choice.filter()?,
        again: args.again,
        writer: WriterSettings::limited(settings.limits.upload),
        kist: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let from = Elsewhere {
        repo: &args.other.from_repo,
        passphrase_file: &args.other.from_passphrase_file,
        key_file: &args.other.from_key_file,
        domain: &args.other.from_domain,
    };
    let source = settings.elsewhere(from)?.open().await?;
    let target = settings.open().await?;
    let (mut copying, plan) = Copying::plan(&source, &target, request).await?;
    let mut exit = show_plan(settings, &plan, args.dry_run);
    let mut count = 0;
    for snapshot in plan.snapshots.iter().filter(|_| !args.dry_run) {
        let shown = Shown::start(settings.json);
        let copied = copying.copy(snapshot, shown.clone()).await;
        shown.done();
        match copied {
            Ok(copied) => {
                show(settings, snapshot, &copied);
                count += 1;
                exit = if copied.lost.is_empty() { exit } else { worse(exit, Exit::Incomplete) };
            }
            // The others may be fine.
            Err(error) if is_lost(&error) => {
                let what = format!("snapshot {}", snapshot.name());
                show_missing(settings, &[Missing { what, why: chain(&error) }], 0);
                exit = Exit::Damaged;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if count > 0 {
        fill_catalog(settings, &target, copying.known(), None).await;
    }
    show_end(settings, &plan, (args.dry_run, count));
    Ok(exit)
}

fn worse(one: Exit, other: Exit) -> Exit {
    if one == Exit::Damaged { one } else { other }
}

fn show_plan(settings: &Settings, plan: &Plan, dry_run: bool) -> Exit {
    show_missing(settings, &plan.unreadable, 0);
    for Passed { snapshot, copy, lost } in &plan.passed {
        if settings.json {
            render::object("passed", json!({ "snapshot": snapshot, "copy": copy, "lost": lost }));
        } else if *lost > 0 {
            render::note(&format!(
                "snapshot {snapshot} is there as {copy}, with {lost} lost; --again tries it again"
            ));
        }
    }
    for snapshot in plan.snapshots.iter().filter(|_| dry_run) {
        let time = render::time(snapshot.commit.time);
        match settings.json {
            true => render::object("toCopy", json!({ "snapshot": snapshot.name(), "time": time })),
            false => render::line(&format!("would copy {} of {time}", snapshot.name())),
        }
    }
    let is_whole = plan.unreadable.is_empty() && plan.passed.iter().all(|passed| passed.lost == 0);
    if is_whole { Exit::Complete } else { Exit::Incomplete }
}

fn show(settings: &Settings, snapshot: &Snapshot, copied: &Copied) {
    show_missing(settings, &copied.lost, copied.more_lost);
    let (counts, complete) = (&copied.summary.counts, copied.snapshot.commit.complete);
    let lost = copied.lost.len() as u64 + copied.more_lost;
    if settings.json {
        let fields = json!({
            "snapshot": snapshot.name(), "copy": copied.snapshot.name(), "complete": complete, "lost": lost,
            "base": copied.summary.parent, "counts": counts,
        });
        return render::object("copied", fields);
    }
    let verdict = match (lost, complete) {
        (0, true) => "complete",
        (0, false) => "incomplete as it was",
        _ => "INCOMPLETE",
    };
    render::line(&format!("copied {} to {} {verdict}", snapshot.name(), copied.snapshot.name()));
    render::line(&format!(
        "  {} entries, {} files of {}; new {}, stored {}",
        counts.entries,
        counts.files,
        bytes(counts.bytes),
        bytes(counts.new_bytes),
        bytes(counts.stored_bytes),
    ));
}

fn show_end(settings: &Settings, plan: &Plan, (dry_run, count): (bool, usize)) {
    let (chosen, passed) = (plan.snapshots.len(), plan.passed.len());
    if settings.json {
        let fields = json!({
            "dryRun": dry_run, "copied": count, "toCopy": chosen, "passed": passed,
            "unreadable": plan.unreadable.len(),
        });
        return render::object("copy", fields);
    }
    let done = match dry_run {
        true => format!("would copy {chosen} snapshots"),
        false => format!("copied {count} snapshots"),
    };
    render::line(&format!("{done}; {passed} were there"));
}
