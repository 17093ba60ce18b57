//! Three backups with changes in between: each of the three times gives its own state back, objects and files.

use std::fs;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use serde_json::{Value, json};

use crate::cluster::image::KIST_IMAGE;
use crate::cluster::wait;
use crate::objects;
use crate::scenarios::{deployment_ready, named, nothing_is_left, snapshot, volume_folder};
use crate::stage::Stage;

const NAMESPACE: &str = "times";
const STATES: [&str; 3] = ["morning", "noon", "evening"];

pub async fn three_states(stage: Arc<Stage>) {
    let client = stage.first.client();
    let repo = stage.s3_repository(NAMESPACE).await;
    let objects =
        [named(NAMESPACE), objects::claim("data", "lab-wait"), objects::deployment_with_claim("app", "data")];
    wait::apply(&client, NAMESPACE, objects).await.unwrap();
    deployment_ready(&client, NAMESPACE, "app").await;
    let folder = volume_folder(&stage.first, NAMESPACE, "data").await;
    let mut snapshots = Vec::new();
    for state in STATES {
        wait::apply(&client, NAMESPACE, [config(state)]).await.unwrap();
        // One file changes, one is only of this state, one stays.
        fs::write(folder.join("state"), state).unwrap();
        fs::write(folder.join(format!("only-{state}")), "x").unwrap();
        fs::write(folder.join("always"), "the same").unwrap();
        let backup = format!("backup cluster -n {NAMESPACE} --mover-image {KIST_IMAGE}");
        snapshots.push(snapshot(&repo.writer.json(&backup, 0).await));
        fs::remove_file(folder.join(format!("only-{state}"))).unwrap();
    }
    nothing_is_left(&client, NAMESPACE).await;
    let listed = repo.owner.json("snapshots", 0).await.of_type("snapshot");
    let target = repo.owner.at(stage.second.kubeconfig());
    for (number, state) in STATES.into_iter().enumerate() {
        let found = listed.iter().find(|found| found["snapshot"] == *snapshots[number]).unwrap();
        let namespace = format!("{NAMESPACE}-{state}");
        let restore = format!(
            "restore cluster latest --at {} --map-namespace {NAMESPACE}={namespace} --mover-image {KIST_IMAGE}",
            time(found)
        );
        let restored = target.json(&restore, 0).await;
        assert_eq!(restored.last("restore")["snapshot"], *snapshots[number], "{}", restored.all());
        is_of(&stage, &namespace, state).await;
        nothing_is_left(&stage.second.client(), &namespace).await;
    }
    let before = "restore cluster latest --at 1999-01-01 --plan";
    target.json(before, 2).await.says(&["no snapshot fits"]);
}

/// The moment that a snapshot is of, to the nanosecond.
fn time(snapshot: &Value) -> String {
    let nanos = snapshot["timeNanos"].as_i64().unwrap();
    jiff::Timestamp::from_nanosecond(nanos.into()).unwrap().to_string()
}

fn config(state: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "state" }, "data": { "state": state },
    })
}

async fn is_of(stage: &Stage, namespace: &str, state: &str) {
    let configs: Api<ConfigMap> = Api::namespaced(stage.second.client(), namespace);
    let config = configs.get("state").await.unwrap();
    assert_eq!(config.data.unwrap()["state"], state);
    let folder = volume_folder(&stage.second, namespace, "data").await;
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["always".to_owned(), format!("only-{state}"), "state".to_owned()]);
    assert_eq!(fs::read_to_string(folder.join("state")).unwrap(), state);
    assert_eq!(fs::read_to_string(folder.join("always")).unwrap(), "the same");
}
