//! `kist repair`

use serde_json::json;

use crate::cli::args::Repair;
use crate::cli::backup::show_missing;
use crate::cli::check::{before, show_told};
use crate::cli::exit::{Exit, Failure};
use crate::cli::render::{self, bytes};
use crate::cli::settings::{Elsewhere, Settings, duration};
use crate::cli::terminal::Shown;
use crate::job::repair::{Cut, Outcome, Request, Step, run as repair};
use crate::repo::{PruneSettings, Reading, RepairPlan, Repaired, Repository};
use crate::world::Time;

pub async fn run(settings: &Settings, args: Repair) -> Result<Exit, Failure> {
    let reading = match args.structure_only {
        true => None,
        false => Some(Reading { share: None, before: older_than(settings, &args.older_than)? }),
    };
    let waiting = PruneSettings {
        silence: duration(&args.silence)?,
        patience: duration(&args.wait)?,
        ..Default::default()
    };
    let other = other(settings, &args).await?;
    let opened = settings.open().await?;
    let request = Request {
        reading,
        waiting,
        other: other.as_ref(),
        cut: args.cut,
        dry_run: args.dry_run,
        kist: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let shown = Shown::start(settings.json);
    let tell = |step: Step<'_>| shown.aside(|| show(settings, &step, args.dry_run));
    let repaired = repair(&opened, request, &tell, shown.clone()).await;
    shown.done();
    Ok(show_end(settings, &repaired?, args.dry_run))
}

/// None: all packs, whenever they were read.
fn older_than(settings: &Settings, text: &str) -> Result<Option<Time>, Failure> {
    if text == "0d" { Ok(None) } else { before(settings, text).map(Some) }
}

async fn other(settings: &Settings, args: &Repair) -> Result<Option<Repository>, Failure> {
    let Some(repo) = &args.from_repo else { return Ok(None) };
    let from = Elsewhere {
        repo,
        passphrase_file: &args.from_passphrase_file,
        key_file: &args.from_key_file,
        domain: &args.from_domain,
    };
    Ok(Some(settings.elsewhere(from)?.open().await?))
}

fn show(settings: &Settings, step: &Step<'_>, dry_run: bool) {
    match step {
        Step::Told(told) => show_told(settings, told),
        Step::Planned(plan) => show_plan(settings, plan, dry_run),
        Step::Repaired(repaired) => show_repaired(settings, repaired),
        Step::Healed { snapshot, from } => {
            let snapshot = snapshot.name();
            match settings.json {
                true => render::object("healed", json!({ "snapshot": snapshot, "from": from })),
                false => render::line(&format!("snapshot {snapshot} is whole again, by its copy {from}")),
            }
        }
        Step::NoHelp { snapshot, why } => {
            let snapshot = snapshot.name();
            match settings.json {
                true => render::object("not-healed", json!({ "snapshot": snapshot, "why": why })),
                false => {
                    render::note(&format!("snapshot {snapshot}: the other repository is no help: {why}"))
                }
            }
        }
        Step::Cut(cut) => show_cut(settings, cut),
    }
}

fn show_plan(settings: &Settings, plan: &RepairPlan, dry_run: bool) {
    if settings.json {
        let fields = json!({
            "closed": plan.closed, "unusable": plan.unusable, "damagedPacks": plan.damaged.len(),
            "unnamedPacks": plan.unnamed.len(), "unnamedBytes": plan.unnamed_bytes,
        });
        return render::object("repair-plan", fields);
    }
    let would =
        |done: &str, planned: &str| if dry_run { format!("would {planned}") } else { done.to_owned() };
    if let Some(why) = &plan.closed {
        render::line(&format!("the history does not hold: {why}"));
        render::line(&would(
            "beginning it anew behind what can be read",
            "begin it anew behind what can be read",
        ));
        if dry_run {
            render::line("what else is damaged shows when that is done");
        }
        return;
    }
    if !plan.damaged.is_empty() {
        let what = format!("take what is whole out of {} damaged packs", plan.damaged.len());
        render::line(&would(&what.replacen("take", "taking", 1), &what));
    }
    if !plan.unnamed.is_empty() {
        let (packs, len) = (plan.unnamed.len(), bytes(plan.unnamed_bytes));
        let what = format!("look into {packs} packs of {len} that no index names");
        render::line(&would(&what.replacen("look", "looking", 1), &what));
    }
    if !plan.unusable.is_empty() {
        let what =
            format!("begin the history anew behind {} objects that can't be used", plan.unusable.len());
        render::line(&would(&what.replacen("begin", "beginning", 1), &what));
    }
}

fn show_repaired(settings: &Settings, repaired: &Repaired) {
    let given_up: Vec<String> = repaired.given_up.iter().map(|id| id.snapshot_name()).collect();
    if settings.json {
        let fields = json!({
            "namedPacks": repaired.named, "copiedRecords": repaired.copied, "damagedPacks": repaired.damaged,
            "lost": repaired.lost, "givenUp": given_up, "fenced": repaired.fenced,
            "waitingFor": repaired.waiting,
        });
        return render::object("repaired", fields);
    }
    if repaired.named + repaired.copied > 0 {
        render::line(&format!(
            "{} packs are in the index again, {} records were copied",
            repaired.named, repaired.copied
        ));
    }
    if repaired.damaged > 0 {
        render::line(&format!(
            "{} packs count as damaged now: the next backup uploads again what was in them",
            repaired.damaged
        ));
    }
    for lost in &repaired.lost {
        render::line(&format!("left behind: {lost}"));
    }
    for snapshot in given_up {
        render::line(&format!("left behind: snapshot {snapshot}, of which nothing can be read"));
    }
    if repaired.fenced > 0 {
        render::line(&format!("{} sessions had gone silent and were fenced", repaired.fenced));
    }
}

fn show_cut(settings: &Settings, cut: &Cut<'_>) {
    let old = cut.snapshot.name();
    show_missing(settings, &cut.lost, cut.more_lost);
    if settings.json {
        let lost = cut.lost.len() as u64 + cut.more_lost;
        let fields = json!({ "snapshot": old, "made": cut.made, "lost": lost, "kept": cut.kept });
        return render::object("cut", fields);
    }
    render::line(&match &cut.made {
        Some(made) => format!("snapshot {old} was made anew as {made}, without what is lost"),
        None => format!("nothing is left of snapshot {old}"),
    });
    match &cut.kept {
        Some(why) => render::note(&format!("snapshot {old} is not forgotten: {why}")),
        None => render::line(&format!("snapshot {old} is forgotten")),
    }
}

fn show_end(settings: &Settings, outcome: &Outcome, dry_run: bool) -> Exit {
    let lost: Vec<String> = outcome.lost.iter().map(|snapshot| snapshot.name()).collect();
    let is_left = outcome.waiting.is_some() || !outcome.refused.is_empty() || !lost.is_empty();
    let exit = match is_left || (dry_run && !outcome.was_sound) {
        true => Exit::Damaged,
        false => Exit::Complete,
    };
    if settings.json {
        let fields = json!({
            "dryRun": dry_run, "sound": outcome.was_sound, "stillLost": lost, "refused": outcome.refused,
            "waitingFor": outcome.waiting,
        });
        render::object("repair", fields);
        return exit;
    }
    for commit in &outcome.refused {
        render::line(&format!("not given up: {commit}"));
    }
    if !outcome.refused.is_empty() {
        render::line(
            "put it back from a copy of the store, or go on without these snapshots: `kist repair --cut`",
        );
    }
    if let Some(sessions) = outcome.waiting {
        render::line(&format!(
            "{sessions} backups are still at work: run `kist repair` again when they have ended"
        ));
    } else if outcome.was_sound {
        render::line("nothing is damaged");
    } else if dry_run {
        render::line("nothing was changed");
    } else if lost.is_empty() && outcome.refused.is_empty() {
        render::line("every snapshot is whole; `kist prune` deletes what is of no use any more");
    } else if !lost.is_empty() {
        render::line(&format!("{} snapshots are still not whole: {}", lost.len(), lost.join(", ")));
        render::line(
            "what still exists comes back with the next backup of the same source; then run `kist check`",
        );
        render::line(
            "`kist repair --from-repo` takes it from a copy, `kist repair --cut` goes on without it",
        );
    }
    exit
}
