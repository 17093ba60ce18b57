//! Hooks: what stands still between them is `frozen`, the same without them is `torn`, and a hook that fails is
//! never passed over.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::cluster::image::{BUSYBOX_IMAGE, KIST_IMAGE};
use crate::cluster::wait;
use crate::database;
use crate::harness::LIMIT;
use crate::objects;
use crate::scenarios::{deployment_ready, named, nothing_is_left, volume_folder};
use crate::shop::{DATABASE, DATABASE_CLAIM, NAMESPACE};
use crate::stage::{Repo, Stage};

/// How many backups of a volume that is written to may see no change.
const TRIES: u32 = 5;
/// Writes to the volume all the time, in a process that can be stopped. The large file is read after the one that
/// changes, so a copy takes its time between two looks at that.
const WRITE: &str = "dd if=/dev/urandom of=/data/b-large bs=1M count=128
( while :; do date >> /data/a-diary; sleep 0.01; done ) &
echo $! > /tmp/writer
wait";

pub async fn verdicts(stage: Arc<Stage>) {
    let namespace = "hooked";
    let client = stage.first.client();
    let hooks = [
        ("pre", r#"["/bin/sh", "-c", "kill -STOP $(cat /tmp/writer)"]"#),
        ("post", r#"["/bin/sh", "-c", "kill -CONT $(cat /tmp/writer)"]"#),
    ];
    let objects = [named(namespace), objects::claim("data", "lab-wait"), writer(&hooks)];
    wait::apply(&client, namespace, objects).await.unwrap();
    deployment_ready(&client, namespace, "writer").await;
    let repo = stage.s3_repository("hooked").await;
    let backup = format!("backup cluster -n {namespace} --mover-image {KIST_IMAGE}");
    is_torn(&repo, &format!("{backup} --no-hooks"), "data").await;
    let with = repo.writer.json(&backup, 0).await;
    assert_eq!(with.volume("backup", "data")["verdict"], "frozen", "{}", with.all());
    nothing_is_left(&client, namespace).await;
}

/// Backs up a volume that is written to until a run says that it is torn. One is enough in most cases; but on a busy
/// machine a writer may stand still for as long as a run takes to read what has changed, and `quiet` is then true.
pub async fn is_torn(repo: &Repo, backup: &str, claim: &str) {
    let mut said = Vec::new();
    for _ in 0..TRIES {
        let run = repo.writer.json(backup, 0).await;
        assert_eq!(run.last("backup")["hooks"], json!([]));
        let verdict = run.volume("backup", claim)["verdict"].clone();
        if verdict == "torn" {
            return;
        }
        assert_eq!(verdict, "quiet", "nothing was frozen; {}", run.all());
        said.push(run.all());
    }
    panic!("{TRIES} runs have seen no change: {said:?}");
}

pub async fn a_failing_one(stage: Arc<Stage>) {
    let namespace = "hooked-badly";
    let client = stage.first.client();
    let hooks = [
        ("pre", r#"["/bin/sh", "-c", "echo no room to flush >&2; exit 7"]"#),
        ("post", r#"["/bin/sh", "-c", "touch /tmp/thawed"]"#),
    ];
    let objects = [named(namespace), objects::claim("data", "lab-wait"), writer(&hooks)];
    wait::apply(&client, namespace, objects).await.unwrap();
    deployment_ready(&client, namespace, "writer").await;
    let repo = stage.s3_repository("hooked-badly").await;
    let backup = format!("backup cluster -n {namespace} --mover-image {KIST_IMAGE}");
    let backup = repo.writer.json(&backup, 3).await;
    let last = backup.last("backup");
    assert_eq!(last["complete"], false, "{}", backup.all());
    let hooks = last["hooks"].as_array().unwrap();
    let pre = hooks.iter().find(|hook| hook["phase"] == "pre").unwrap();
    assert_eq!(pre["ok"], false, "{pre}");
    assert!(pre["message"].as_str().unwrap().contains("no room to flush"), "{pre}");
    // It was started, so it may have frozen something: what thaws it runs all the same.
    let post = hooks.iter().find(|hook| hook["phase"] == "post").unwrap();
    assert_eq!(post["ok"], true, "{post}");
    nothing_is_left(&client, namespace).await;
}

/// The shop's own hooks do what they say: between them no file of the database changes, and after them it goes
/// on. Run by hand here, without kist, so that a wrong hook is not taken for a wrong backup.
pub async fn the_database_stands_still_between_them(stage: &Stage) {
    let client = stage.first.client();
    let hook = async |script: &str| {
        let command = ["/bin/bash", script];
        let done = wait::exec(&client, NAMESPACE, DATABASE, &command, LIMIT).await.unwrap();
        assert!(done.success, "{script}: {}{}", done.stdout, done.stderr);
    };
    let before = database::rows(&client, NAMESPACE).await.unwrap();
    hook("/scripts/freeze.sh").await;
    let noted = database::rows_before_freeze(&client, NAMESPACE).await.unwrap();
    assert!(noted.count >= before.count, "{before:?} {noted:?}");
    let folder = volume_folder(&stage.first, NAMESPACE, DATABASE_CLAIM).await;
    let first = states(&folder);
    // A look at a running one sees changes: rows come each 20 ms, and the two looks are further apart.
    let second = states(&folder);
    assert_eq!(first, second, "files of the frozen database have changed");
    hook("/scripts/thaw.sh").await;
    database::is_written_to(&client, NAMESPACE, noted).await.unwrap();
    assert_ne!(first, states(&folder), "files of the thawed database do not change");
}

/// Length and time of every file.
fn states(folder: &Path) -> Vec<(std::path::PathBuf, u64, std::time::SystemTime)> {
    let mut all = Vec::new();
    for path in crate::files::paths(folder) {
        let meta = std::fs::symlink_metadata(folder.join(&path)).unwrap();
        all.push((path, meta.len(), meta.modified().unwrap()));
    }
    all
}

fn writer(hooks: &[(&str, &str)]) -> Value {
    let container = json!({
        "name": "main", "image": BUSYBOX_IMAGE, "imagePullPolicy": "Never",
        "command": ["sh", "-c", WRITE],
        "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
        "readinessProbe": { "exec": { "command": ["cat", "/data/a-diary"] }, "periodSeconds": 1 },
    });
    let mut deployment = objects::deployment("writer", container);
    let template = &mut deployment["spec"]["template"];
    template["spec"]["volumes"] =
        json!([{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }]);
    for (phase, command) in hooks {
        template["metadata"]["annotations"][format!("{phase}.hook.backup.kist.dev/command")] = json!(command);
    }
    deployment
}
