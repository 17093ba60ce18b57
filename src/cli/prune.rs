//! `kist prune`

use serde_json::json;

use crate::cli::args::Prune;
use crate::cli::exit::{Exit, Failure};
use crate::cli::pace::size;
use crate::cli::render::{self, bytes};
use crate::cli::settings::{Settings, duration};
use crate::cli::terminal::Shown;
use crate::progress::{Progress, Unit};
use crate::repo::{self, Left, Limits, PrunePlan, PruneSettings, PruneStep, Pruned};

pub async fn run(settings: &Settings, args: Prune) -> Result<Exit, Failure> {
    let limits = Limits {
        max_repack_bytes: args.max_repack.as_deref().map_or(Ok(u64::MAX), size)?,
        min_used_percent: args.min_used.into(),
        ..Default::default()
    };
    let how = PruneSettings {
        limits,
        silence: duration(&args.silence)?,
        patience: duration(&args.wait)?,
        grace: args.grace.as_deref().map_or(Ok(std::time::Duration::ZERO), duration)?,
    };
    let opened = settings.open().await?;
    if args.dry_run {
        match repo::prune_plan(&opened, limits).await? {
            Some(plan) => show_plan(settings, &plan),
            None => render::note("a prune is under way: `kist prune` would go on with it"),
        }
        return Ok(Exit::Complete);
    }
    let shown = Shown::start(settings.json);
    let told = |step: PruneStep<'_>| match step {
        PruneStep::Planned(plan) => shown.aside(|| show_plan(settings, plan)),
        PruneStep::Copied(bytes) => shown.advance(Unit::PackBytes, bytes),
    };
    let pruned = tokio::select! {
        pruned = repo::prune(&opened, how, &told) => pruned,
        () = shown.cancelled() => return Err(crate::job::Error::Interrupted.into()),
    };
    shown.done();
    show(settings, &pruned?);
    Ok(Exit::Complete)
}

fn show_plan(settings: &Settings, plan: &PrunePlan) {
    let repacked = plan.repacked().count();
    if settings.json {
        let fields = json!({
            "totalBytes": plan.total_bytes, "usedBytes": plan.used_bytes,
            "unusedPacks": plan.unused.len(), "unusedBytes": plan.unused_bytes, "orphans": plan.orphans,
            "repackPacks": repacked, "repackBytes": plan.repack_bytes, "repackUsedBytes": plan.repack_used_bytes,
            "beyondBudget": plan.beyond_budget, "freedBytes": plan.freed_bytes(),
        });
        render::object("prune-plan", fields);
        return;
    }
    let (total, used) = (bytes(plan.total_bytes), bytes(plan.used_bytes));
    render::line(&format!("{used} of {total} are used; about {} come free:", bytes(plan.freed_bytes())));
    let orphans = match plan.orphans {
        0 => String::new(),
        orphans => format!(", {orphans} of them left behind by runs that died"),
    };
    render::line(&format!(
        "  {} packs of {} are not used{orphans}",
        plan.unused.len(),
        bytes(plan.unused_bytes)
    ));
    render::line(&format!(
        "  {repacked} packs of {} are rewritten to {}",
        bytes(plan.repack_bytes),
        bytes(plan.repack_used_bytes)
    ));
    if plan.beyond_budget > 0 {
        render::line(&format!("  {} more packs are worth it, and beyond --max-repack", plan.beyond_budget));
    }
}

fn show(settings: &Settings, pruned: &Pruned) {
    let waiting = pruned.left.map(|Left::Sessions(sessions)| sessions);
    if settings.json {
        let fields = json!({
            "sweptPacks": pruned.swept_packs, "sweptBytes": pruned.swept_bytes, "fenced": pruned.fenced,
            "waitingPacks": pruned.waiting, "retained": pruned.retained, "waitingFor": waiting,
        });
        render::object("prune", fields);
        return;
    }
    if pruned.fenced > 0 {
        render::line(&format!("{} sessions had gone silent and were fenced", pruned.fenced));
    }
    if let Some(sessions) = waiting {
        render::line(&format!(
            "{sessions} backups are still at work: the next `kist prune` goes on with this one"
        ));
        return;
    }
    let swept = format!("{} packs, {}", pruned.swept_packs, bytes(pruned.swept_bytes));
    match pruned.waiting {
        0 => render::line(&format!("deleted {swept}")),
        waiting => render::line(&format!(
            "swept {swept}; {waiting} packs stay until --grace is over: a later `kist prune` deletes them"
        )),
    }
    if pruned.retained > 0 {
        let retained = pruned.retained;
        render::line(&format!("{retained} objects are retained by the store: a later prune deletes them"));
    }
}
