//! `kist hold`

use serde_json::json;

use crate::cli::args::{HoldAdd, HoldWhat};
use crate::cli::exit::{Exit, Failure};
use crate::cli::render;
use crate::cli::settings::Settings;
use crate::format::id::hex;
use crate::format::log::Scope;
use crate::job::forget::{snapshot_id, source_id};
use crate::repo::{self, Log, Repository, Snapshots};

pub async fn run(settings: &Settings, what: HoldWhat) -> Result<Exit, Failure> {
    let opened = settings.open().await?;
    match what {
        HoldWhat::Add(args) => add(settings, &opened, args).await,
        HoldWhat::List => list(settings, &opened).await,
        HoldWhat::Lift { ids } => lift(&opened, &ids).await,
    }
}

async fn add(settings: &Settings, opened: &Repository, args: HoldAdd) -> Result<Exit, Failure> {
    let scope = match (&args.snapshot, &args.source) {
        (Some(name), _) => Scope::Snapshot(snapshot_id(opened, name).await?),
        (None, Some(source)) => Scope::Source(source_id(opened, source).await?.0),
        (None, None) => Scope::All,
    };
    let id = hex(&repo::hold(opened, scope, &args.note).await?);
    match settings.json {
        true => render::object("hold", json!({ "id": id, "scope": shown(scope), "note": args.note })),
        false => render::line(&format!("{} is held until `kist hold lift {:.8}`", shown(scope), id)),
    }
    Ok(Exit::Complete)
}

async fn list(settings: &Settings, opened: &Repository) -> Result<Exit, Failure> {
    let log = Log::load(opened).await?;
    for hold in log.state.holds.values() {
        let (id, scope) = (hex(&hold.id), shown(hold.scope));
        match settings.json {
            true => render::object("hold", json!({ "id": id, "scope": scope, "note": hold.note })),
            false => render::line(&format!("{id:.8}  {scope}: {}", hold.note.escape_debug())),
        }
    }
    let snapshots = Snapshots::load(opened).await?;
    let by_commit = |snapshot: &&repo::Snapshot| snapshot.commit.held && !log.fact(snapshot.id).lifted;
    for snapshot in snapshots.all.iter().filter(by_commit) {
        let (id, scope) = (snapshot.name(), shown(Scope::Snapshot(snapshot.id)));
        match settings.json {
            true => render::object("hold", json!({ "id": id, "scope": scope, "note": null })),
            false => render::line(&format!("{id:.8}  {scope}: held since it was made")),
        }
    }
    Ok(Exit::Complete)
}

async fn lift(opened: &Repository, names: &[String]) -> Result<Exit, Failure> {
    let log = Log::load(opened).await?;
    let snapshots = Snapshots::load(opened).await?;
    let mut ids = Vec::new();
    for name in names {
        let holds = log.state.holds.keys().filter(|id| hex(*id).starts_with(name.as_str())).copied();
        let held = snapshots.all.iter().filter(|snapshot| snapshot.commit.held);
        let held = held.filter(|snapshot| snapshot.name().starts_with(name.as_str()));
        let fits: Vec<[u8; 16]> = holds.chain(held.map(|snapshot| snapshot.id.0)).collect();
        match fits.as_slice() {
            [one] => ids.push(*one),
            [] => return Err(Failure::usage(format!("there is no hold {name}")).hint("see `kist hold list`")),
            _ => {
                return Err(Failure::usage(format!("{name} fits several holds")).hint("see `kist hold list`"));
            }
        }
    }
    repo::lift(opened, &ids).await?;
    render::line(&format!("lifted {}", names.join(", ")));
    Ok(Exit::Complete)
}

fn shown(scope: Scope) -> String {
    match scope {
        Scope::All => "everything".to_owned(),
        Scope::Source(id) => format!("source {:.8}", hex(&id)),
        Scope::Snapshot(id) => format!("snapshot {:.8}", id.snapshot_name()),
    }
}
