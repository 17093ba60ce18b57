//! The policies that README gives for append-only buckets: read out of it, and tried.
//!
//! Real servers keep all of them but the condition, which none of them knows; a front that keeps the
//! policies word for word shows that kist works under the condition too.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kist::store::{Class, Created};
use serde_json::{Value, json};

use crate::front::{self, Head, Way};
use crate::runs::{Credentials, Runs};
use crate::server_minio::{self, Minio};
use crate::versitygw::{self, Versitygw};

const BUCKET: &str = "backups";
const PREFIX: &str = "shop";
const CONDITION: &str = "s3:if-none-match";

/// The policies of README: the writer's, and the maintainer's.
fn policies() -> [Value; 2] {
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("## Append-only storage\n").expect("README has the section");
    let section = section.split("\n## ").next().expect("a section has an end");
    let blocks: Vec<Value> = section
        .split("```json\n")
        .skip(1)
        .map(|rest| rest.split("```").next().expect("a block has an end"))
        .map(|text| text.replace("BUCKET", BUCKET).replace("PREFIX", PREFIX))
        .map(|text| serde_json::from_str(&text).expect("README's policies are JSON"))
        .collect();
    blocks.try_into().expect("README has two policies")
}

fn statements(policy: &mut Value) -> &mut Vec<Value> {
    policy["Statement"].as_array_mut().expect("a policy has statements")
}

/// The same without the condition that no server here knows.
fn without_condition(mut policy: Value) -> Value {
    for statement in statements(&mut policy) {
        let statement = statement.as_object_mut().expect("a statement");
        assert!(
            !statement.contains_key("Condition") || statement["Condition"]["Null"].get(CONDITION).is_some()
        );
        statement.remove("Condition");
    }
    policy
}

/// The same for a bucket: it says whom it speaks of.
fn of_a_bucket(policies: [(Value, &str); 2]) -> Value {
    let mut all = Vec::new();
    for (mut policy, user) in policies {
        for statement in statements(&mut policy) {
            statement["Principal"] = json!({"AWS": [user]});
            all.push(statement.take());
        }
    }
    json!({"Version": "2012-10-17", "Statement": all})
}

/// A whole round, and what each may not. `kept` says whether the store refuses to overwrite.
async fn try_out(
    url: &str,
    owner: &Credentials,
    [writer, maintainer]: [(&str, &Credentials); 2],
    is_conditional: bool,
) {
    let runs = Runs::init(url, owner);
    runs.backup(writer.0, writer.1);
    runs.change("second");
    runs.backup(writer.0, writer.1);
    runs.restore(url, owner);

    let (all, writer) = (owner.store(url), writer.1.store(writer.0));
    let body = || Bytes::from_static(b"something else");
    let before = all.list("").await.unwrap();
    for folder in ["packs", "index", "sessions", "commits", "keys", "config"] {
        let of_folder = |o: &&kist::store::Object| o.key.split('/').next() == Some(folder);
        let key = &before.iter().find(of_folder).unwrap_or_else(|| panic!("there are {folder}")).key;
        let there = all.get(key).await.unwrap();
        let deleted = writer.delete(key).await.unwrap_err();
        assert_eq!(deleted.class(), Class::Retained, "{deleted:?}");
        if is_conditional || ["keys", "config"].contains(&folder) {
            let overwritten = writer.put(key, body()).await.unwrap_err();
            assert_eq!(overwritten.class(), Class::Denied, "{key}: {overwritten:?}");
        }
        if folder == "commits" {
            let created = writer.create_exclusive(key, body()).await.unwrap();
            assert_eq!(created, Created::Other(there.clone()));
        }
        assert_eq!(all.get(key).await.unwrap(), there, "{key}");
    }
    let slot = writer.put("keys/planted", body()).await.unwrap_err();
    assert_eq!(slot.class(), Class::Denied, "{slot:?}");
    assert_eq!(all.list("").await.unwrap(), before);

    let maintainer = maintainer.1.store(maintainer.0);
    for key in ["packs/aa/new", "gc/7", "commits/fence"] {
        assert_eq!(maintainer.create_exclusive(key, body()).await.unwrap(), Created::Mine);
        maintainer.delete(key).await.unwrap();
    }
    let slot = &before.iter().find(|o| o.key.starts_with("keys/")).unwrap().key;
    for key in [slot.as_str(), "config"] {
        assert_eq!(maintainer.delete(key).await.unwrap_err().class(), Class::Retained, "{key}");
        assert_eq!(maintainer.put(key, body()).await.unwrap_err().class(), Class::Denied, "{key}");
    }
    assert_eq!(all.list("").await.unwrap(), before);
    runs.restore(url, owner);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_minio_a_writer_adds_and_can_not_delete() {
    let server = Minio::start();
    server.bucket(BUCKET, &[]).await;
    let owner = Credentials::new(server_minio::ACCESS_KEY, server_minio::SECRET_KEY);
    let mut sessions = Vec::new();
    for policy in policies().map(without_condition) {
        let (id, secret, token) = server.admin().session(&policy.to_string()).await;
        sessions.push(Credentials { id, secret, token: Some(token) });
    }
    let url = server.url(&format!("{BUCKET}/{PREFIX}"));
    let [writer, maintainer] = &sessions[..] else { panic!("two sessions") };
    try_out(&url, &owner, [(&url, writer), (&url, maintainer)], false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_versitygw_a_writer_adds_and_can_not_delete() {
    let server = Versitygw::start();
    server.bucket(BUCKET);
    let owner = Credentials::new(versitygw::ACCESS_KEY, versitygw::SECRET_KEY);
    let [writer, maintainer] = ["writer", "maintainer"].map(|name| {
        server.user(name, "secret-of-a-user");
        Credentials::new(name, "secret-of-a-user")
    });
    let [of_writer, of_maintainer] = policies().map(without_condition);
    let policy = of_a_bucket([(of_writer, "writer"), (of_maintainer, "maintainer")]).to_string();
    server.admin().done("PUT", &format!("/{BUCKET}?policy"), &[], &policy).await;
    let url = server.url(&format!("{BUCKET}/{PREFIX}"));
    try_out(&url, &owner, [(&url, &writer), (&url, &maintainer)], false).await;
}

/// When one of them learns the condition, README's word "untried" is wrong and this test fails.
#[tokio::test(flavor = "multi_thread")]
async fn no_server_here_knows_the_condition() {
    let minio = Minio::start();
    minio.bucket(BUCKET, &[]).await;
    let [writer, maintainer] = policies();
    let (status, answer) = minio.admin().try_session(&writer.to_string()).await;
    assert!(status == 400 && answer.contains("invalid condition key"), "{status}: {answer}");
    let versitygw = Versitygw::start();
    versitygw.bucket(BUCKET);
    for name in ["writer", "maintainer"] {
        versitygw.user(name, "secret-of-a-user");
    }
    let policy = of_a_bucket([(writer, "writer"), (maintainer, "maintainer")]).to_string();
    let (status, answer) = versitygw.admin().s3("PUT", &format!("/{BUCKET}?policy"), &[], &policy).await;
    assert!(status == 400 && answer.contains("condition"), "{status}: {answer}");
}

/// Whether a policy allows a request, by all that README's policies use of the language.
fn allows(policy: &Value, head: &Head) -> bool {
    let path = head.target.split('?').next().expect("a path");
    let action = match (head.method.as_str(), path.trim_matches('/') == BUCKET) {
        ("GET" | "HEAD", true) => "s3:ListBucket",
        ("GET" | "HEAD", false) => "s3:GetObject",
        ("PUT", false) => "s3:PutObject",
        ("DELETE", false) => "s3:DeleteObject",
        _ => return false,
    };
    let resource = format!("arn:aws:s3:::{}", path.trim_matches('/'));
    let any = |value: &Value, holds: &dyn Fn(&str) -> bool| match value {
        Value::Array(all) => all.iter().any(|one| one.as_str().is_some_and(holds)),
        one => one.as_str().is_some_and(holds),
    };
    let matches = |statement: &&Value| {
        let unmet = statement.get("Condition").is_some_and(|condition| {
            assert_eq!(*condition, json!({"Null": {CONDITION: "false"}}));
            head.header("if-none-match").is_none()
        });
        any(&statement["Action"], &|found| found == action)
            && any(&statement["Resource"], &|pattern| match pattern.strip_suffix('*') {
                Some(start) => resource.starts_with(start),
                None => resource == pattern,
            })
            && !unmet
    };
    let statements = policy["Statement"].as_array().expect("a policy has statements");
    let matching: Vec<_> = statements.iter().filter(matches).map(|statement| &statement["Effect"]).collect();
    matching.contains(&&json!("Allow")) && !matching.contains(&&json!("Deny"))
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_condition_is_kept_a_writer_adds_and_can_neither_delete_nor_overwrite() {
    let server = Versitygw::start();
    server.bucket(BUCKET);
    let owner = Credentials::new(versitygw::ACCESS_KEY, versitygw::SECRET_KEY);
    let refused = Arc::new(Mutex::new(Vec::new()));
    let mut urls = Vec::new();
    for policy in policies() {
        let refused = Arc::clone(&refused);
        let way = move |head: Head| match allows(&policy, &head) {
            true => Way::On(head, ""),
            false => {
                refused.lock().unwrap().push(format!("{} {}", head.method, head.target));
                Way::Refused
            }
        };
        let address = front::start(server.port(), way).await;
        urls.push(format!("s3://{BUCKET}/{PREFIX}?endpoint=http://{address}"));
    }
    let url = server.url(&format!("{BUCKET}/{PREFIX}"));
    // Nothing of a backup is refused and passed over.
    let runs = Runs::init(&url, &owner);
    runs.backup(&urls[0], &owner);
    runs.restore(&url, &owner);
    assert_eq!(*refused.lock().unwrap(), [""; 0]);
    server.empty(BUCKET);
    try_out(&url, &owner, [(&urls[0], &owner), (&urls[1], &owner)], true).await;
}
