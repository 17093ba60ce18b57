//! `kist check`

use serde_json::json;

use crate::cli::args::Check;
use crate::cli::exit::{Exit, Failure, chain};
use crate::cli::render::{self, bytes};
use crate::cli::settings::Settings;
use crate::cli::terminal::Shown;
use crate::progress::{Progress, Unit};
use crate::repo;

pub async fn run(settings: &Settings, args: Check) -> Result<Exit, Failure> {
    let opened = settings.open().await?;
    let shown = Shown::start(settings.json);
    let progress = |bytes| shown.advance(Unit::PackBytes, bytes);
    let report = tokio::select! {
        report = repo::check(&opened, args.read_data, &progress) => report,
        () = shown.cancelled() => return Err(crate::job::Error::Interrupted.into()),
    };
    shown.done();
    let report = report?;
    for finding in &report.findings {
        match settings.json {
            true => render::object("finding", json!({ "message": chain(finding) })),
            false => render::line(&format!("damaged: {}", chain(finding))),
        }
    }
    if settings.json {
        let fields = json!({
            "packs": report.packs, "packBytes": report.pack_bytes, "snapshots": report.snapshots,
            "nodes": report.nodes, "records": report.records, "findings": report.findings.len(),
        });
        render::object("check", fields);
    } else {
        let records = match args.read_data {
            true => format!(", opened {} records", report.records),
            false => String::new(),
        };
        render::line(&format!(
            "checked {} packs of {} and {} snapshots{records}: {}",
            report.packs,
            bytes(report.pack_bytes),
            report.snapshots,
            match report.findings.len() {
                0 => "no damage".to_owned(),
                found => format!("{found} findings"),
            }
        ));
    }
    Ok(if report.findings.is_empty() { Exit::Complete } else { Exit::Damaged })
}
