//! Fetches raw objects: all of a kind, in pages, or one by its name.
//!
//! Answers are parsed here and not by the client: it writes an answer that it can't parse into the log, and
//! these hold Secrets.

use std::time::Duration;

use kube::api::{GetParams, ListParams};
use kube::core::Request;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cluster::kind::Kind;
use crate::cluster::manifest::{Manifest, ObjectKey};
use crate::cluster::{Cluster, Error, Result};

/// Objects in one answer; with Secrets and ConfigMaps of up to 1 MiB each it is what bounds memory.
const PAGE: u32 = 500;
/// How often a list is started. A list that outlives the server's history (5 minutes, by default) is told so
/// and starts anew; a lost connection too.
const STARTS: u32 = 3;

/// For one answer, with the client's own attempts: it tries for minutes what a server behind an APIService
/// that hangs is answered for with.
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMetadata,
    /// Null where a server has none.
    #[serde(default)]
    items: Option<Vec<Value>>,
}

#[derive(Default, Deserialize)]
struct PageMetadata {
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

/// All objects of a kind, of one namespace or of all. Those that change meanwhile are seen before or after.
pub(super) async fn all(cluster: &Cluster, kind: &Kind, place: Option<&str>) -> Result<Vec<Manifest>> {
    let mut start = 1;
    loop {
        match pages(cluster, kind, place).await {
            Err(error) if start < STARTS && is_worth_another(&error) => start += 1,
            done => return done,
        }
    }
}

/// Gone: the pages that follow are of a past that the server has forgotten. Or the connection broke.
fn is_worth_another(error: &Error) -> bool {
    error.status() == Some(410) || is_unreachable(error)
}

/// Whether no answer came, so that the next request would fare no better.
pub(super) fn is_unreachable(error: &Error) -> bool {
    use kube::Error::{Api, BuildRequest, FromUtf8, SerdeError};
    let Error::Api { cause: source, .. } = error else { return false };
    !matches!(&**source, Api(_) | BuildRequest(_) | FromUtf8(_) | SerdeError(_))
}

async fn pages(cluster: &Cluster, kind: &Kind, place: Option<&str>) -> Result<Vec<Manifest>> {
    let doing = || match place {
        Some(namespace) => format!("list {kind} in {namespace}"),
        None => format!("list {kind}"),
    };
    let mut found = Vec::new();
    let mut next = None;
    loop {
        let params = ListParams { limit: Some(PAGE), continue_token: next, ..Default::default() };
        let request = Request::new(kind.path(place)).list(&params);
        let request = request.map_err(kube::Error::BuildRequest).map_err(Error::api(doing))?;
        let answer = within_limit(cluster.client.request_text(request), doing).await?;
        let page: Page = parse(&answer).map_err(Error::api(doing))?;
        for body in page.items.unwrap_or_default() {
            let manifest = manifest(kind, body);
            found.push(manifest.ok_or_else(|| Error::Other(format!("{}: an object has no name", doing())))?);
        }
        next = page.metadata.next.filter(|token| !token.is_empty());
        if next.is_none() {
            return Ok(found);
        }
    }
}

/// An object of the whole cluster. None: it isn't there.
pub(super) async fn one(cluster: &Cluster, kind: &Kind, name: &str) -> Result<Option<Manifest>> {
    let doing = || format!("get {kind} {name}");
    let request = Request::new(kind.path(None)).get(name, &GetParams::default());
    let request = request.map_err(kube::Error::BuildRequest).map_err(Error::api(doing))?;
    match within_limit(cluster.client.request_text(request), doing).await {
        Ok(answer) => Ok(manifest(kind, parse(&answer).map_err(Error::api(doing))?)),
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn within_limit(
    asking: impl Future<Output = Result<String, kube::Error>>,
    doing: impl FnOnce() -> String,
) -> Result<String> {
    match tokio::time::timeout(LIMIT, asking).await {
        Ok(answer) => answer.map_err(Error::api(doing)),
        Err(_) => Err(Error::Timeout { what: doing(), seconds: LIMIT.as_secs(), last: "no answer".into() }),
    }
}

fn parse<T: DeserializeOwned>(answer: &str) -> Result<T, kube::Error> {
    serde_json::from_str(answer).map_err(kube::Error::SerdeError)
}

/// None if it has no name.
fn manifest(kind: &Kind, mut body: Value) -> Option<Manifest> {
    let metadata = &body["metadata"];
    let name = metadata["name"].as_str().filter(|name| !name.is_empty())?;
    let key = ObjectKey {
        group: kind.group.clone(),
        version: kind.version.clone(),
        kind: kind.kind.clone(),
        namespace: metadata["namespace"].as_str().map(str::to_owned),
        name: name.to_owned(),
    };
    let fields = body.as_object_mut()?;
    fields.entry("apiVersion").or_insert_with(|| key.api_version().into());
    fields.entry("kind").or_insert_with(|| key.kind.clone().into());
    Some(Manifest { key, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stateful_sets() -> Kind {
        Kind {
            group: "apps".into(),
            version: "v1".into(),
            kind: "StatefulSet".into(),
            plural: "statefulsets".into(),
            namespaced: true,
            verbs: Vec::new(),
        }
    }

    #[test]
    fn what_lists_leave_out_is_filled_in_and_nothing_else_is_touched() {
        let item =
            json!({"metadata": {"name": "db", "namespace": "shop", "managedFields": []}, "status": {}});
        let found = manifest(&stateful_sets(), item.clone()).unwrap();
        assert_eq!(found.key.to_string(), "apps/v1 StatefulSet shop/db");
        let mut expected = item;
        expected["apiVersion"] = "apps/v1".into();
        expected["kind"] = "StatefulSet".into();
        assert_eq!(found.body, expected);
    }

    #[test]
    fn an_object_without_a_name_is_no_manifest() {
        assert!(manifest(&stateful_sets(), json!({"metadata": {}})).is_none());
        assert!(manifest(&stateful_sets(), json!("text")).is_none());
    }

    #[test]
    fn the_last_page_has_an_empty_token_or_none() {
        let next = |text: &str| serde_json::from_str::<Page>(text).unwrap().metadata.next;
        assert_eq!(next(r#"{"metadata": {"continue": "abc"}, "items": null}"#).as_deref(), Some("abc"));
        assert_eq!(next(r#"{"metadata": {"resourceVersion": "7"}, "items": []}"#), None);
    }

    #[test]
    fn a_list_starts_anew_when_its_pages_are_gone() {
        let answered = |code| {
            let status = kube::core::Status::failure("", "").with_code(code);
            Error::Api { doing: String::new(), cause: Box::new(kube::Error::Api(status.boxed())) }
        };
        assert!(is_worth_another(&answered(410)));
        assert!(!is_worth_another(&answered(403)));
    }
}
