//! The link between a job and its mover: messages over two streams of bytes.
//!
//! Spec: chapter 10. [`link`] makes a [`Sender`] and a [`Receiver`] of any two streams;
//! [`Calls`] puts requests and answers on top. One task reads, another writes, and they
//! meet only in `state`: the reader never waits for the writer, nor for anyone who
//! takes messages, so two sides that both send can't stand still. Invariant: a link that was cut,
//! fell silent or was misused says so to everyone who uses it; only the other side's
//! explicit end is an end.

mod calls;
mod error;
mod reader;
mod state;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

use crate::format::frame::{Message, Pieces};
use crate::wire::state::Shared;
use crate::wire::writer::Outgoing;

pub use calls::Calls;
pub use error::{Error, Result};

/// How long each side may be quiet.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A side that has sent nothing for so long sends a heartbeat.
    pub heartbeat: Duration,
    /// A side that has read nothing for so long gives the link up.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(15), silence: Duration::from_secs(5 * 60) }
    }
}

/// Makes a link of two streams, and starts its two tasks in the runtime that it is called in.
///
/// When everything that came of it is dropped, the tasks end and the streams are closed.
pub fn link(
    read: impl AsyncRead + Send + Unpin + 'static,
    write: impl AsyncWrite + Send + Unpin + 'static,
    limits: Limits,
) -> (Sender, Receiver) {
    let shared = Arc::new(Shared::default());
    let (outgoing, queue) = mpsc::channel(1);
    tokio::spawn(reader::run(read, Arc::clone(&shared), limits.silence));
    tokio::spawn(writer::run(write, Arc::clone(&shared), queue, limits.heartbeat));
    let user = Arc::new(User(Arc::clone(&shared)));
    let sender = Sender { shared: Arc::clone(&shared), outgoing, _user: Arc::clone(&user) };
    (sender, Receiver { shared, _user: user })
}

/// Held by all senders and the receiver: when the last one goes, so do the tasks.
struct User(Arc<Shared>);

impl Drop for User {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Says something to the other side. Clones share the link; their messages do not mix.
#[derive(Clone)]
pub struct Sender {
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Outgoing>,
    _user: Arc<User>,
}

impl Sender {
    /// Sends a message; returns when all of it is on its way, not when it was taken.
    ///
    /// Waits while the other side has not acknowledged enough. Dropping the future does
    /// not leave half a message: it is sent whole or, if its turn had not come, not at all.
    pub async fn send(&self, kind: u8, call: u32, body: Bytes) -> Result<()> {
        let pieces =
            Pieces::cut(Message { kind, call, body }).map_err(|source| Error::Unsendable { source })?;
        self.hand_over(|done| Outgoing::Message { pieces, done }).await
    }

    /// Waits until the other side has acknowledged all that was sent, then says the end.
    ///
    /// Nothing can be sent behind it, by any clone.
    pub async fn end(&self) -> Result<()> {
        match self.hand_over(|done| Outgoing::End { done }).await {
            Err(_) if self.shared.is_done_with_us() => Ok(()),
            ended => ended,
        }
    }

    async fn hand_over(&self, outgoing: impl FnOnce(oneshot::Sender<()>) -> Outgoing) -> Result<()> {
        let (done, is_done) = oneshot::channel();
        if self.outgoing.send(outgoing(done)).await.is_err() {
            return Err(self.shared.why_not_sent());
        }
        is_done.await.map_err(|_| self.shared.why_not_sent())
    }

    /// Waits until no answer can come any more, and says why.
    pub(crate) async fn unanswerable(&self) -> Error {
        self.shared.unanswerable().await
    }
}

/// Takes what the other side says.
pub struct Receiver {
    shared: Arc<Shared>,
    _user: Arc<User>,
}

impl Receiver {
    /// The next message; none after the other side's explicit end.
    ///
    /// What came in whole before a failure is still given, then the failure, each time. Whoever
    /// holds a receiver has to go on taking: what is not taken stops the other side.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Message>> {
        self.shared.next().await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.nobody_listens();
    }
}

#[cfg(test)]
mod tests;
