//! CPU work for who waits on the runtime.

use tokio::sync::oneshot;

use crate::repo::{Error, Result};

/// Runs `work` on a CPU thread and waits for it; it runs to its end also if nobody waits any more.
pub async fn on_cpu<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (done, awaited) = oneshot::channel();
    rayon::spawn(move || drop(done.send(work())));
    awaited.await.map_err(|_| Error::Abandoned)
}
