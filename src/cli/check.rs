//! `kist check`

use serde_json::json;

use crate::cli::args::Check;
use crate::cli::exit::{Exit, Failure, chain};
use crate::cli::render::{self, bytes};
use crate::cli::settings::Settings;
use crate::cli::terminal::Shown;
use crate::format::commit::RootKind;
use crate::format::entry::{TreePath, escape};
use crate::job::Error;
use crate::policy::span::Span;
use crate::repo::{self, Finding, Lost, Reading, Report, Repository, Told, Touched};
use crate::world::Time;

pub async fn run(settings: &Settings, args: Check) -> Result<Exit, Failure> {
    let reading = reading(settings, &args)?;
    let opened = settings.open().await?;
    let shown = Shown::start(settings.json);
    let tell = |told: Told| show_told(settings, &told);
    let report = repo::check(&opened, reading, &tell, shown.as_ref()).await;
    shown.done();
    let report = report?;
    show(settings, &opened, &report, reading.is_some());
    match report.interrupted {
        true => Err(Error::Interrupted.into()),
        // What is known to be damaged is found no more, but what it costs is told.
        false if report.findings + report.touched > 0 => Ok(Exit::Damaged),
        false if report.refused > 0 => Err(refused(report.refused)),
        false => Ok(Exit::Complete),
    }
}

fn refused(packs: u64) -> Failure {
    Failure::other(format!("the store refused {packs} packs: nothing can be said of what is in them")).hint(
        "see whether this key may read them, and whether a rule has moved them to where they can't be read",
    )
}

/// Which packs are to be read whole; none if that was not asked for.
fn reading(settings: &Settings, args: &Check) -> Result<Option<Reading>, Failure> {
    let before = args.older_than.as_deref().map(|text| before(settings, text)).transpose()?;
    let share = args.read_data.as_deref().map(share).transpose()?.flatten();
    let is_asked = args.read_data.is_some() || before.is_some();
    Ok(is_asked.then_some(Reading { share, before }))
}

/// The time so long ago.
pub fn before(settings: &Settings, text: &str) -> Result<Time, Failure> {
    let span = text.parse::<Span>().map_err(|error| Failure::usage(error.to_string()))?;
    Ok(span.before(settings.world.now()))
}

/// A part such as `5%`, in places of the 2^32; none for all.
fn share(text: &str) -> Result<Option<u64>, Failure> {
    let percent = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok();
    match percent.filter(|percent| *percent > 0.0 && *percent <= 100.0) {
        Some(100.0) => Ok(None),
        Some(percent) => Ok(Some((percent / 100.0 * 4_294_967_296.0).ceil() as u64)),
        None => Err(Failure::usage(format!("{text:?} is no part of all")).hint("write 5%, 0.5%, 100%")),
    }
}

/// Shows what was found, or what is lost.
pub fn show_told(settings: &Settings, told: &Told) {
    match told {
        Told::Found(finding) => show_finding(settings, finding),
        Told::Touched(touched) => show_touched(settings, touched),
        Told::Refused { key, why } if settings.json => {
            render::object("refused", json!({ "key": key, "message": why }));
        }
        Told::Refused { key, why } => render::line(&format!("not given: {key}: {why}")),
    }
}

fn show_finding(settings: &Settings, finding: &Finding) {
    if settings.json {
        let fields = json!({
            "kind": finding.kind(), "key": finding.key(),
            "record": finding.record().map(|id| id.to_string()), "message": chain(finding),
        });
        return render::object("finding", fields);
    }
    render::line(&format!("damaged: {}", chain(finding)));
}

fn show_touched(settings: &Settings, touched: &Touched) {
    let path = |path: &TreePath| format!("/{}", escape(&path.to_slashes()));
    let root = match touched.root {
        RootKind::Files => "files",
        RootKind::Manifests => "manifests",
        RootKind::Volume => "volume",
    };
    if settings.json {
        let mut fields = json!({
            "snapshot": touched.snapshot, "root": root, "volume": touched.volume, "because": touched.because,
        });
        match &touched.lost {
            Lost::File { path: file, size, ranges } => {
                fields["path"] = path(file).into();
                fields["size"] = (*size).into();
                let ranges: Vec<_> = ranges.iter().map(|range| json!([range.start, range.end])).collect();
                fields["ranges"] = ranges.into();
            }
            Lost::Entries { after, upto } => {
                fields["after"] = after.as_ref().map(path).into();
                fields["upTo"] = upto.as_ref().map(path).into();
            }
            Lost::Records { count } => fields["records"] = (*count).into(),
        }
        return render::object("touched", fields);
    }
    let part = match (touched.root, &touched.volume) {
        (RootKind::Files, _) => String::new(),
        (_, Some(volume)) => format!("{root} {volume}: "),
        (_, None) => format!("{root}: "),
    };
    let lost = match &touched.lost {
        Lost::File { path: file, size, ranges } => {
            let lost: u64 = ranges.iter().map(|range| range.end - range.start).sum();
            let shown: Vec<_> =
                ranges.iter().map(|range| format!("{} to {}", range.start, range.end)).collect();
            let whole = lost == *size;
            let range = if whole { String::new() } else { format!(", bytes {}", shown.join(", ")) };
            format!("{}: {lost} of {size} bytes{range}", path(file))
        }
        Lost::Entries { after, upto } => {
            let after = after.as_ref().map_or(String::new(), |after| format!(" after {}", path(after)));
            let upto = upto.as_ref().map_or(String::new(), |upto| format!(" up to {}", path(upto)));
            format!("all entries{after}{upto}")
        }
        Lost::Records { count } => format!("{count} records; who can read names is told of what"),
    };
    render::line(&format!("lost in {}: {part}{lost} ({})", touched.snapshot, touched.because));
}

fn show(settings: &Settings, opened: &Repository, report: &Report, read: bool) {
    let unremembered = report.unremembered.as_ref().map(|error| chain(error));
    let opens = opened.keys.can_read_data();
    if settings.json {
        let fields = json!({
            "packs": report.packs, "packBytes": report.pack_bytes, "snapshots": report.snapshots,
            "nodes": report.nodes, "readPacks": report.read_packs, "readBytes": report.read_bytes,
            "records": report.records, "opened": read && opens, "verified": report.verified,
            "remembered": read && unremembered.is_none(), "unremembered": unremembered,
            "refused": report.refused, "findings": report.findings, "touched": report.touched, "interrupted": report.interrupted,
        });
        return render::object("check", fields);
    }
    let (packs, snapshots) = (report.packs, report.snapshots);
    let what = match (report.findings, report.touched) {
        (0, 0) => "no damage".to_owned(),
        (found, _) => format!("{found} findings, {} losses", report.touched),
    };
    render::line(&format!(
        "checked {packs} packs of {} by their lengths, and {snapshots} snapshots: {what}",
        bytes(report.pack_bytes)
    ));
    if read {
        let records = match opens {
            true => format!("opened {} records", report.records),
            false => "records were not opened, which takes the owner's or a reader's key".to_owned(),
        };
        let read = bytes(report.read_bytes);
        render::line(&format!("read {} packs of {read} whole: {records}", report.read_packs));
        if report.verified > 0 {
            render::line(&format!("{} packs are verified now: every writer may use them", report.verified));
        }
    }
    if let Some(why) = unremembered {
        render::note(&format!("kist: what was read is not remembered: {why}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_as_people_write_them() {
        assert_eq!(share("5%").unwrap(), Some(214_748_365));
        assert_eq!(share("50").unwrap(), Some(1 << 31));
        assert_eq!(share("100%").unwrap(), None);
        for wrong in ["0", "-1%", "101%", "", "x", "5%%", "NaN"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
