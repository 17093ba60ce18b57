//! One volume through one mover, from the job's side: hello → task → answers → report.
//!
//! The mover asks, the job answers: store operations that it can't carry out itself, lane keys that it
//! needs to open a chunk. It gets no more than the order allows, and a mover that asks for more is told
//! off. Ends when the mover says its end, its pod goes, the link dies, or the run is cancelled.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tokio::task::JoinSet;

use crate::cluster::mover::Mover;
use crate::format::frame::{Message, kind};
use crate::format::keys::KeyName;
use crate::format::task::{self, Direct, Failure, FailureClass, Hex, KeyRequest, Report, Task, Work};
use crate::job::{Error, Result};
use crate::progress::{Progress, Unit, cancelled};
use crate::repo::{Reader, Repository, chain};
use crate::store::{May, Relayed};
use crate::wire::{Limits, Receiver, Sender, link};

/// Store operations that are carried out for one mover at a time; of at most 64 MiB each.
const ANSWERING: usize = 6;
/// How long a mover that has said its end is told of ours.
const ENDING: Duration = Duration::from_millis(100);
/// How long the end of a mover is waited for. What takes longer (its node is gone, say) the next run removes.
const DELETE: Duration = Duration::from_secs(60);
/// The same when somebody waits for a cancelled run to end.
const DELETE_CANCELLED: Duration = Duration::from_secs(8);
/// How long a mover that was told to stop may take.
const STOPPING: Duration = Duration::from_secs(8);
/// Both ends say something every 15 s.
const SILENCE: Duration = Duration::from_secs(60);

/// What a mover is to do, and what it may ask for.
pub struct Order {
    pub task: Task,
    pub may: May,
    /// Answers requests for lane keys.
    pub keys: Option<Arc<Reader>>,
}

/// A task for work on the entries that are sealed with the key `meta`.
pub async fn task(repo: &Repository, meta: KeyName, direct: Option<&Direct>, work: Work) -> Result<Task> {
    let config = crate::repo::stored_config(repo).await?;
    let keys = repo.keys.for_mover(meta)?;
    Ok(Task {
        version: task::VERSION,
        config: Hex(config.to_vec()),
        direct: direct.cloned(),
        keys: task::Keys {
            certificate: Hex(keys.certificate),
            structure: Hex(keys.structure),
            id: Hex(keys.id),
            chunker: Hex(keys.chunker),
            meta_name: Hex(keys.meta.0),
            meta: Hex(keys.meta.1),
        },
        work,
    })
}

/// Does some work, but ends early if the run is cancelled. Only for what may be left half done.
pub async fn unless_cancelled<T, E>(
    progress: &dyn Progress,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T>
where
    Error: From<E>,
{
    tokio::select! {
        done = work => Ok(done?),
        () = cancelled(progress) => Err(Error::Interrupted),
    }
}

/// Has a mover carry out an order.
pub async fn drive(
    mover: &Mover,
    repo: &Repository,
    order: Order,
    progress: Arc<dyn Progress>,
) -> Result<Report> {
    let mut process = unless_cancelled(progress.as_ref(), mover.run()).await?;
    let (Some(stdin), Some(stdout)) = (process.stdin(), process.stdout()) else {
        return Err(Error::Link { what: "the mover's process has no streams".into() });
    };
    let limits = Limits { silence: SILENCE, ..Default::default() };
    let (sender, receiver) = link(stdout, stdin, limits);
    let talk = Talk {
        sender,
        served: Arc::new(Relayed::new(repo.store.clone(), order.may)),
        keys: order.keys,
        task: Some(order.task),
        told: task::Progress::default(),
        report: None,
        answering: JoinSet::new(),
    };
    let served = talk.served.clone();
    let report = tokio::select! {
        report = talk.converse(receiver, progress) => report,
        gone = mover.gone() => Err(gone.into()),
    };
    for asked in served.misbehaviour() {
        tracing::warn!(mover = mover.name(), asked, "a mover asked for what it may not have");
    }
    match report {
        // What the process itself says of its end is nearer to the cause than that the link is gone.
        Err(Error::Wire(error)) => match process.stderr().trim() {
            "" => Err(Error::Wire(error)),
            said => Err(Error::Link { what: format!("{error}; the mover said: {said}") }),
        },
        report => report,
    }
}

/// Deletes movers and waits until they are gone, within bounds.
pub async fn delete_all(movers: impl IntoIterator<Item = Mover>, progress: &dyn Progress) {
    let limit = if progress.is_cancelled() { DELETE_CANCELLED } else { DELETE };
    let deleting = movers.into_iter().map(|mover| tokio::time::timeout(limit, mover.delete()));
    for deleted in join_all(deleting).await {
        let why = match deleted {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => chain(&error),
            Err(_) => format!("it was not gone after {} s", limit.as_secs()),
        };
        tracing::warn!(why, "a mover could not be deleted: the next run removes it");
    }
}

struct Talk {
    sender: Sender,
    served: Arc<Relayed>,
    keys: Option<Arc<Reader>>,
    task: Option<Task>,
    told: task::Progress,
    report: Option<Result<Report>>,
    answering: JoinSet<Result<()>>,
}

impl Talk {
    async fn converse(mut self, mut receiver: Receiver, progress: Arc<dyn Progress>) -> Result<Report> {
        let mut stop = Box::pin(stop(self.sender.clone(), progress.clone()));
        loop {
            tokio::select! {
                message = receiver.next(), if self.answering.len() < ANSWERING => match message? {
                    Some(message) => self.take(message, progress.as_ref())?,
                    None => {
                        // The mover has said its end and waits for ours; it may be gone already.
                        let _ = tokio::time::timeout(ENDING, self.sender.end()).await;
                        let nothing = || Err(Error::Link { what: "the mover ended without a report".into() });
                        return self.report.unwrap_or_else(nothing);
                    }
                },
                Some(answered) = self.answering.join_next() => answered.expect("answering does not panic")?,
                () = &mut stop => return Err(Error::Interrupted),
            }
        }
    }

    fn take(&mut self, message: Message, progress: &dyn Progress) -> Result<()> {
        let Message { kind, call, body } = message;
        match kind {
            kind::READY => match self.task.take() {
                Some(task) => self.say(kind::TASK, 0, Bytes::from(task.encode().to_vec())),
                None => return Err(Error::Link { what: "the mover said hello twice".into() }),
            },
            kind::STORE_REQUEST => {
                let (served, sender) = (self.served.clone(), self.sender.clone());
                self.answering.spawn(async move {
                    let answer = served.answer(body).await;
                    Ok(sender.send(kind::STORE_ANSWER, call, answer).await?)
                });
            }
            kind::KEY_REQUEST => {
                let (keys, sender) = (self.keys.clone(), self.sender.clone());
                self.answering.spawn(async move {
                    let answer = lane_key(keys.as_deref(), &body).await?;
                    Ok(sender.send(kind::KEY_ANSWER, call, answer).await?)
                });
            }
            kind::PROGRESS => {
                let now = task::Progress::decode(&body).unwrap_or(self.told);
                progress.advance(Unit::Entries, now.entries.saturating_sub(self.told.entries));
                progress.advance(Unit::Bytes, now.bytes.saturating_sub(self.told.bytes));
                progress.advance(Unit::PackBytes, now.pack_bytes.saturating_sub(self.told.pack_bytes));
                self.told = now;
            }
            kind::REPORT => {
                self.report = Some(Report::decode(&body).map_err(garbled));
            }
            kind::FAILURE => {
                let failure = Failure::decode(&body).map_err(garbled)?;
                self.report = Some(Err(match failure.class {
                    FailureClass::Interrupted if progress.is_cancelled() => Error::Interrupted,
                    // It stopped for a reason of its own, as when it was sent what it does not know.
                    FailureClass::Interrupted => {
                        Error::Mover { class: FailureClass::Transient, message: failure.message }
                    }
                    class => Error::Mover { class, message: failure.message },
                }));
            }
            // Other kinds than these are a job's to send; what no kind is, the link refuses.
            kind => {
                return Err(Error::Link {
                    what: format!("the mover sent a message of kind {kind}, a job's own"),
                });
            }
        }
        Ok(())
    }

    /// Sends beside everything else: a mover that takes nothing must not keep us from noticing the rest.
    fn say(&mut self, kind: u8, call: u32, body: Bytes) {
        let sender = self.sender.clone();
        self.answering.spawn(async move { Ok(sender.send(kind, call, body).await?) });
    }
}

fn garbled(error: crate::format::Error) -> Error {
    Error::Link { what: error.to_string() }
}

/// 32 bytes, or nothing if there is no such key or the order has none to give.
async fn lane_key(keys: Option<&Reader>, request: &[u8]) -> Result<Bytes> {
    let KeyRequest { session, lane } = KeyRequest::decode(request).map_err(garbled)?;
    let Some(reader) = keys else { return Ok(Bytes::new()) };
    let name = KeyName::Data { session, lane };
    let key = reader.wait_for_lane_key(&name).await?;
    Ok(key.map_or_else(Bytes::new, |key| Bytes::copy_from_slice(key.expose())))
}

/// When the run is cancelled: asks the mover to stop, and ends when it has had its time.
async fn stop(sender: Sender, progress: Arc<dyn Progress>) {
    cancelled(progress.as_ref()).await;
    let asked = async {
        let _ = sender.send(kind::CANCEL, 0, Bytes::new()).await;
        std::future::pending::<()>().await;
    };
    let _ = tokio::time::timeout(STOPPING, asked).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{duplex, split};

    use super::*;
    use crate::progress::Silent;
    use crate::store::Store;

    #[tokio::test(start_paused = true)]
    async fn a_mover_that_sends_what_only_a_job_may_ends_the_link() {
        for kind in [kind::TASK, kind::CANCEL, kind::STORE_ANSWER, kind::KEY_ANSWER] {
            let [job, mover] = {
                let (job, mover) = duplex(1 << 16);
                [job, mover].map(|stream| {
                    let (read, write) = split(stream);
                    link(read, write, Limits::default())
                })
            };
            let talk = Talk {
                sender: job.0,
                served: Arc::new(Relayed::new(Store::memory(), May::restore())),
                keys: None,
                task: None,
                told: task::Progress::default(),
                report: None,
                answering: JoinSet::new(),
            };
            mover.0.send(kind, 0, Bytes::new()).await.unwrap();
            let talking = talk.converse(job.1, Arc::new(Silent));
            let (ended, _) = tokio::join!(talking, mover.0.end());
            assert!(matches!(&ended, Err(Error::Link { what }) if what.contains("a job's own")), "{kind}");
            let (_, mut from_job) = mover;
            assert!(from_job.next().await.is_err(), "the link is still there");
        }
    }
}
