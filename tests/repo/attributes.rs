//! Attributes from one backup to the next: what did not change is taken from the parent, what did is asked for.

use rustix::fs::{XattrFlags, lsetxattr};

use crate::scene::{ABOVE, Scene, backup, noise};

#[tokio::test(flavor = "multi_thread")]
async fn extended_attributes_that_changed_alone_are_in_the_next_backup_and_the_others_stay() {
    let scene = Scene::new().await;
    let set = |name: &str, value: &[u8]| {
        lsetxattr(scene.source().join(name), "trusted.kist", value, XattrFlags::empty()).unwrap();
    };
    std::fs::create_dir(scene.source().join("folder")).unwrap();
    for name in ["changes", "stays", "large", "folder/in it"] {
        let len = if name == "large" { 30_000 } else { 300 };
        std::fs::write(scene.source().join(name), noise(len, 1)).unwrap();
        set(name, b"first");
    }
    set("folder", b"first");
    // Each by a run of its own, at a time of its own.
    let owner = async || scene.open(scene.store()).await.unwrap();
    let first = backup(&owner().await, &scene.source()).await.unwrap();
    scene.restore_whole(&owner().await, &first.snapshot.name(), "the first").await;
    for name in ["changes", "large", "folder"] {
        set(name, b"second");
    }
    let second = backup(&owner().await, &scene.source()).await.unwrap();
    assert_eq!(second.stats.new_chunks, 0);
    scene.restore_whole(&owner().await, &second.snapshot.name(), "the second").await;
    let third = backup(&owner().await, &scene.source()).await.unwrap();
    assert!(third.stats.new_nodes <= ABOVE && third.summary.counts.read_bytes == 0, "{:?}", third.stats);
    scene.restore_whole(&owner().await, &third.snapshot.name(), "the third").await;
}
