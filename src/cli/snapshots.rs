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
    let (found, problems) = find::list(&opened, &filter).await?;
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
    let commit = &found.snapshot.commit;
    if settings.json {
        let fields = json!({
            "snapshot": found.snapshot.name(),
            "time": render::time(commit.time),
            "timeNanos": commit.time.0,
            "complete": commit.complete,
            "sourceId": hex(&commit.source.0),
            "writer": commit.certificate.name,
            "summary": found.summary,
        });
        render::object("snapshot", fields);
        return;
    }
    let verdict = if commit.complete { "complete" } else { "INCOMPLETE" };
    let (files, size, what, tags) = match &found.summary {
        Some(summary) => (
            summary.counts.files.to_string(),
            bytes(summary.counts.bytes),
            summary.source.to_string(),
            summary.tags.iter().map(|tag| format!(" #{tag}")).collect(),
        ),
        None => ("-".into(), "-".into(), "(not readable with this key)".into(), String::new()),
    };
    render::line(&format!(
        "{:.8}  {}  {verdict:<10}  {files:<10}  {size:<10}  {} {what}{tags}",
        found.snapshot.name(),
        render::time(commit.time),
        &hex(&commit.source.0)[..8],
    ));
}
