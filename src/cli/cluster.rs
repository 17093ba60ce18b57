//! `kist backup cluster` and `kist restore cluster`

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::cli::args::{BackupCluster, Cluster as ClusterArgs, Priority, RestoreCluster};
use crate::cli::backup::{fill_catalog, show_missing};
use crate::cli::exit::{Exit, Failure};
use crate::cli::render::{self, bytes};
use crate::cli::settings::{Settings, duration, kubeconfigs};
use crate::cli::terminal::Shown;
use crate::cli::verdict;
use crate::cluster::discover::Selection;
use crate::cluster::mover::{Reading, Resources};
use crate::cluster::restore::{Action, DryRun, Options, Plan, Step};
use crate::cluster::{Access, Cluster};
use crate::format::summary::{Summary, Verdict};
use crate::job;
use crate::job::cluster_backup::{self, Done};
use crate::job::cluster_restore::{self, Done as Restored, Prepared, Request, Volume};
use crate::job::find::{self, Which};
use crate::job::hold::Movers;
use crate::repo::Repository;

pub async fn backup(settings: &Settings, args: BackupCluster) -> Result<Exit, Failure> {
    let mut cluster = None;
    let outcome = carry_out(settings, &args, &mut cluster).await;
    verdict::tell(settings, &args, cluster, &outcome).await;
    let (opened, done) = outcome?;
    show_backup(settings, &done);
    fill_catalog(settings, &opened, done.known, None).await;
    Ok(if done.snapshot.commit.complete { Exit::Complete } else { Exit::Incomplete })
}

/// Leaves the cluster with the caller, whatever comes of it.
async fn carry_out(
    settings: &Settings,
    args: &BackupCluster,
    connected: &mut Option<Cluster>,
) -> Result<(Repository, Done), Failure> {
    let movers = movers(settings, &args.cluster)?;
    let delay = args.delay.as_deref().map(duration).transpose()?;
    let unlock = settings.unlock()?;
    // From here on: in a pod nothing but this handler ends us when we are told to end. Before a question for
    // the passphrase it would be in the way.
    let shown = Shown::start(settings.json);
    let begin = async {
        if let Some(delay) = delay {
            render::note(&format!("starts in {} s (--delay)", delay.as_secs()));
            tokio::time::sleep(delay).await;
        }
        let opened = settings.open_with(&unlock).await?;
        Ok::<_, Failure>((opened, connect(&args.cluster).await?))
    };
    let (opened, cluster) = tokio::select! {
        begun = begin => begun?,
        () = shown.cancelled() => return Err(job::Error::Interrupted.into()),
    };
    *connected = Some(cluster.clone());
    let namespaces: BTreeSet<String> = args.namespace.iter().cloned().collect();
    let request = cluster_backup::Request {
        selection: Selection { namespaces: (!namespaces.is_empty()).then_some(namespaces) },
        tags: args.tag.clone(),
        hooks: !args.no_hooks,
        movers,
        kist: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let done = cluster_backup::cluster(&opened, &cluster, request, shown.clone()).await;
    shown.done();
    Ok((opened, done?))
}

pub async fn restore(settings: &Settings, args: RestoreCluster) -> Result<Exit, Failure> {
    let options = Options {
        map_namespaces: pairs(&args.map_namespace, "--map-namespace")?,
        map_classes: pairs(&args.map_storage_class, "--map-storage-class")?,
    };
    let filter = args.choice.filter()?;
    let ready_limit = duration(&args.timeout)?;
    let which = Which::parse(&args.snapshot);
    let opened = settings.open_to_read(&which).await?;
    let found = find::find(&opened, settings.catalog(opened.catalog_id()).as_ref(), &which, &filter).await?;
    let cluster = connect(&args.cluster).await?;
    let mut prepared = cluster_restore::prepare(&opened, &found, &cluster, &options).await?;
    if args.plan {
        cluster_restore::try_out(&cluster, &mut prepared).await?;
        return Ok(show_plan(settings, &found.name(), &prepared));
    }
    let movers = movers(settings, &args.cluster)?;
    let request = Request { movers, ready_limit, accept_loss: args.accept_loss };
    let shown = Shown::start(settings.json);
    let done = cluster_restore::carry_out(&opened, &cluster, &prepared, &request, shown.clone()).await;
    shown.done();
    Ok(show_restore(settings, &found.name(), &done?))
}

pub async fn connect(args: &ClusterArgs) -> Result<Cluster, Failure> {
    let kubeconfigs = kubeconfigs(args.kubeconfig.clone());
    if args.context.is_some() && kubeconfigs.is_empty() {
        return Err(Failure::usage("a context is given, and no kubeconfig was found").hint("set KUBECONFIG"));
    }
    Ok(Cluster::connect(&Access { kubeconfigs, context: args.context.clone() }).await?)
}

fn movers(settings: &Settings, args: &ClusterArgs) -> Result<Movers, Failure> {
    let image = args.mover_image.clone().ok_or_else(|| {
        Failure::usage("no image is given for the helper pods")
            .hint("`make image` builds it; push it to a registry of yours and set KIST_MOVER_IMAGE or --mover-image")
    })?;
    let reading = Reading {
        threads: args.mover_threads,
        gives_way: args.mover_priority == Priority::Low,
        limits: settings.limits.shared_by(args.parallel),
    };
    let resources = Resources { memory_limit: args.mover_memory.clone(), reading, ..Default::default() };
    Ok(Movers {
        image,
        pull_secrets: args.mover_pull_secret.clone(),
        parallel: args.parallel,
        direct: settings.direct()?,
        start_limit: duration(&args.mover_timeout)?,
        resources,
    })
}

/// `OLD=NEW` each.
fn pairs(texts: &[String], option: &str) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |text: &String| {
        let pair = text.split_once('=').filter(|(old, new)| !old.is_empty() && !new.is_empty());
        let pair = pair.ok_or_else(|| Failure::usage(format!("{option} {text:?} is not OLD=NEW")))?;
        Ok((pair.0.to_owned(), pair.1.to_owned()))
    };
    texts.iter().map(pair).collect()
}

fn show_backup(settings: &Settings, done: &Done) {
    let summary = &done.summary;
    let Some(cluster) = &summary.cluster else { return };
    show_missing(settings, &summary.missing, summary.more_missing);
    if settings.json {
        let fields = json!({
            "snapshot": done.snapshot.name(),
            "complete": done.snapshot.commit.complete,
            "parent": summary.parent,
            "manifests": cluster.manifests,
            "excluded": cluster.excluded,
            "volumes": cluster.volumes,
            "hooks": cluster.hooks,
            "remarks": cluster.remarks,
            "swept": done.swept,
            "counts": summary.counts,
            "missing": summary.missing.len() as u64 + summary.more_missing,
        });
        return render::object("backup", fields);
    }
    for said in &done.swept {
        render::note(&format!("swept: {said}"));
    }
    for remark in &cluster.remarks {
        render::note(&format!("note: {remark}"));
    }
    for hook in cluster.hooks.iter().filter(|hook| !hook.ok) {
        render::note(&format!("{}-hook of pod {} failed: {}", hook.phase, hook.pod, hook.message));
    }
    let verdict = if done.snapshot.commit.complete { "complete" } else { "INCOMPLETE" };
    render::line(&format!("snapshot {} {verdict}", done.snapshot.name()));
    show_volumes(summary);
}

fn show_volumes(summary: &Summary) {
    let Some(cluster) = &summary.cluster else { return };
    for volume in &cluster.volumes {
        let verdict = match volume.verdict {
            Verdict::Frozen => "frozen",
            Verdict::Quiet => "quiet",
            Verdict::Torn => "TORN",
        };
        let counts = &volume.counts;
        render::line(&format!(
            "  volume {}/{}: {verdict}, {} files of {}, read {}, new {}, {} as {}",
            volume.namespace,
            volume.name,
            counts.files,
            bytes(counts.bytes),
            bytes(counts.read_bytes),
            bytes(counts.new_bytes),
            volume.transport,
            volume.rung,
        ));
        if let Some(changed) = &volume.changed {
            render::note(&format!(
                "torn: volume {}/{}: {changed}; its files may be of different times: freeze it with hooks",
                volume.namespace, volume.name
            ));
        }
    }
    let counts = &summary.counts;
    render::line(&format!(
        "  {} manifests, {} volumes of {}; new {}, stored {}",
        cluster.manifests,
        cluster.volumes.len(),
        bytes(counts.bytes),
        bytes(counts.new_bytes),
        bytes(counts.stored_bytes),
    ));
}

fn show_plan(settings: &Settings, snapshot: &str, prepared: &Prepared) -> Exit {
    let plan = &prepared.plan;
    let creates = plan.steps.iter().filter(|step| step.action == Action::Create).count();
    if settings.json {
        for step in &plan.steps {
            render::object("step", step_fields(step));
        }
        let fields = json!({
            "snapshot": snapshot, "create": creates, "steps": plan.steps.len(), "claims": plan.claims,
            "obstacles": plan.obstacles, "remarks": plan.remarks,
        });
        render::object("plan", fields);
    } else {
        plan.steps.iter().for_each(show_step);
        for claim in &plan.claims {
            render::line(&format!("fill    volume {}/{}", claim.namespace, claim.name));
        }
        plan.remarks.iter().for_each(|remark| render::note(&format!("note: {remark}")));
        plan.obstacles.iter().for_each(|obstacle| render::note(&format!("in the way: {obstacle}")));
        render::line(&format!(
            "snapshot {snapshot}: {creates} of {} objects would be created, {} volumes filled; nothing was changed",
            plan.steps.len(),
            plan.claims.len()
        ));
    }
    plan_exit(plan)
}

fn plan_exit(plan: &Plan) -> Exit {
    let refused = |step: &Step| {
        matches!(step.action, Action::Fail { .. }) || matches!(step.dry_run, Some(DryRun::Refused { .. }))
    };
    match (plan.obstacles.is_empty(), plan.steps.iter().any(refused)) {
        (false, _) => Exit::Usage,
        (true, true) => Exit::Incomplete,
        (true, false) => Exit::Complete,
    }
}

/// The word for what is done, and why.
fn action(step: &Step) -> (&'static str, &str) {
    match &step.action {
        Action::Create => ("create", ""),
        Action::Unsuspend => ("unsuspend", ""),
        Action::Skip { why } => ("skip", why),
        Action::Fail { why } => ("fail", why),
    }
}

fn step_fields(step: &Step) -> serde_json::Value {
    let (verb, why) = action(step);
    json!({
        "stage": step.stage, "action": verb, "why": why, "object": step.key.to_string(), "to": step.to.to_string(),
        "changes": step.changes, "dryRun": step.dry_run,
    })
}

fn show_step(step: &Step) {
    let (verb, why) = action(step);
    let mut line = format!("{verb:<9} {}", step.to);
    for more in step.changes.iter().map(String::as_str).chain((!why.is_empty()).then_some(why)) {
        line = format!("{line}; {more}");
    }
    match &step.dry_run {
        Some(DryRun::Refused { why }) => line = format!("{line}; REFUSED: {why}"),
        Some(DryRun::Accepted) => line += "; the server accepts it",
        Some(DryRun::Unknown { .. }) | None => {}
    }
    render::line(&line);
}

fn show_restore(settings: &Settings, snapshot: &str, done: &Restored) -> Exit {
    let objects = &done.objects;
    if settings.json {
        let kinds =
            [("created", &objects.created), ("changed", &objects.changed), ("skipped", &objects.skipped)];
        for (action, list) in kinds.into_iter().chain([("failed", &objects.failed)]) {
            for object in list {
                render::object(
                    "object",
                    json!({ "action": action, "object": object.object, "why": object.why }),
                );
            }
        }
        let fields = json!({
            "snapshot": snapshot, "created": objects.created.len(), "changed": objects.changed.len(),
            "skipped": objects.skipped.len(), "failed": objects.failed.len(), "volumes": done.volumes,
            "notReady": done.not_ready, "heldBack": done.held_back, "interrupted": done.interrupted,
            "swept": done.swept,
        });
        render::object("restore", fields);
    } else {
        show_restored(snapshot, done);
    }
    let lost = done.volumes.iter().any(|volume| !volume.restored.lost.is_empty());
    let partly = |volume: &Volume| {
        volume.failure.is_some() || !volume.restored.problems.is_empty() || volume.restored.more_problems > 0
    };
    let incomplete = done.volumes.iter().any(partly)
        || !objects.failed.is_empty()
        || !done.not_ready.is_empty()
        || done.held_back;
    match (lost, incomplete) {
        _ if done.interrupted => Exit::Interrupted,
        (true, _) => Exit::Damaged,
        (false, true) => Exit::Incomplete,
        (false, false) => Exit::Complete,
    }
}

fn show_restored(snapshot: &str, done: &Restored) {
    let objects = &done.objects;
    for skipped in &objects.skipped {
        render::line(&format!("skipped {}: {}", skipped.object, skipped.why));
    }
    for volume in &done.volumes {
        show_volume(volume);
    }
    for failed in &objects.failed {
        render::note(&format!("failed: {}: {}", failed.object, failed.why));
    }
    for waiting in &done.not_ready {
        render::note(&format!("not ready: {}: {}", waiting.object, waiting.why));
    }
    if done.interrupted {
        render::note("interrupted: what was created stays; remove the namespaces before you restore again");
    }
    if done.held_back {
        render::note(
            "no workload was created, because a volume is not whole (--accept-loss starts them on what is there)",
        );
    }
    render::line(&format!(
        "snapshot {snapshot}: {} objects created, {} skipped, {} failed; {} volumes filled; {}",
        objects.created.len(),
        objects.skipped.len(),
        objects.failed.len(),
        done.volumes.iter().filter(|volume| volume.failure.is_none()).count(),
        if done.not_ready.is_empty() && !done.held_back && !done.interrupted {
            "all workloads are ready"
        } else {
            "NOT READY"
        },
    ));
}

fn show_volume(volume: &Volume) {
    let place = format!("{}/{}", volume.namespace, volume.name);
    if let Some(failure) = &volume.failure {
        return render::note(&format!("not filled: volume {place}: {failure}"));
    }
    let restored = &volume.restored;
    for (kind, list, more) in [
        ("lost", &restored.lost, restored.more_lost),
        ("problem", &restored.problems, restored.more_problems),
        ("note", &restored.remarks, 0),
    ] {
        for item in list {
            render::note(&format!("{kind}: volume {place}: {}: {}", item.what, item.why));
        }
        if more > 0 {
            render::note(&format!("{kind}: volume {place}: {more} more"));
        }
    }
    render::line(&format!("filled volume {place}: {} files of {}", restored.files, bytes(restored.bytes)));
}
