//! `kist snapshots`

use serde_json::json;

use crate::cli::args::Snapshots;
use crate::cli::exit::{Exit, Failure, chain};
use crate::cli::render::{self, bytes};
use crate::cli::settings::Settings;
use crate::format::id::hex;
use crate::job::find::{self, Described};

pub async fn run(settings: &Settings, args: Snapshots) -> Result<Exit, Failure> {
    let filter = args.choice.filter()?;
    let opened = settings.open().await?;
    let (found, problems) =
        find::list(&opened, settings.catalog(opened.catalog_id()).as_ref(), &filter).await?;
    for problem in &problems {
        render::note(&format!("damaged: {}", chain(problem)));
    }
    if !settings.json && !found.is_empty() {
        render::line("snapshot  time                  verdict     files       size        source");
    }
    for found in &found {
        show(settings, found);
    }
    if !settings.json {
        render::line(&format!("{} snapshots", found.len()));
    }
    Ok(if problems.is_empty() { Exit::Complete } else { Exit::Damaged })
}

fn show(settings: &Settings, found: &Described) {
    if settings.json {
        let fields = json!({
            "snapshot": found.name(),
            "time": render::time(found.time),
            "timeNanos": found.time.0,
            "complete": found.complete,
            "sourceId": hex(&found.source.0),
            "source": found.info.as_ref().map(|info| &info.source),
            "tags": found.info.as_ref().map(|info| &info.tags),
            "files": found.info.as_ref().map(|info| info.files),
            "bytes": found.info.as_ref().map(|info| info.bytes),
        });
        render::object("snapshot", fields);
        return;
    }
    let verdict = if found.complete { "complete" } else { "INCOMPLETE" };
    let (files, size, what, tags) = match &found.info {
        Some(info) => (
            info.files.to_string(),
            bytes(info.bytes),
            info.source.to_string(),
            info.tags.iter().map(|tag| format!(" #{tag}")).collect(),
        ),
        None => ("-".into(), "-".into(), "(not readable with this key)".into(), String::new()),
    };
    render::line(&format!(
        "{:.8}  {}  {verdict:<10}  {files:<10}  {size:<10}  {} {what}{tags}",
        found.name(),
        render::time(found.time),
        &hex(&found.source.0)[..8],
    ));
}
