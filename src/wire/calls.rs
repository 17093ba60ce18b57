//! Requests and their answers, over a link that carries other messages too.
//!
//! Whoever takes the messages hands the answers to [`Calls::answered`], which never waits.
//! Invariant: each call ends, by its answer or with the link.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::format::frame::{Message, kind};
use crate::wire::Sender;
use crate::wire::error::{Error, Result};

/// Asks the other side, any number of times at once. Clones share the calls.
#[derive(Clone)]
pub struct Calls {
    sender: Sender,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    last: u32,
    calls: HashMap<u32, Call>,
}

struct Call {
    /// The kind that its answer has.
    kind: u8,
    /// None once nobody waits any more: its answer is passed over.
    answer: Option<oneshot::Sender<Message>>,
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Calls({} open)", self.open().calls.len())
    }
}

impl Calls {
    pub fn new(sender: Sender) -> Self {
        Self { sender, open: Arc::default() }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request of `kind` and waits for its answer: a message of the kind that is one
    /// higher, or a `failure`.
    ///
    /// Fails when the link does, or when the other side ends without an answer.
    pub async fn call(&self, kind: u8, body: Bytes) -> Result<Message> {
        let (answer, answered) = oneshot::channel();
        let number = self.open().begin(Call { kind: kind + 1, answer: Some(answer) });
        let _given_up = GivenUp { open: &self.open, number };
        if let Err(error) = self.sender.send(kind, number, body).await {
            self.open().calls.remove(&number);
            return Err(error);
        }
        tokio::select! {
            biased;
            answer = answered => answer.map_err(|_| Error::Unanswered),
            error = self.sender.unanswerable() => Err(error),
        }
    }

    /// Takes an answer that came in. One that nobody asked for is misbehaviour.
    pub fn answered(&self, message: Message) -> Result<()> {
        let unasked = Error::Unasked { kind: message.kind, call: message.call };
        let Some(call) = self.open().calls.remove(&message.call) else { return Err(unasked) };
        if message.kind != call.kind && message.kind != kind::FAILURE {
            return Err(unasked);
        }
        if let Some(answer) = call.answer {
            // Whoever asked may have gone in this moment.
            let _ = answer.send(message);
        }
        Ok(())
    }
}

impl Open {
    /// A number that no open call has, and never 0.
    fn begin(&mut self, call: Call) -> u32 {
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != 0 && !self.calls.contains_key(&self.last) {
                self.calls.insert(self.last, call);
                return self.last;
            }
        }
    }
}

/// Leaves the call's number taken until its answer comes, also when nobody waits for it any more.
struct GivenUp<'a> {
    open: &'a Mutex<Open>,
    number: u32,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = open.calls.get_mut(&self.number) {
            call.answer = None;
        }
    }
}
