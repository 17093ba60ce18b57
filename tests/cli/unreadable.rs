//! What may not be read is listed, and the snapshot says that it is not complete.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::kist::{Kist, grow};

#[test]
fn an_unreadable_file_is_listed_and_all_others_are_backed_up() {
    let kist = Kist::as_nobody();
    let source = kist.path("source");
    grow(&source, 1);
    let secret = source.join("inner/secret");
    fs::write(&secret, "not for everybody").unwrap();
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(source.join("closed")).unwrap();
    fs::set_permissions(source.join("closed"), Permissions::from_mode(0o700)).unwrap();
    let run = kist.ends(3, &["backup", "files"], &[&source]);
    assert!(run.out.contains("INCOMPLETE"), "{run:?}");
    let missing: Vec<_> = run.err.lines().filter(|line| line.starts_with("missing: ")).collect();
    assert_eq!(missing.len(), 2, "{run:?}");
    assert!(missing[0].contains("/closed: ") && missing[1].contains("/inner/secret: "), "{missing:?}");
    let objects = kist.json(3, &["backup", "files"], &[&source]);
    let kinds: Vec<_> = objects.iter().map(|object| object["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["missing", "missing", "backup"]);
    assert_eq!((&objects[2]["complete"], &objects[2]["missing"]), (&false.into(), &2.into()));
    kist.ends(3, &["backup", "files", "--dry-run"], &[&source]);
    assert!(kist.fine(&["snapshots"], &[]).out.contains("INCOMPLETE"));
    // A point in time is a complete one.
    kist.ends(2, &["ls", "--at", "2100-01-01", "latest"], &[]);
    let what = format!("latest:{}", source.display());
    let target = kist.path("target");
    let target_name = target.to_str().unwrap();
    // By somebody who is not root, the owner can't be set: that is told too.
    let run = kist.ends(3, &["restore", "files", &what, target_name], &[]);
    assert!(run.err.contains("problem: "), "{run:?}");
    for file in ["small", "inner/large"] {
        assert_eq!(fs::read(target.join(file)).unwrap(), fs::read(source.join(file)).unwrap());
    }
    assert!(!target.join("inner/secret").exists());
    fs::set_permissions(&secret, Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(source.join("closed"), Permissions::from_mode(0o755)).unwrap();
    let done = kist.json(0, &["backup", "files"], &[&source]);
    assert_eq!(done[0]["complete"], true);
}
