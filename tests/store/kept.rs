//! Buckets that keep what is deleted and overwritten: versions, and object lock.

use bytes::Bytes;
use kist::store::{Class, Created, Store, conformance};

use crate::runs::{Credentials, Runs};
use crate::server_minio::{self, Minio};
use crate::signed::Admin;
use crate::versitygw::{self, Versitygw};

const LOCK: &str = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                    <Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
/// The MD5 of these bytes, which versitygw and Amazon ask for.
const LOCK_MD5: (&str, &str) = ("content-md5", "bAtV4GhRHjlhyrqo+OfhYg==");
const VERSIONS: &str = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
const WITH_LOCK: [(&str, &str); 1] = [("x-amz-bucket-object-lock-enabled", "true")];

fn body(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// Backup and restore work, also after another backup.
fn a_round(url: &str, owner: &Credentials) -> Runs {
    let runs = Runs::init(url, owner);
    runs.backup(url, owner);
    runs.change("second");
    runs.backup(url, owner);
    runs.restore(url, owner);
    runs
}

/// The ids of an object's versions, newest first: of the markers, and of the others.
async fn versions(admin: &Admin, bucket: &str, key: &str) -> [Vec<String>; 2] {
    let listed = admin.done("GET", &format!("/{bucket}?prefix={key}&versions="), &[], "").await;
    ["DeleteMarker", "Version"].map(|kind| {
        let begin = format!("<{kind}>");
        let id = listed
            .split(&begin)
            .skip(1)
            .map(|one| one.split_once("<VersionId>").expect("a version has an id").1);
        id.map(|rest| rest.split('<').next().expect("an id has an end").to_owned()).collect()
    })
}

/// A delete hides, and what was deleted or overwritten can be brought back by whoever may delete versions.
async fn a_delete_hides(store: &Store, admin: &Admin, url: &str, owner: &Credentials, is_locked: bool) {
    let runs = a_round(url, owner);
    let pack = store.list("packs").await.unwrap().remove(0).key;
    let there = store.get(&pack).await.unwrap();
    store.put(&pack, body("overwritten")).await.unwrap();
    store.delete(&pack).await.expect("a marker is made");
    assert_eq!(store.get(&pack).await.unwrap_err().class(), Class::Missing);
    assert!(!store.list("packs").await.unwrap().iter().any(|object| object.key == pack));

    let [markers, kept] = versions(admin, "repo", &pack).await;
    assert_eq!((markers.len(), kept.len()), (1, 2));
    let (newest, oldest) = (&kept[0], &kept[1]);
    let version = |id: &str| format!("/repo/{pack}?versionId={id}");
    let (status, _) = admin.s3("DELETE", &version(newest), &[], "").await;
    assert_eq!(status < 300, !is_locked, "a version under a lock can't be deleted: {status}");
    admin.done("DELETE", &version(&markers[0]), &[], "").await;
    let text = admin.done("GET", &version(oldest), &[], "").await;
    assert_eq!(text, String::from_utf8_lossy(&there));
    if !is_locked {
        assert_eq!(store.get(&pack).await.unwrap(), there);
        runs.restore(url, owner);
    }
    conformance::deleting_is_idempotent(store).await;
    conformance::a_create_never_overwrites(store).await;
    conformance::one_create_wins_a_race(store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn minio_with_versions_hides_what_is_deleted() {
    let server = Minio::start();
    server.bucket("repo", &[]).await;
    server.admin().done("PUT", "/repo?versioning=", &[], VERSIONS).await;
    let owner = Credentials::new(server_minio::ACCESS_KEY, server_minio::SECRET_KEY);
    let url = server.url("repo");
    a_delete_hides(&owner.store(&url), &server.admin(), &url, &owner, false).await;
    conformance::a_deleted_key_can_be_created_again(&owner.store(&url)).await;
}

/// It takes a marker for an object, so a deleted key can't be created again; kist uses no name twice.
#[tokio::test(flavor = "multi_thread")]
async fn versitygw_with_versions_hides_what_is_deleted() {
    let server = Versitygw::start_with_versions();
    let owner = Credentials::new(versitygw::ACCESS_KEY, versitygw::SECRET_KEY);
    server.admin().done("PUT", "/repo", &[], "").await;
    server.admin().done("PUT", "/repo?versioning=", &[], VERSIONS).await;
    let url = server.url("repo");
    a_delete_hides(&owner.store(&url), &server.admin(), &url, &owner, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn minio_with_object_lock_hides_what_is_deleted_and_keeps_it() {
    let server = Minio::start();
    server.bucket("repo", &WITH_LOCK).await;
    server.admin().done("PUT", "/repo?object-lock=", &[LOCK_MD5], LOCK).await;
    let owner = Credentials::new(server_minio::ACCESS_KEY, server_minio::SECRET_KEY);
    // As for Amazon's, which wants a checksum where object lock is on.
    let url = format!("{}&checksum=true", server.url("repo"));
    a_delete_hides(&owner.store(&url), &server.admin(), &url, &owner, true).await;
}

/// versitygw locks without versions: there a delete is refused, and so is a put over what is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_object_lock_keeps_is_retained_and_taken_up_later() {
    let server = Versitygw::start();
    let owner = Credentials::new(versitygw::ACCESS_KEY, versitygw::SECRET_KEY);
    server.admin().done("PUT", "/repo", &WITH_LOCK, "").await;
    server.admin().done("PUT", "/repo?object-lock=", &[LOCK_MD5], LOCK).await;
    let url = server.url("repo");
    let runs = a_round(&url, &owner);
    let store = owner.store(&url);
    for key in [store.list("packs").await.unwrap().remove(0).key, "config".into()] {
        let there = store.get(&key).await.unwrap();
        let deleted = store.delete(&key).await.unwrap_err();
        assert_eq!(deleted.class(), Class::Retained, "{deleted:?}");
        let text = deleted.to_string();
        assert!(text.starts_with(&format!("delete {key}")) && text.ends_with("the store keeps it"), "{text}");
        let overwritten = store.put(&key, body("overwritten")).await.unwrap_err();
        assert_eq!(overwritten.class(), Class::Denied, "{overwritten:?}");
        let created = store.create_exclusive(&key, body("another")).await.unwrap();
        assert_eq!(created, Created::Other(there.clone()));
        assert_eq!(store.get(&key).await.unwrap(), there);
    }
    // What the probe could not remove is in nobody's way.
    assert!(!store.list("probe").await.unwrap().is_empty());
    assert!(store.probe([9; 16]).await.unwrap().is_sound());
    store.delete("packs/aa/none").await.expect("nothing is there to be kept");
    runs.restore(&url, &owner);
}
