//! What stands in the way of a restore, and what should be known before it.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::manifest::Manifest;
use crate::cluster::restore::context::{Snapshot, is_system, namespace_of};
use crate::cluster::restore::look::Found;
use crate::cluster::restore::rules::class_of;
use crate::cluster::restore::{Action, Options, Step, Target};

pub(super) fn obstacles(
    steps: &[Step],
    snapshot: &Snapshot<'_>,
    target: &Target,
    options: &Options,
) -> Vec<String> {
    let mut all = Vec::new();
    namespaces(steps, target, &mut all);
    mappings(snapshot, target, options, &mut all);
    classes(steps, snapshot, target, options, &mut all);
    all
}

fn created(steps: &[Step]) -> impl Iterator<Item = &Step> {
    steps.iter().filter(|step| step.action == Action::Create)
}

fn namespaces(steps: &[Step], target: &Target, all: &mut Vec<String>) {
    let into: BTreeSet<&String> = created(steps).filter_map(|step| step.to.namespace.as_ref()).collect();
    for name in into {
        if let Some(Found::Occupied { by }) = target.namespaces.get(name) {
            all.push(format!("the namespace {name} exists already in the target, with {by} in it"));
        }
    }
    let mut from: BTreeMap<&String, BTreeSet<&String>> = BTreeMap::new();
    for step in created(steps) {
        if let (Some(to), Some(of)) = (&step.to.namespace, &step.key.namespace) {
            from.entry(to).or_default().insert(of);
        }
    }
    for (to, of) in from.into_iter().filter(|(_, of)| of.len() > 1) {
        let of: Vec<&str> = of.into_iter().map(String::as_str).collect();
        all.push(format!("the namespaces {} would all become {to}", of.join(", ")));
    }
}

/// A mapping that fits nothing is a slip, and what it meant would go to the wrong place.
fn mappings(snapshot: &Snapshot<'_>, target: &Target, options: &Options, all: &mut Vec<String>) {
    let namespaces: BTreeSet<&str> = snapshot.manifests.iter().filter_map(namespace_of).collect();
    for (from, to) in &options.map_namespaces {
        if !namespaces.contains(from.as_str()) {
            all.push(format!("the namespace {from} is mapped to {to}, and is not in the snapshot"));
        }
        if is_system(to) {
            all.push(format!("the namespace {from} is mapped to {to}, which is the cluster's own"));
        }
    }
    let used: BTreeSet<&str> =
        claims(snapshot).filter_map(class_of).chain(template_classes(snapshot)).collect();
    for (from, to) in &options.map_classes {
        if !used.contains(from.as_str()) {
            all.push(format!(
                "the storage class {from} is mapped to {to}, and no claim in the snapshot uses it"
            ));
        }
        let made = snapshot.find("storage.k8s.io", "StorageClass", None, to).is_some();
        if !made && !target.classes.contains_key(to) {
            all.push(format!("the storage class {from} is mapped to {to}, which the target does not have"));
        }
    }
}

fn classes(
    steps: &[Step],
    snapshot: &Snapshot<'_>,
    target: &Target,
    options: &Options,
    all: &mut Vec<String>,
) {
    let made: BTreeSet<&str> = created(steps)
        .filter(|step| step.to.is("storage.k8s.io", "StorageClass"))
        .map(|step| &*step.to.name)
        .collect();
    for step in created(steps).filter(|step| step.key.is("", "PersistentVolumeClaim")) {
        let key = &step.key;
        let claim = snapshot.find("", "PersistentVolumeClaim", key.namespace.as_deref(), &key.name);
        let Some(claim) = claim else { continue };
        let name = format!("{}/{}", key.namespace.as_deref().unwrap_or_default(), key.name);
        match class_of(claim).map(|class| options.class(class)) {
            Some("") => all.push(format!(
                "the claim {name} has no storage class: its volume was made by hand; map \"\" to a class"
            )),
            Some(class) if !made.contains(class) && !target.classes.contains_key(class) => {
                all.push(format!(
                    "the claim {name} wants the storage class {class}, which the target does not have"
                ));
            }
            None if !target.classes.values().any(|is_default| *is_default) => {
                all.push(format!(
                    "the claim {name} wants the default storage class, and the target has none"
                ));
            }
            _ => {}
        }
    }
}

fn claims<'a>(snapshot: &Snapshot<'a>) -> impl Iterator<Item = &'a Manifest> {
    snapshot.manifests.iter().filter(|manifest| manifest.key.is("", "PersistentVolumeClaim"))
}

fn template_classes<'a>(snapshot: &Snapshot<'a>) -> impl Iterator<Item = &'a str> {
    let sets = snapshot.manifests.iter().filter(|manifest| manifest.key.is("apps", "StatefulSet"));
    let templates = sets.filter_map(|set| set.body["spec"]["volumeClaimTemplates"].as_array()).flatten();
    templates.filter_map(|template| template["spec"]["storageClassName"].as_str())
}

pub(super) fn remarks(steps: &[Step], snapshot: &Snapshot<'_>) -> Vec<String> {
    let mut all = Vec::new();
    for step in created(steps).filter(|step| step.to.is("storage.k8s.io", "StorageClass")) {
        let provisioner = step.body["provisioner"].as_str().unwrap_or_default();
        let class = &step.to.name;
        all.push(format!(
            "the storage class {class} is made as it was; {provisioner} has to run in the target"
        ));
    }
    for step in created(steps).filter(|step| step.key.is("", "PersistentVolumeClaim")) {
        if step.body["spec"]["volumeMode"] == "Block" {
            let key = &step.key;
            let claim = snapshot.find("", "PersistentVolumeClaim", key.namespace.as_deref(), &key.name);
            if claim.is_some_and(|claim| claim.body["status"]["phase"] == "Bound") {
                all.push(format!(
                    "{} is a block volume, which can't be filled yet: it comes back empty",
                    step.to
                ));
            }
        }
    }
    all
}
