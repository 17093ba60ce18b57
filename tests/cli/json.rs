//! What programs read: one object a line, each with its type and version 0; on errors too.

use serde_json::Value;

use crate::kist::{Kist, grow};

/// The types of the objects; each has version 0 and the fields that are named for its type.
fn types(objects: &[Value]) -> Vec<String> {
    let fields = |kind: &str| -> &[&str] {
        match kind {
            "init" => &["repository", "store", "singleWriter"],
            "key" => &["role", "name", "id", "domain"],
            "removed" | "recovered" => &["id"],
            "rotated" => &["slots"],
            "recovery" => &["name", "id"],
            "preview" => &["parent", "counts", "missing"],
            "backup" => &["snapshot", "complete", "parent", "counts", "missing"],
            "snapshot" => {
                &["snapshot", "time", "timeNanos", "complete", "sourceId", "source", "tags", "files"]
            }
            "entry" => &["path", "kind", "size", "mode", "uid", "gid", "mtimeSecs", "mtimeNanos", "target"],
            "restore" => &["snapshot", "dryRun", "files", "bytes", "written", "kept", "deleted", "lost"],
            "check" => {
                &["packs", "packBytes", "snapshots", "nodes", "records", "findings", "touched", "verified"]
            }
            "catalog" => &["path", "snapshots", "unreadable"],
            "finding" => &["kind", "message"],
            "touched" => &["snapshot", "root", "because"],
            "decision" => &["snapshot", "time", "complete", "sourceId", "source", "keep", "why"],
            "forget" => &["kept", "forgotten", "dryRun"],
            "recalled" => &["snapshot"],
            "hold" => &["id", "scope", "note"],
            "prune-plan" => &[
                "totalBytes",
                "usedBytes",
                "unusedPacks",
                "unusedBytes",
                "orphans",
                "repackPacks",
                "repackBytes",
                "repackUsedBytes",
                "beyondBudget",
                "freedBytes",
            ],
            "prune" => &["sweptPacks", "sweptBytes", "fenced", "retained", "waitingFor"],
            "error" => &["message", "hint", "exitCode"],
            other => panic!("no shape is known for {other:?}"),
        }
    };
    let one = |object: &Value| {
        assert_eq!(object["version"], 0, "{object}");
        let kind = object["type"].as_str().unwrap();
        for field in fields(kind) {
            assert!(object.get(field).is_some(), "{field} is missing: {object}");
        }
        kind.to_owned()
    };
    objects.iter().map(one).collect()
}

#[test]
fn every_verb_prints_objects_of_version_0() {
    let kist = Kist::without_repository();
    let key = kist.path("owner.key");
    let mut init = kist.command(&["--json", "init", "--new-key-file", key.to_str().unwrap()], &[]);
    let made = kist.run(init.env_remove("KIST_KEY_FILE"));
    assert_eq!(types(&made.objects()), ["init"]);
    let (source, target) = (kist.path("source"), kist.path("target"));
    grow(&source, 1);
    let bundle = kist.path("shop.key");
    let add = kist.json(0, &["key", "add", "--role", "writer", "--name", "shop", "--out"], &[&bundle]);
    assert_eq!(types(&add), ["key"]);
    let keys = kist.json(0, &["key", "list"], &[]);
    assert_eq!(types(&keys), ["key", "key"]);
    for field in ["key", "serial", "created", "trust", "passphrase"] {
        assert!(keys.iter().all(|key| key.get(field).is_some()), "{field}: {keys:?}");
    }
    let (again, page, recovered) = (kist.path("again.key"), kist.path("page"), kist.path("recovered.key"));
    assert_eq!(types(&kist.json(0, &["key", "rotate", "shop", "--out"], &[&again])), ["key"]);
    assert_eq!(types(&kist.json(0, &["key", "rotate", "--owner"], &[])), ["rotated"]);
    assert_eq!(types(&kist.json(0, &["key", "recovery", "--out"], &[&page])), ["recovery"]);
    let recover = ["key", "recover", "--from", page.to_str().unwrap(), "--out"];
    assert_eq!(types(&kist.json(0, &recover, &[&recovered])), ["recovered"]);
    assert_eq!(types(&kist.json(0, &["key", "remove", "shop"], &[])), ["removed"]);
    assert_eq!(types(&kist.json(0, &["backup", "files", "--dry-run"], &[&source])), ["preview"]);
    assert_eq!(types(&kist.json(0, &["snapshots"], &[])), [""; 0]);
    let backup = kist.json(0, &["backup", "files"], &[&source]);
    assert_eq!(types(&backup), ["backup"]);
    assert_eq!((&backup[0]["complete"], &backup[0]["counts"]["files"]), (&true.into(), &3.into()));
    let snapshots = kist.json(0, &["snapshots"], &[]);
    assert_eq!(types(&snapshots), ["snapshot"]);
    assert_eq!(snapshots[0]["snapshot"], backup[0]["snapshot"]);
    let entries = kist.json(0, &["ls", "-R", "latest"], &[]);
    assert!(entries.len() > 4 && types(&entries).iter().all(|kind| kind == "entry"));
    assert_eq!(types(&kist.json(0, &["restore", "files", "latest"], &[&target])), ["restore"]);
    assert_eq!(types(&kist.json(0, &["check", "--read-data"], &[])), ["check"]);
    assert_eq!(types(&kist.json(0, &["catalog", "rebuild"], &[])), ["catalog"]);
    let name = kist.backup(&source);
    let held = kist.json(0, &["hold", "add", &name, "--note", "an auditor"], &[]);
    assert_eq!(types(&held), ["hold"]);
    assert_eq!(types(&kist.json(0, &["hold", "list"], &[])), ["hold"]);
    kist.fine(&["hold", "lift", held[0]["id"].as_str().unwrap()], &[]);
    let forget = kist.json(0, &["forget", "--keep-last", "1"], &[]);
    assert_eq!(types(&forget), ["decision", "decision", "forget"]);
    let forgotten = backup[0]["snapshot"].as_str().unwrap();
    assert_eq!(types(&kist.json(0, &["recall", forgotten], &[])), ["recalled"]);
    assert_eq!(types(&kist.json(0, &["prune", "--dry-run"], &[])), ["prune-plan"]);
    assert_eq!(types(&kist.json(0, &["prune"], &[])), ["prune-plan", "prune"]);
}

#[test]
fn errors_are_objects_too_and_say_the_code() {
    let kist = Kist::new();
    let nothing = kist.path("nothing");
    for (code, args) in
        [(2, &["ls", "latest"][..]), (2, &["ls", "ab"]), (2, &["backup", "files", "/no/such"])]
    {
        let objects = kist.json(code, args, &[]);
        assert_eq!(types(&objects), ["error"], "{args:?}");
        assert_eq!(objects[0]["exitCode"], code);
    }
    let objects = kist.json(2, &["--repo", nothing.to_str().unwrap(), "snapshots"], &[]);
    assert_eq!(types(&objects), ["error"]);
    let source = kist.path("source");
    grow(&source, 1);
    kist.backup(&source);
    for pack in crate::compare::paths(&kist.repo.join("packs")) {
        let pack = kist.repo.join("packs").join(pack);
        if pack.is_file() {
            std::fs::remove_file(pack).unwrap();
        }
    }
    let objects = kist.json(4, &["check"], &[]);
    assert!(types(&objects).starts_with(&["finding".to_owned()]), "{objects:?}");
    assert_eq!(types(&objects[objects.len() - 1..]), ["check"]);
    let objects = kist.json(4, &["restore", "files", "latest"], &[&kist.path("target")]);
    assert_eq!(types(&objects), ["error"]);
}
