//! The removals of movers that were dropped: under way in the background, and to be waited for.
//!
//! A dropped mover can't wait itself, and a process that ends takes its tasks with it. So whoever starts
//! movers keeps one of these for all of them, and waits before it ends.

use std::mem::take;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Clones are the same. Dropped, the removals go on as long as the runtime does.
#[derive(Clone, Debug, Default)]
pub struct Removals(Arc<Mutex<Vec<JoinHandle<()>>>>);

impl Removals {
    /// Starts one. Without a runtime there is nobody to carry it out: the next run sweeps.
    pub(super) fn begin(&self, removal: impl Future<Output = ()> + Send + 'static) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut under_way = self.0.lock().expect("no holder of this lock panics");
        under_way.retain(|removal| !removal.is_finished());
        under_way.push(runtime.spawn(removal));
    }

    /// Waits until all are done, those too that begin meanwhile; at most this long. What is not done then is
    /// left to the next run, which sweeps.
    pub async fn settled(&self, limit: Duration) {
        let all = async {
            loop {
                let some = take(&mut *self.0.lock().expect("no holder of this lock panics"));
                if some.is_empty() {
                    return;
                }
                join_all(some).await;
            }
        };
        if timeout(limit, all).await.is_err() {
            let seconds = limit.as_secs();
            tracing::warn!(seconds, "movers that were dropped are not gone yet, and left to the next run");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_removal_is_waited_for_and_not_longer_than_the_limit() {
        let removals = Removals::default();
        removals.settled(Duration::ZERO).await;
        let is_done = Arc::new(AtomicBool::new(false));
        let (of_task, again) = (is_done.clone(), removals.clone());
        removals.begin(async move {
            tokio::task::yield_now().await;
            again.begin(async move { of_task.store(true, Ordering::SeqCst) });
        });
        removals.clone().settled(Duration::from_secs(60)).await;
        assert!(is_done.load(Ordering::SeqCst), "one that began while the first was waited for");
        removals.begin(std::future::pending());
        removals.settled(Duration::from_secs(60)).await;
    }
}
