//! The plan: what is done about each object of a snapshot in this target, and what stands in the way.
//!
//! Pure, so that it can be shown, tested and carried out as it is. Invariant: with an obstacle nothing may
//! be changed in the target at all.

mod obstacles;

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use crate::cluster::manifest::{Manifest, ObjectKey};
use crate::cluster::restore::context::{Snapshot, is_system, namespace_of, owners};
use crate::cluster::restore::kinds::Kinds;
use crate::cluster::restore::look::Found;
use crate::cluster::restore::ready::is_ready;
use crate::cluster::restore::{Action, Options, Owner, Plan, Step, Target, fill, order, rules, skip};

const DEFINITION: (&str, &str) = ("apiextensions.k8s.io", "CustomResourceDefinition");
const EXISTS: &str = "exists already in the target";

pub fn plan(manifests: &[Manifest], target: &Target, options: &Options) -> Plan {
    let snapshot = Snapshot::of(manifests);
    let mut kinds = target.kinds.clone();
    for definition in snapshot.of_kind(DEFINITION.0, DEFINITION.1) {
        let is_new = target.uid_of(&definition.key).is_none();
        if is_new && skip::why_not(definition, &snapshot).is_none() {
            kinds.define(&definition.body);
        }
    }
    let mut steps: Vec<Step> =
        manifests.iter().map(|manifest| step(manifest, &snapshot, target, &kinds, options)).collect();
    link_owners(&mut steps, &snapshot, target);
    steps.extend(missing_namespaces(&steps, target));
    let unsuspended: Vec<Step> = steps.iter().filter_map(unsuspend).collect();
    steps.extend(unsuspended);
    steps.sort_by(|a, b| place(a).cmp(&place(b)));
    let claims = steps.iter().filter(|step| step.action == Action::Create);
    let claims = claims.filter(|step| step.key.is("", "PersistentVolumeClaim")).filter_map(|step| {
        let key = &step.key;
        let claim = snapshot.find("", "PersistentVolumeClaim", key.namespace.as_deref(), &key.name)?;
        fill::claim_to_fill(claim, &snapshot, options)
    });
    let mut plan = Plan { claims: claims.collect(), steps, ..Plan::default() };
    plan.obstacles = obstacles::obstacles(&plan.steps, &snapshot, target, options);
    plan.remarks = obstacles::remarks(&plan.steps, &snapshot);
    plan
}

/// In the order of work; what can be done at once in an order that reads well.
fn place(step: &Step) -> impl Ord + '_ {
    let to = &step.to;
    (step.stage, step.wave, &to.kind, &to.group, &to.namespace, &to.name)
}

fn step(
    manifest: &Manifest,
    snapshot: &Snapshot<'_>,
    target: &Target,
    kinds: &Kinds,
    options: &Options,
) -> Step {
    let key = manifest.key.clone();
    let mut to = key.clone();
    to.namespace = key.namespace.as_deref().map(|name| options.namespace(name).to_owned());
    if key.is("", "Namespace") {
        to.name = options.namespace(&key.name).to_owned();
    }
    let (stage, wave) = order::place(&key);
    let place = kinds.choose(&key.group, &key.kind, &key.version);
    if let Some(place) = place {
        to.version.clone_from(&place.version);
    }
    let action = match why_skipped(manifest, &to, snapshot, target, options) {
        Some(why) => Action::Skip { why },
        None if place.is_none() => {
            Action::Fail { why: format!("the target serves no {} {}", key.api_version(), key.kind) }
        }
        None if place.is_some_and(|place| !place.creatable) => {
            Action::Skip { why: "the target shows it by itself".into() }
        }
        None => Action::Create,
    };
    let (body, mut changes) = match action {
        Action::Create => rules::prepare(manifest, &to, options),
        _ => (Value::Null, Vec::new()),
    };
    if key.is("", "Namespace") && target.namespaces.get(&to.name) == Some(&Found::Terminating) {
        changes.push("waits until the old one is gone: it is being deleted in the target".into());
    }
    Step {
        stage,
        action,
        changes,
        body,
        dry_run: None,
        wave,
        uid: manifest.uid().to_owned(),
        owners: Vec::new(),
        was_ready: is_ready(&key, &manifest.body),
        key,
        to,
    }
}

fn why_skipped(
    manifest: &Manifest,
    to: &ObjectKey,
    snapshot: &Snapshot<'_>,
    target: &Target,
    options: &Options,
) -> Option<String> {
    let key = &manifest.key;
    if let Some(why) = skip::why_not(manifest, snapshot) {
        return Some(why);
    }
    if let Some(namespace) = namespace_of(manifest)
        && is_system(options.namespace(namespace))
    {
        return Some("it is of the cluster's own namespaces; a mapping to another restores it".into());
    }
    if key.is("storage.k8s.io", "StorageClass")
        && let Some(other) = options.map_classes.get(&key.name)
    {
        return Some(format!("mapped to {other}"));
    }
    let exists = match &key.namespace {
        Some(_) => false,
        None if key.is("", "Namespace") => {
            target.namespaces.get(&to.name).is_some_and(|found| *found != Found::Terminating)
        }
        None => target.uid_of(to).is_some(),
    };
    if !exists {
        return None;
    }
    let is_mapped = key.is("rbac.authorization.k8s.io", "ClusterRoleBinding")
        && !rules::prepare(manifest, to, options).1.is_empty();
    let more = if is_mapped { "; its subjects in mapped namespaces are not added" } else { "" };
    Some(format!("{EXISTS}{more}"))
}

/// Owners that are in the target afterwards are linked to; a reference to another would make the garbage
/// collector delete the object.
fn link_owners(steps: &mut [Step], snapshot: &Snapshot<'_>, target: &Target) {
    let mut linkable: HashMap<String, (ObjectKey, Option<String>)> = HashMap::new();
    for step in steps.iter().filter(|step| !step.uid.is_empty()) {
        let new_uid = target.uid_of(&step.to).filter(|_| step.to.namespace.is_none());
        if step.action == Action::Create || new_uid.is_some() {
            linkable.insert(step.uid.clone(), (step.to.clone(), new_uid.map(str::to_owned)));
        }
    }
    for step in steps.iter_mut().filter(|step| step.action == Action::Create) {
        let Some(manifest) = snapshot.with_uid(&step.uid) else { continue };
        for reference in owners(manifest) {
            let uid = reference["uid"].as_str().unwrap_or_default();
            let owner = linkable.get(uid).filter(|(to, _)| {
                to.namespace.is_none() || to.namespace == step.to.namespace // else no owner at all
            });
            match owner {
                Some((to, new_uid)) => step.owners.push(Owner {
                    reference: refer(reference, to),
                    old_uid: uid.to_owned(),
                    new_uid: new_uid.clone(),
                }),
                None => {
                    let text = |field: &str| reference[field].as_str().unwrap_or_default();
                    let named = format!("{} {}", text("kind"), text("name"));
                    step.changes.push(format!("no longer owned by {named}, which is not restored"));
                }
            }
        }
    }
}

fn refer(reference: &Value, to: &ObjectKey) -> Value {
    let mut new = json!({"apiVersion": to.api_version(), "kind": to.kind, "name": to.name});
    for field in ["controller", "blockOwnerDeletion"] {
        if !reference[field].is_null() {
            new[field] = reference[field].clone();
        }
    }
    new
}

/// Namespaces whose own object is not in the snapshot.
fn missing_namespaces(steps: &[Step], target: &Target) -> Vec<Step> {
    let of = |step: &&Step| step.action == Action::Create && step.to.namespace.is_some();
    let needed: BTreeSet<(&String, &String)> = steps
        .iter()
        .filter(of)
        .filter_map(|step| step.to.namespace.as_ref().zip(step.key.namespace.as_ref()))
        .collect();
    let is_there = |name: &String| {
        matches!(target.namespaces.get(name), Some(Found::Empty | Found::Occupied { .. }))
            || steps.iter().any(|step| {
                step.to.is("", "Namespace") && step.to.name == *name && step.action == Action::Create
            })
    };
    let made = |(to, from): (&String, &String)| {
        let key = |name: &str| ObjectKey {
            group: String::new(),
            version: "v1".into(),
            kind: "Namespace".into(),
            namespace: None,
            name: name.into(),
        };
        let (stage, wave) = order::place(&key(to));
        Step {
            stage,
            key: key(from),
            to: key(to),
            action: Action::Create,
            changes: vec!["it is not in the snapshot itself".into()],
            body: json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": to}}),
            dry_run: None,
            wave,
            uid: String::new(),
            owners: Vec::new(),
            was_ready: true,
        }
    };
    needed.into_iter().filter(|(to, _)| !is_there(to)).map(made).collect()
}

/// The step that lets a CronJob run again, if it was suspended only for the restore.
fn unsuspend(step: &Step) -> Option<Step> {
    let was_changed = step.changes.iter().any(|change| change == rules::SUSPENDED);
    (step.action == Action::Create && was_changed).then(|| Step {
        stage: super::Stage::Late,
        key: step.key.clone(),
        to: step.to.clone(),
        action: Action::Unsuspend,
        changes: Vec::new(),
        body: json!({"spec": {"suspend": false}}),
        dry_run: None,
        wave: order::UNSUSPEND_WAVE,
        uid: String::new(),
        owners: Vec::new(),
        was_ready: true,
    })
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
