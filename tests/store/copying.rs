//! From one cloud into another, through the real program: each store with credentials of its own.

use std::path::Path;
use std::process::Command;

use crate::azurite::{self, Azurite};
use crate::runs::{Credentials, Runs};
use crate::versitygw::{ACCESS_KEY, SECRET_KEY, Versitygw};

/// Runs the program in Azure's place, where what AWS's variables say is wrong.
fn there(runs: &Runs, url: &str, args: &[&str], more: &[(&str, &str)]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kist"));
    command.args(args).env_clear().env("HOME", runs.path("home")).env("KIST_REPO", url);
    command.env("AZURE_STORAGE_KEY", azurite::KEY);
    command.env("AWS_ACCESS_KEY_ID", "nobody").env("AWS_SECRET_ACCESS_KEY", "nothing");
    command.envs(more.iter().copied());
    let done = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert_eq!(done.status.code(), Some(0), "{args:?}\n{out}{err}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_go_from_s3_to_azure_and_back_each_store_by_its_own_credentials() {
    let (first, second) = (Versitygw::start(), Azurite::start());
    first.bucket("repo");
    second.container("copy").await;
    let (from, to) = (first.url("repo/kist"), second.url("copy/kist"));
    let owner = Credentials::new(ACCESS_KEY, SECRET_KEY);
    let runs = Runs::init(&from, &owner);
    runs.backup(&from, &owner);
    let (here, key) = (runs.path("owner.key"), runs.path("other.key"));
    there(&runs, &to, &["init", "--new-key-file", text(&key)], &[]);
    let elsewhere = [
        ("KIST_KEY_FILE", text(&key)),
        ("KIST_FROM_REPO", &from),
        ("KIST_FROM_KEY_FILE", text(&here)),
        ("KIST_FROM_AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("KIST_FROM_AWS_SECRET_ACCESS_KEY", SECRET_KEY),
    ];
    there(&runs, &to, &["copy", "--all"], &elsewhere);
    there(&runs, &to, &["check", "--read-data"], &elsewhere[..1]);
    // What the first has lost comes back from there.
    let store = owner.store(&from);
    for pack in store.list("packs/").await.unwrap() {
        store.delete(&pack.key).await.unwrap();
    }
    let mut repair = runs.command(&from, &owner, "owner.key", &["repair", "--older-than", "0d"]);
    repair.env("KIST_FROM_REPO", &to).env("KIST_FROM_KEY_FILE", text(&key));
    repair.env("KIST_FROM_AZURE_STORAGE_KEY", azurite::KEY).env("AZURE_STORAGE_KEY", "bm90aGluZw==");
    runs.fine(&mut repair);
    runs.restore(&from, &owner);
}
