//! How a backup in a pod says how it went: the pod's termination message, and an event about the pod.
//!
//! Invariant: it is told whatever happens, failures above all, and a verdict that can't be told changes
//! nothing of the outcome. No contents of objects are in it, only their names.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::args::BackupCluster;
use crate::cli::cluster::connect;
use crate::cli::exit::{Exit, Failure};
use crate::cli::render;
use crate::cli::settings::Settings;
use crate::cluster::Cluster;
use crate::cluster::event::{self, Event, OwnPod};
use crate::format::summary::{Missing, Summary, Volume};
use crate::job::cluster_backup::Done;
use crate::repo::{Repository, chain};

/// Of a termination message, by the kubelet.
const MESSAGE_BYTES: usize = 4096;
/// Of one name or reason in it.
const TEXT_BYTES: usize = 200;
/// Of an error, which the rest of a message has to bear.
const ERROR_BYTES: usize = 1000;
/// Volumes in a message, if they fit.
const VOLUMES: usize = 32;
/// Things missing in a message; all of them are in the snapshot and in the pod's log.
const MISSING: usize = 5;
/// A run that could not reach the cluster must not hang on telling it so.
const EVENT_LIMIT: Duration = Duration::from_secs(30);

/// What is told of an outcome.
struct Told<'a> {
    exit: Exit,
    snapshot: Option<String>,
    summary: Option<&'a Summary>,
    failure: Option<&'a Failure>,
}

/// Tells it to whom the arguments name: nobody, outside of a pod.
pub async fn tell(
    settings: &Settings,
    args: &BackupCluster,
    connected: Option<Cluster>,
    outcome: &Result<(Repository, Done), Failure>,
) {
    let told = match outcome {
        Ok((_, done)) => Told {
            exit: if done.snapshot.commit.complete { Exit::Complete } else { Exit::Incomplete },
            snapshot: Some(done.snapshot.name()),
            summary: Some(&done.summary),
            failure: None,
        },
        Err(failure) => Told { exit: failure.exit, snapshot: None, summary: None, failure: Some(failure) },
    };
    if let Some(path) = &args.report.termination_log
        && let Err(error) = std::fs::write(path, message(&told))
    {
        render::note(&format!("kist: the verdict can't be written to {}: {error}", path.display()));
    }
    let Some(pod) = &args.report.event else { return };
    let event = event(&told);
    let telling = tell_event(settings, args, connected, pod, &event);
    let failed = match tokio::time::timeout(EVENT_LIMIT, telling).await {
        Ok(Ok(())) => return,
        Ok(Err(failure)) => failure.message,
        Err(_) => format!("the cluster did not answer in {} s", EVENT_LIMIT.as_secs()),
    };
    render::note(&format!("kist: no event was made of the verdict: {failed}"));
}

async fn tell_event(
    settings: &Settings,
    args: &BackupCluster,
    connected: Option<Cluster>,
    pod: &str,
    event: &Event,
) -> Result<(), Failure> {
    let pod = OwnPod::parse(pod)
        .ok_or_else(|| Failure::usage(format!("KIST_EVENT is no namespace/pod/uid: {pod:?}")))?;
    let cluster = match connected {
        Some(cluster) => cluster,
        None => connect(&args.cluster).await?,
    };
    event::tell(&cluster, &settings.world, &pod, event).await.map_err(|error| Failure::other(chain(&error)))
}

fn event(told: &Told<'_>) -> Event {
    let (is_warning, reason) = match told.exit {
        Exit::Complete => (false, "BackupComplete"),
        Exit::Incomplete => (true, "BackupIncomplete"),
        _ => (true, "BackupFailed"),
    };
    Event { is_warning, reason, note: note(told) }
}

/// One sentence, the most important first: what is too long loses its end.
fn note(told: &Told<'_>) -> String {
    if let Some(failure) = told.failure {
        return format!("no snapshot was made: {}", failure.message);
    }
    let (Some(snapshot), Some(summary)) = (&told.snapshot, told.summary) else { return String::new() };
    let (manifests, volumes) =
        summary.cluster.as_ref().map_or((0, 0), |cluster| (cluster.manifests, cluster.volumes.len()));
    let mut note = match count_missing(summary) {
        0 => format!("snapshot {snapshot} is complete"),
        missing => format!("snapshot {snapshot} is INCOMPLETE, {missing} missing"),
    };
    note += &format!("; {manifests} manifests, {volumes} volumes");
    for missing in &summary.missing {
        note += &format!("; {}: {}", clip(&missing.what, TEXT_BYTES), clip(&missing.why, TEXT_BYTES));
    }
    note
}

/// JSON that fits: with as many volumes as there is room for.
fn message(told: &Told<'_>) -> String {
    let mut room = VOLUMES;
    loop {
        let text = shape(told, room).to_string();
        if text.len() <= MESSAGE_BYTES || room == 0 {
            return text;
        }
        room /= 2;
    }
}

/// With no room at all it is short whatever the texts are.
fn shape(told: &Told<'_>, room: usize) -> Value {
    let result = match told.exit {
        Exit::Complete => "complete",
        Exit::Incomplete => "incomplete",
        _ => "failed",
    };
    let mut shape = json!({
        "version": render::JSON_VERSION, "type": "verdict", "result": result, "exitCode": told.exit as u8,
        "complete": told.exit == Exit::Complete,
    });
    if let Some(snapshot) = &told.snapshot {
        shape["snapshot"] = json!(snapshot);
    }
    if let Some(failure) = told.failure {
        shape["error"] = clip(&failure.message, if room == 0 { TEXT_BYTES } else { ERROR_BYTES }).into();
    }
    if let Some(summary) = told.summary {
        let missing = |missing: &Missing| json!({ "what": clip(&missing.what, TEXT_BYTES), "why": clip(&missing.why, TEXT_BYTES) });
        shape["missing"] = count_missing(summary).into();
        shape["missingFirst"] = summary.missing.iter().take(room.min(MISSING)).map(missing).collect();
        let volumes = summary.cluster.as_ref().map(|cluster| cluster.volumes.as_slice()).unwrap_or_default();
        let volume = |volume: &Volume| {
            let name = format!("{}/{}", volume.namespace, volume.name);
            json!({ "volume": clip(&name, TEXT_BYTES), "verdict": volume.verdict })
        };
        shape["volumes"] = volumes.len().into();
        shape["volumesFirst"] = volumes.iter().take(room).map(volume).collect();
    }
    shape
}

fn count_missing(summary: &Summary) -> u64 {
    summary.missing.len() as u64 + summary.more_missing
}

fn clip(text: &str, limit: usize) -> String {
    match text.len() <= limit {
        true => text.to_owned(),
        false => format!("{}…", &text[..text.floor_char_boundary(limit)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::summary::{self, Counts, Source, Verdict};

    fn summary(volumes: usize, missing: usize, length: usize) -> Summary {
        let volume = |number: usize| Volume {
            namespace: "n".repeat(length),
            name: format!("v{number}"),
            uid: String::new(),
            way: "live".into(),
            transport: "direct".into(),
            why: String::new(),
            verdict: Verdict::Frozen,
            changed: None,
            rung: "root".into(),
            node: None,
            counts: Counts::default(),
        };
        let missing =
            (0..missing).map(|_| Missing { what: "w\u{1}".repeat(length), why: "y".repeat(length) });
        Summary {
            version: 0,
            kist: String::new(),
            source: Source::Files { host: String::new(), paths: Vec::new() },
            tags: Vec::new(),
            parent: None,
            counts: Counts::default(),
            missing: missing.collect(),
            more_missing: 0,
            sparse: Default::default(),
            copied_from: None,
            cluster: Some(summary::Cluster {
                volumes: (0..volumes).map(volume).collect(),
                ..Default::default()
            }),
        }
    }

    fn of(summary: &Summary, exit: Exit) -> Told<'_> {
        Told { exit, snapshot: Some("ab12".into()), summary: Some(summary), failure: None }
    }

    fn parsed(told: &Told<'_>) -> Value {
        let text = message(told);
        assert!(text.len() <= MESSAGE_BYTES, "{} bytes", text.len());
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_message_fits_and_counts_all() {
        for (volumes, missing, length) in [(0, 0, 1), (2, 1, 4), (500, 500, 63), (500, 500, 5000)] {
            let summary = summary(volumes, missing, length);
            let message = parsed(&of(&summary, Exit::Incomplete));
            assert_eq!(message["volumes"], volumes);
            assert_eq!(message["missing"], missing);
            assert_eq!(message["result"], "incomplete");
        }
    }

    #[test]
    fn a_small_cluster_is_told_whole() {
        let message = parsed(&of(&summary(2, 0, 4), Exit::Complete));
        assert_eq!(message["complete"], true);
        assert_eq!(message["snapshot"], "ab12");
        assert_eq!(message["volumesFirst"][1], json!({ "volume": "nnnn/v1", "verdict": "frozen" }));
    }

    #[test]
    fn a_failure_is_told_however_long_it_is() {
        let failure = Failure::other("\u{1}ä".repeat(9000));
        let told = Told { exit: failure.exit, snapshot: None, summary: None, failure: Some(&failure) };
        let message = parsed(&told);
        assert_eq!(message["result"], "failed");
        assert_eq!(message["exitCode"], 1);
        assert!(message["error"].as_str().unwrap().starts_with('\u{1}'));
        assert_eq!(event(&told).reason, "BackupFailed");
    }

    #[test]
    fn an_event_has_the_verdict_first() {
        let incomplete = event(&of(&summary(2, 3, 1), Exit::Incomplete));
        assert!(incomplete.is_warning);
        assert_eq!(incomplete.reason, "BackupIncomplete");
        assert!(
            incomplete.note.starts_with("snapshot ab12 is INCOMPLETE, 3 missing; 0 manifests, 2 volumes")
        );
        let complete = event(&of(&summary(0, 0, 1), Exit::Complete));
        assert!(!complete.is_warning);
        assert_eq!(complete.reason, "BackupComplete");
    }
}
