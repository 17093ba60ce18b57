//! The task that writes: acknowledgements first, then pieces as the window allows, heartbeats
//! when there is nothing else.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::format::frame::{Frame, Pieces, opening};
use crate::format::limits::FRAME_LEN;
use crate::wire::error::Error;
use crate::wire::state::{Shared, Wake, Wish};

/// What a sender hands over; `done` is told when all of it was written.
pub(super) enum Outgoing {
    Message { pieces: Pieces, done: oneshot::Sender<()> },
    End { done: oneshot::Sender<()> },
}

/// Writes until the link is over, then closes the stream.
pub(super) async fn run(
    mut write: impl AsyncWrite + Send + Unpin,
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Outgoing>,
    heartbeat: Duration,
) {
    let ended = tokio::select! {
        ended = write_all(&mut write, &shared, queue, heartbeat) => ended,
        // Also while a write hangs on a dead stream.
        () = shared.stopped() => Ok(()),
    };
    if let Err(source) = ended {
        let error = Error::Broken { doing: "written", source: Arc::new(source) };
        shared.can_not_write(error.clone());
        // A process that has said its end and exited takes nothing more: its last words are
        // still to be read.
        let _ = timeout(heartbeat, shared.stopped()).await;
        shared.fail(error);
    }
    // Nobody is left to be told that the stream can't be closed; dropping it does as well.
    let _ = timeout(heartbeat, write.shutdown()).await;
}

async fn write_all(
    write: &mut (impl AsyncWrite + Unpin),
    shared: &Shared,
    queue: mpsc::Receiver<Outgoing>,
    heartbeat: Duration,
) -> io::Result<()> {
    write.write_all(&opening()).await?;
    write.flush().await?;
    // None when nothing more can be handed over: this side has ended, or all senders are gone.
    let mut queue = Some(queue);
    let mut current: Option<Outgoing> = None;
    let mut bytes = Vec::with_capacity(FRAME_LEN);
    while !shared.is_finished() {
        let wish = match &current {
            None => Wish::Nothing,
            Some(Outgoing::Message { .. }) => Wish::Window,
            Some(Outgoing::End { .. }) => Wish::AllTaken,
        };
        let mut finished = None;
        let frame = tokio::select! {
            biased;
            wake = shared.writer_wakes(wish) => match wake {
                Wake::Acknowledge(number) => {
                    shared.acknowledging(number);
                    Frame::Ack { number }
                }
                Wake::Granted => {
                    let (frame, done) = next_frame(&mut current, shared);
                    finished = done;
                    frame
                }
            },
            next = handed_over(&mut queue), if current.is_none() => {
                current = next;
                continue;
            }
            () = sleep(heartbeat) => Frame::Heartbeat,
        };
        bytes.clear();
        frame.encode(&mut bytes);
        write.write_all(&bytes).await?;
        write.flush().await?;
        if matches!(frame, Frame::End { .. }) {
            queue = None;
            shared.end_sent();
        }
        if let Some(done) = finished {
            // Whoever waited may have gone: the message is sent all the same.
            let _ = done.send(());
        }
    }
    Ok(())
}

/// The next thing to send; never comes back once there can be none.
async fn handed_over(queue: &mut Option<mpsc::Receiver<Outgoing>>) -> Option<Outgoing> {
    match queue {
        None => std::future::pending().await,
        Some(open) => {
            let next = open.recv().await;
            if next.is_none() {
                *queue = None;
            }
            next
        }
    }
}

/// The next frame of what is being sent, and whom to tell if it was the last.
fn next_frame(current: &mut Option<Outgoing>, shared: &Shared) -> (Frame, Option<oneshot::Sender<()>>) {
    let number = shared.count_sent();
    match current.take().expect("a wish stands for something to send") {
        Outgoing::End { done } => (Frame::End { number }, Some(done)),
        Outgoing::Message { mut pieces, done } => {
            let (payload, last) = pieces.take();
            let frame = Frame::Piece { number, last, payload };
            if last {
                return (frame, Some(done));
            }
            *current = Some(Outgoing::Message { pieces, done });
            (frame, None)
        }
    }
}
