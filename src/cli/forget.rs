//! `kist forget` and `kist recall`

use serde_json::json;

use crate::cli::args::{Forget, Recall};
use crate::cli::exit::{Exit, Failure};
use crate::cli::render;
use crate::cli::settings::Settings;
use crate::format::id::hex;
use crate::job::forget::{self, Decided, What};

pub async fn run(settings: &Settings, args: Forget) -> Result<Exit, Failure> {
    let what = match args.snapshots.is_empty() {
        true => What::Policy { policy: Box::new(args.keep.policy()?), source: args.source },
        false if args.keep.is_given() => {
            return Err(Failure::usage("name snapshots, or say what to keep; not both"));
        }
        false => What::Named(args.snapshots),
    };
    let opened = settings.open().await?;
    let plan = forget::plan(&opened, &what, args.dry_run).await?;
    plan.iter().for_each(|decided| show(settings, decided));
    let going = plan.iter().filter(|decided| !decided.keep).count();
    if !args.dry_run {
        forget::carry_out(&opened, &plan).await?;
    }
    if settings.json {
        let fields = json!({ "kept": plan.len() - going, "forgotten": going, "dryRun": args.dry_run });
        render::object("forget", fields);
        return Ok(Exit::Complete);
    }
    let would = if args.dry_run { "would be " } else { "" };
    render::line(&format!("{} kept, {going} {would}forgotten", plan.len() - going));
    if going > 0 && !args.dry_run {
        render::line(
            "`kist recall` brings them back until the next `kist prune`, which gives their space back",
        );
    }
    Ok(Exit::Complete)
}

fn show(settings: &Settings, decided: &Decided) {
    let (snapshot, commit) = (&decided.snapshot, &decided.snapshot.commit);
    if settings.json {
        let fields = json!({
            "snapshot": snapshot.name(), "time": render::time(commit.time), "complete": commit.complete,
            "sourceId": hex(&commit.source.0), "source": decided.source, "keep": decided.keep, "why": decided.why,
        });
        render::object("decision", fields);
        return;
    }
    let verdict = if decided.keep { "keep  " } else { "forget" };
    let source = decided.source.clone().unwrap_or_default();
    render::line(&format!(
        "{verdict}  {:.8}  {}  {} {source}: {}",
        snapshot.name(),
        render::time(commit.time),
        &hex(&commit.source.0)[..8],
        decided.why
    ));
}

pub async fn recall(settings: &Settings, args: Recall) -> Result<Exit, Failure> {
    let opened = settings.open().await?;
    let names = forget::recall(&opened, &args.snapshots).await?;
    for name in &names {
        match settings.json {
            true => render::object("recalled", json!({ "snapshot": name })),
            false => render::line(&format!("{name:.8} is back")),
        }
    }
    Ok(Exit::Complete)
}
