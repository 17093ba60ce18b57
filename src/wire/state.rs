//! Where reader, writer and users of a link meet: a few numbers behind a lock.
//!
//! Nobody waits while holding it. The reader only ever puts things in, so it never waits
//! for anyone. Invariant, by `may_acknowledge`: what is held for a user who does not take
//! is at most one whole message or [`HELD_BYTES`], and the window of frames beyond.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::format::frame::{Assembly, Frame, Message};
use crate::format::limits::FRAME_WINDOW;
use crate::wire::error::{Error, Result};

/// Messages that wait to be taken, beyond the first: enough to keep a user busy.
const HELD_BYTES: usize = 8 << 20;
/// What a message costs beside its body.
const MESSAGE_COST: usize = 128;
/// Frames after which an acknowledgement is due: a quarter of the window, so that the
/// other side never stands still for want of one.
const ACK_EVERY: u64 = FRAME_WINDOW / 4;

#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Something for the writer to do. It alone waits for this.
    writer: Notify,
    /// Something for the receiver. It alone waits for this.
    receiver: Notify,
    over: watch::Sender<Over>,
}

#[derive(Default)]
struct State {
    failure: Option<Error>,
    /// The writer's failure, while the reader still reads what the other side had sent before.
    unwritable: Option<Error>,
    sent: u64,
    acknowledged: u64,
    /// This side's end was sent.
    ended: bool,
    /// The highest number that came in.
    taken: u64,
    /// The highest number that may be acknowledged, and that was.
    ack_due: u64,
    ack_sent: u64,
    /// The number of the newest last piece.
    whole: u64,
    assembly: Assembly,
    queue: VecDeque<Message>,
    queued_bytes: usize,
    other_ended: bool,
    unheard: bool,
}

#[derive(Clone, Copy, Default)]
struct Over {
    /// The tasks have to stop.
    stopped: bool,
    /// The receiver has given the other side's end.
    heard_out: bool,
}

/// What the writer waits for, beside acknowledgements that are due.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    /// That another frame may be sent.
    Window,
    /// That everything sent is acknowledged.
    AllTaken,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wake {
    Acknowledge(u64),
    Granted,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the first failure, and stops the tasks.
    pub fn fail(&self, error: Error) {
        let mut state = self.state();
        let first = state.unwritable.take().unwrap_or(error);
        state.failure.get_or_insert(first);
        drop(state);
        self.stop();
        self.receiver.notify_one();
    }

    pub fn stop(&self) {
        self.over.send_modify(|over| over.stopped = true);
    }

    pub async fn stopped(&self) {
        let mut over = self.over.subscribe();
        over.wait_for(|over| over.stopped).await.expect("the sending half is in here");
    }

    /// Nothing more will come or go: both sides have ended.
    pub fn is_finished(&self) -> bool {
        let state = self.state();
        state.ended && state.other_ended
    }

    // --- the reader's part

    /// What the end of the stream means.
    pub fn cut(&self) -> Error {
        let state = self.state();
        match state.other_ended {
            true => Error::Gone,
            false => Error::Cut { frames: state.taken },
        }
    }

    /// Takes in a frame that was read.
    pub fn arrived(&self, frame: Frame) -> Result<()> {
        let mut state = self.state();
        match frame {
            Frame::Heartbeat => {}
            Frame::Ack { number } => {
                if number <= state.acknowledged || number > state.sent {
                    return Err(Error::Ack { found: number, sent: state.sent });
                }
                state.acknowledged = number;
                self.writer.notify_one();
            }
            Frame::End { number } => {
                state.count(number)?;
                if state.assembly.is_open() {
                    return Err(Error::Cut { frames: number });
                }
                state.other_ended = true;
                self.receiver.notify_one();
            }
            Frame::Piece { number, last, payload } => {
                state.count(number)?;
                if number - state.ack_sent > FRAME_WINDOW {
                    return Err(Error::Window { window: FRAME_WINDOW });
                }
                let message =
                    state.assembly.push(&payload, last).map_err(|source| Error::Garbled { source })?;
                if let Some(message) = message {
                    if state.unheard {
                        return Err(Error::Unheard);
                    }
                    state.whole = number;
                    state.queued_bytes += MESSAGE_COST + message.body.len();
                    state.queue.push_back(message);
                    self.receiver.notify_one();
                }
                if state.may_acknowledge() {
                    state.ack_due = number;
                    self.writer.notify_one();
                }
            }
        }
        Ok(())
    }

    // --- the writer's part

    /// Waits until an acknowledgement is due or the wish is granted.
    pub async fn writer_wakes(&self, wish: Wish) -> Wake {
        loop {
            {
                let state = self.state();
                if let Some(number) = state.acknowledgement() {
                    return Wake::Acknowledge(number);
                }
                let under_way = state.sent - state.acknowledged;
                match wish {
                    Wish::Window if under_way < FRAME_WINDOW => return Wake::Granted,
                    Wish::AllTaken if under_way == 0 => return Wake::Granted,
                    _ => {}
                }
            }
            self.writer.notified().await;
        }
    }

    /// The number of the next frame; before it is written, so that no acknowledgement comes too early.
    pub fn count_sent(&self) -> u64 {
        let mut state = self.state();
        state.sent += 1;
        state.sent
    }

    /// Before the acknowledgement is written: what the other side sends on its strength may be
    /// here before the write has returned.
    pub fn acknowledging(&self, number: u64) {
        self.state().ack_sent = number;
    }

    pub fn end_sent(&self) {
        self.state().ended = true;
        if self.is_finished() {
            // The reader waits for bytes that will not come.
            self.stop();
        }
    }

    /// Nothing more can be written; what can be read still may be the end.
    pub fn can_not_write(&self, error: Error) {
        self.state().unwritable.get_or_insert(error);
    }

    // --- the users' part

    pub async fn next(&self) -> Result<Option<Message>> {
        loop {
            {
                let mut state = self.state();
                if let Some(message) = state.queue.pop_front() {
                    state.queued_bytes -= MESSAGE_COST + message.body.len();
                    if state.may_acknowledge() {
                        state.ack_due = state.taken;
                        self.writer.notify_one();
                    }
                    return Ok(Some(message));
                }
                if state.other_ended {
                    self.over.send_modify(|over| over.heard_out = true);
                    return Ok(None);
                }
                if let Some(failure) = &state.failure {
                    return Err(failure.clone());
                }
            }
            self.receiver.notified().await;
        }
    }

    pub fn nobody_listens(&self) {
        let mut state = self.state();
        state.unheard = true;
        state.queue.clear();
        state.queued_bytes = 0;
        if state.may_acknowledge() {
            state.ack_due = state.taken;
            self.writer.notify_one();
        }
    }

    /// Why the writer did not take something.
    pub fn why_not_sent(&self) -> Error {
        let state = self.state();
        state.failure.as_ref().or(state.unwritable.as_ref()).cloned().unwrap_or(Error::Ended)
    }

    /// The other side has taken all that was sent, has ended and is gone: it has no need of this
    /// side's end.
    pub fn is_done_with_us(&self) -> bool {
        let state = self.state();
        let gone = matches!(&state.failure, None | Some(Error::Gone | Error::Broken { .. }));
        gone && state.other_ended && !state.ended && state.sent == state.acknowledged
    }

    pub async fn unanswerable(&self) -> Error {
        let mut over = self.over.subscribe();
        over.wait_for(|over| over.stopped || over.heard_out).await.expect("the sending half is in here");
        self.state().failure.clone().unwrap_or(Error::Unanswered)
    }
}

impl State {
    /// Takes in the number of a numbered frame.
    fn count(&mut self, number: u64) -> Result<()> {
        if self.other_ended {
            return Err(Error::AfterEnd);
        }
        let expected = self.taken + 1;
        if number != expected {
            return Err(Error::Number { expected, found: number });
        }
        self.taken = number;
        Ok(())
    }

    /// Whether there is room for more. With nothing waiting to be taken there always is,
    /// so that the longest message comes through.
    fn may_acknowledge(&self) -> bool {
        let nothing_behind = self.queue.len() <= 1 && !self.assembly.is_open();
        self.queue.is_empty() || nothing_behind || self.queued_bytes + self.assembly.held() <= HELD_BYTES
    }

    /// The acknowledgement that has to be sent now: behind a whole message, and before the
    /// other side runs out of its window.
    fn acknowledgement(&self) -> Option<u64> {
        let whole = self.whole > self.ack_sent && self.whole <= self.ack_due;
        let many = self.ack_due - self.ack_sent >= ACK_EVERY;
        (whole || many).then_some(self.ack_due)
    }
}
