//! One request to the API server: named, and bounded in time.
//!
//! The client itself waits for ever on a server that has gone silent. Every single request of this
//! module goes through here; only watches and exec streams, which are meant to last, do not.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::cluster::{Error, Result};

/// The API server ends an ordinary request after 60 s; whoever is silent for half of it is not there.
const ANSWER: Duration = Duration::from_secs(30);
/// Between two attempts: a restarting API server is back within seconds.
const RETRY: Duration = Duration::from_secs(1);

/// Makes one request. `doing` is such as "create the pod shop/a".
pub(super) async fn request<T>(
    doing: impl Fn() -> String,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T> {
    match timeout(ANSWER, request).await {
        Ok(answer) => answer.map_err(Error::api(&doing)),
        Err(_) => Err(Error::Timeout {
            what: format!("the answer to '{}'", doing()),
            seconds: ANSWER.as_secs(),
            last: "the API server is silent".into(),
        }),
    }
}

/// Makes a request again and again while it fails for reasons that pass, until the limit. Only for requests
/// that may be made twice.
pub(super) async fn persist<T, F>(
    limit: Duration,
    doing: impl Fn() -> String,
    mut make: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = kube::Result<T>>,
{
    let mut last = None;
    let attempts = async {
        loop {
            match request(&doing, make()).await {
                Err(error) if passes(&error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "tried again");
                    last = Some(error);
                    sleep(RETRY).await;
                }
                outcome => return outcome,
            }
        }
    };
    let outcome = timeout(limit, attempts).await;
    outcome.unwrap_or_else(|_| {
        Err(last.unwrap_or_else(|| Error::Timeout {
            what: format!("the answer to '{}'", doing()),
            seconds: limit.as_secs(),
            last: "the API server is silent".into(),
        }))
    })
}

/// Whether the same request may succeed later: the server was not reached, is busy, or broke.
fn passes(error: &Error) -> bool {
    match error.status() {
        Some(status) => status == 429 || status >= 500,
        None => true,
    }
}

/// None for what is not there.
pub(super) fn found<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}
