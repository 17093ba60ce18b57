//! Hooks: commands that pods want run before and after their volumes are read.
//!
//! They are annotations of the pod, Velero's or ours (`kist.dev` in place of `velero.io`). Invariant: a pod
//! whose annotations are not understood to the last gets no hook at all, so nothing is frozen that would
//! not be thawed; it is said instead. Whoever starts a pre-hook owes the post-hook, and notes that in the
//! run's lease before. A pre-hook whose time is up may still go on, and freeze what was thawed already: so
//! its end is awaited, as long again and [`GRACE`] at most, before its failure is told.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{FutureExt, StreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::cluster::manifest::Manifest;
use crate::cluster::{Cluster, exec};
use crate::world::World;

/// Ours win.
const DOMAINS: [&str; 2] = ["kist.dev", "velero.io"];
const FIELDS: [&str; 4] = ["command", "container", "on-error", "timeout"];
const TIMEOUT: Duration = Duration::from_secs(30);
/// For a pre-hook whose time is up; what goes on after that, nobody can end.
const GRACE: Duration = Duration::from_secs(60);
/// What is frozen waits for the slowest, so they run side by side; this many execs are nothing to an API server.
const PARALLEL: usize = 16;
/// Of a hook's stderr.
const TOLD_CHARS: usize = 400;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Pre,
    Post,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    Fail,
    Continue,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    pub container: String,
    pub command: Vec<String>,
    pub on_error: OnError,
    pub timeout_millis: u64,
}

/// The hooks of one pod: one of them at least.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodHooks {
    pub namespace: String,
    pub pod: String,
    pub pre: Option<Hook>,
    pub post: Option<Hook>,
}

impl PodHooks {
    fn hook(&self, phase: Phase) -> Option<&Hook> {
        match phase {
            Phase::Pre => self.pre.as_ref(),
            Phase::Post => self.post.as_ref(),
        }
    }
}

/// The hooks of all pods, and what could not be understood.
#[derive(Debug, Default)]
pub struct Hooks {
    pub pods: Vec<PodHooks>,
    /// Each names the pod. A run with one of these is not complete: a pod was read without its hooks.
    pub problems: Vec<String>,
}

/// How a hook went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HookResult {
    pub namespace: String,
    pub pod: String,
    pub phase: Phase,
    pub ok: bool,
    /// What a failure means for the run.
    pub on_error: OnError,
    pub seconds: f64,
    /// Empty if it went well.
    pub message: String,
}

/// Finds the hooks of the pods that run.
pub fn hooks(manifests: &[Manifest]) -> Hooks {
    let mut found = Hooks::default();
    for manifest in manifests {
        let runs = manifest.body["status"]["phase"] == "Running" && !manifest.is_terminating();
        if !manifest.key.is("", "Pod") || !runs {
            continue;
        }
        match of_pod(manifest) {
            Ok(None) => {}
            Ok(Some(hooks)) => found.pods.push(hooks),
            Err(why) => found.problems.push(format!(
                "the hooks of the pod {}/{} are not run: {why}",
                manifest.key.namespace.as_deref().unwrap_or_default(),
                manifest.key.name
            )),
        }
    }
    found
}

fn of_pod(manifest: &Manifest) -> Result<Option<PodHooks>, String> {
    let (pre, post) = (of_phase(manifest, "pre")?, of_phase(manifest, "post")?);
    if pre.is_none() && post.is_none() {
        return Ok(None);
    }
    let namespace = manifest.key.namespace.clone().unwrap_or_default();
    Ok(Some(PodHooks { namespace, pod: manifest.key.name.clone(), pre, post }))
}

fn of_phase(manifest: &Manifest, phase: &str) -> Result<Option<Hook>, String> {
    let annotations = manifest.metadata("annotations");
    for domain in DOMAINS {
        let prefix = format!("{phase}.hook.backup.{domain}");
        let fields: BTreeMap<&str, &str> = FIELDS
            .iter()
            .filter_map(|field| Some((*field, annotations[format!("{prefix}/{field}")].as_str()?)))
            .collect();
        if fields.is_empty() {
            continue;
        }
        return hook(manifest, &fields).map(Some).map_err(|why| format!("{prefix}: {why}"));
    }
    Ok(None)
}

fn hook(manifest: &Manifest, fields: &BTreeMap<&str, &str>) -> Result<Hook, String> {
    let text = fields.get("command").ok_or("it has no command")?;
    let containers = manifest.body["spec"]["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut names = containers.iter().filter_map(|container| container["name"].as_str());
    let container = match fields.get("container") {
        None => names.next().ok_or("the pod has no container")?,
        Some(wanted) => names.find(|name| name == wanted).ok_or(format!("there is no container {wanted}"))?,
    };
    let on_error = match fields.get("on-error").copied() {
        None | Some("Fail") => OnError::Fail,
        Some("Continue") => OnError::Continue,
        Some(other) => return Err(format!("on-error is Fail or Continue, not {other}")),
    };
    let timeout = fields.get("timeout").map_or(Ok(TIMEOUT), |text| duration(text))?;
    let timeout_millis = u64::try_from(timeout.as_millis()).map_err(|_| "the timeout is too long")?;
    Ok(Hook { container: container.into(), command: command(text)?, on_error, timeout_millis })
}

/// A JSON array of strings, or one word that is run as it is; there is no shell.
fn command(text: &str) -> Result<Vec<String>, String> {
    let words = match text.trim_start().starts_with('[') {
        true => serde_json::from_str(text)
            .map_err(|error| format!("the command is no array of words: {error}"))?,
        false => vec![text.to_owned()],
    };
    match words.first().is_some_and(|first| !first.trim().is_empty()) {
        true => Ok(words),
        false => Err("the command is empty".into()),
    }
}

/// Such as `30s`, `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|parsed| Duration::try_from(parsed).ok());
    parsed.filter(|parsed| !parsed.is_zero()).ok_or_else(|| format!("{text} is no timeout such as 30s"))
}

/// None if there is no such hook.
pub async fn run_pre(cluster: &Cluster, world: &World, pod: &PodHooks) -> Option<HookResult> {
    run_phase(cluster, world, pod, Phase::Pre).await
}

/// None if there is no such hook.
pub async fn run_post(cluster: &Cluster, world: &World, pod: &PodHooks) -> Option<HookResult> {
    run_phase(cluster, world, pod, Phase::Post).await
}

/// Runs the hooks of all pods side by side, to the end of each, whatever the others do.
pub async fn run_all(cluster: &Cluster, world: &World, pods: &[PodHooks], phase: Phase) -> Vec<HookResult> {
    // Boxed before they are buffered: otherwise the whole can't be sent between threads.
    let runs: Vec<_> = pods.iter().map(|pod| run_phase(cluster, world, pod, phase).boxed()).collect();
    let results: Vec<_> = stream::iter(runs).buffered(PARALLEL).collect().await;
    results.into_iter().flatten().collect()
}

async fn run_phase(cluster: &Cluster, world: &World, pod: &PodHooks, phase: Phase) -> Option<HookResult> {
    let hook = pod.hook(phase)?;
    let begin = world.now();
    let limit = Duration::from_millis(hook.timeout_millis);
    let limits = (limit, grace(phase, limit));
    let outcome = exec::run(cluster, &pod.namespace, &pod.pod, &hook.container, &hook.command, limits).await;
    let message = match outcome {
        Ok(output) if output.ended.is_success() => String::new(),
        Ok(output) => failure(&output),
        Err(error) => chain(&error),
    };
    Some(HookResult {
        namespace: pod.namespace.clone(),
        pod: pod.pod.clone(),
        phase,
        ok: message.is_empty(),
        on_error: hook.on_error,
        seconds: (world.now().0 - begin.0).max(0) as f64 / 1e9,
        message,
    })
}

fn grace(phase: Phase, limit: Duration) -> Duration {
    match phase {
        Phase::Pre => limit.min(GRACE),
        // Nothing comes behind it that it could undo.
        Phase::Post => Duration::ZERO,
    }
}

fn failure(output: &exec::Output) -> String {
    let said = [&output.stderr, &output.stdout].into_iter().find(|text| !text.trim().is_empty());
    let Some(said) = said.map(|text| text.trim()) else { return output.ended.to_string() };
    let skipped = said.chars().count().saturating_sub(TOLD_CHARS);
    format!("{}: {}", output.ended, said.chars().skip(skipped).collect::<String>())
}

/// An error as one text: it goes into a report, not to a printer of chains.
fn chain(error: &dyn std::error::Error) -> String {
    let parts = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    parts.collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::manifest::ObjectKey;

    fn pod(phase: &str, annotations: Value) -> Manifest {
        let key = ObjectKey {
            group: String::new(),
            version: "v1".into(),
            kind: "Pod".into(),
            namespace: Some("shop".into()),
            name: "db-0".into(),
        };
        let body = json!({"metadata": {"annotations": annotations}, "status": {"phase": phase},
            "spec": {"containers": [{"name": "db"}, {"name": "proxy"}]}});
        Manifest { key, body }
    }

    fn one(annotations: Value) -> PodHooks {
        let mut found = hooks(&[pod("Running", annotations)]);
        assert_eq!((found.pods.len(), found.problems.len()), (1, 0), "{found:?}");
        found.pods.remove(0)
    }

    fn problem(annotations: Value) -> String {
        let mut found = hooks(&[pod("Running", annotations)]);
        assert_eq!((found.pods.len(), found.problems.len()), (0, 1), "{found:?}");
        found.problems.remove(0)
    }

    #[test]
    fn veleros_hooks_are_understood() {
        let found = one(json!({
            "pre.hook.backup.velero.io/command": r#"["/bin/sh", "-c", "fsfreeze -f /data"]"#,
            "pre.hook.backup.velero.io/container": "proxy",
            "pre.hook.backup.velero.io/on-error": "Continue",
            "pre.hook.backup.velero.io/timeout": "1m30s",
            "post.hook.backup.velero.io/command": "/thaw it",
        }));
        let pre = found.pre.unwrap();
        assert_eq!(pre.command, ["/bin/sh", "-c", "fsfreeze -f /data"]);
        assert_eq!((pre.on_error, pre.timeout_millis), (OnError::Continue, 90_000));
        assert_eq!(pre.container, "proxy");
        let post = found.post.unwrap();
        assert_eq!(post.command, ["/thaw it"]);
        assert_eq!((&*post.container, post.on_error, post.timeout_millis), ("db", OnError::Fail, 30_000));
    }

    #[test]
    fn ours_win_as_a_whole() {
        let found = one(json!({
            "pre.hook.backup.velero.io/command": "/theirs",
            "pre.hook.backup.velero.io/container": "proxy",
            "pre.hook.backup.kist.dev/command": "/ours",
        }));
        let pre = found.pre.unwrap();
        assert_eq!((&*pre.command[0], &*pre.container), ("/ours", "db"));
    }

    #[test]
    fn only_a_pre_hook_is_followed_after_its_time_and_not_for_long() {
        let seconds = Duration::from_secs;
        assert_eq!(grace(Phase::Pre, seconds(30)), seconds(30));
        assert_eq!(grace(Phase::Pre, seconds(3600)), GRACE);
        assert_eq!(grace(Phase::Post, seconds(30)), Duration::ZERO);
    }

    #[test]
    fn only_running_pods_have_hooks() {
        let annotations = json!({"pre.hook.backup.kist.dev/command": "/x"});
        let mut ending = pod("Running", annotations.clone());
        ending.body["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let found = hooks(&[pod("Pending", annotations), ending, pod("Running", Value::Null)]);
        assert!(found.pods.is_empty() && found.problems.is_empty());
    }

    #[test]
    fn a_pod_with_one_bad_annotation_has_no_hooks_and_is_named() {
        let bad = [
            ("command", "[\"a\"", "no array"),
            ("command", "[]", "empty"),
            ("command", " ", "empty"),
            ("container", "web", "no container web"),
            ("on-error", "ignore", "not ignore"),
            ("timeout", "soon", "no timeout"),
            ("timeout", "-1s", "no timeout"),
            ("timeout", "0s", "no timeout"),
        ];
        for (field, value, why) in bad {
            let mut annotations = json!({"pre.hook.backup.kist.dev/command": "/freeze",
                "post.hook.backup.kist.dev/command": "/thaw"});
            annotations[format!("post.hook.backup.kist.dev/{field}")] = json!(value);
            let told = problem(annotations);
            assert!(told.contains("shop/db-0") && told.contains(why), "{told}");
        }
        let told = problem(json!({"pre.hook.backup.velero.io/timeout": "30s"}));
        assert!(told.contains("no command"), "{told}");
    }
}
