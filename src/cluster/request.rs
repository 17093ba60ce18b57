//! One request to the API server: named, and bounded in time.
//!
//! The client itself waits for ever on a server that has gone silent, and a read timeout of its own would cut
//! watches and exec streams, which are meant to last. So every single request of this module goes through
//! here, but for lists and groups that have limits of their own.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::cluster::{Error, Result};

/// The API server ends an ordinary request after 60 s; whoever is silent for half of it is not there.
const ANSWER: Duration = Duration::from_secs(30);
/// For [`answered`]: the API server's own answer to a request that takes too long comes before.
const LONGEST: Duration = Duration::from_secs(65);
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

/// Makes one request that may take as long as the API server gives it, as creating objects does where webhooks
/// are slow. For callers that read the client's errors themselves, and say what they were doing.
pub(super) async fn answered<T>(request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    let answer = timeout(LONGEST, request).await;
    answer.unwrap_or_else(|_| {
        let silent = format!("the API server is silent for {} s", LONGEST.as_secs());
        Err(kube::Error::Service(silent.into()))
    })
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
pub(super) fn passes(error: &Error) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_ends_every_request_with_an_error_that_names_it() {
        let doing = || "read the pod shop/a".to_owned();
        let error = request::<()>(doing, std::future::pending()).await.unwrap_err().to_string();
        assert!(error.contains("read the pod shop/a") && error.contains("silent"), "{error}");
        let error = answered::<()>(std::future::pending()).await.map_err(Error::api(doing)).unwrap_err();
        assert_eq!(error.to_string(), "read the pod shop/a: the API server is silent for 65 s");
        assert!(passes(&error));
    }
}
