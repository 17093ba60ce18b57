//! Watches one object, through lost connections and restarts of the API server.
//!
//! Invariant: the stream ends with an error only if watching is not permitted. Whoever waits on it sets
//! the limit; the client's own idle timeout finds dead connections.

use std::fmt::Debug;
use std::future::ready;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::cluster::{Error, Result};

/// The object as it is, then as it becomes; None while it does not exist. `what` is such as
/// "the pod shop/a".
pub(super) fn watch<K>(api: Api<K>, name: &str, what: String) -> BoxStream<'static, Result<Option<K>>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let events = watch_object(api, name).default_backoff();
    let seen = events.filter_map(move |event| {
        ready(match event {
            Ok(object) => Some(Ok(object)),
            Err(error) => refusal(error, &what).map(Err),
        })
    });
    seen.boxed()
}

/// An error that will not pass: it is the account that may not.
fn refusal(error: watcher::Error, what: &str) -> Option<Error> {
    match error {
        watcher::Error::InitialListFailed(source) | watcher::Error::WatchStartFailed(source) if matches!(&source, kube::Error::Api(status) if status.code == 403) => {
            Some(Error::Api { doing: format!("watch {what}"), cause: Box::new(source) })
        }
        passing => {
            tracing::debug!(error = &passing as &dyn std::error::Error, what, "watched again");
            None
        }
    }
}

/// The next state of a watched object.
pub(super) async fn next<K>(objects: &mut BoxStream<'static, Result<Option<K>>>) -> Result<Option<K>> {
    // The default backoff never gives up, so the stream has no other end than an error.
    objects.next().map(|next| next.unwrap_or_else(|| Err(Error::Other("a watch ended".into())))).await
}
