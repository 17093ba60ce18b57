//! What can go wrong with a link. Errors are sticky: everyone who uses the link sees the same.

use std::io;
use std::sync::Arc;

use crate::format;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error, Clone)]
#[non_exhaustive]
pub enum Error {
    /// `found` is escaped.
    #[error("the other side of the link is not kist; it began with \"{found}\"")]
    Foreign { found: String },
    /// The stream ended without a word.
    #[error("the link was cut: the stream ended after {frames} frames, before the other side's end")]
    Cut { frames: u64 },
    #[error("the link is dead: nothing came in for {seconds} s")]
    Silent { seconds: u64 },
    #[error("the link can't be {doing}")]
    Broken {
        doing: &'static str,
        #[source]
        source: Arc<io::Error>,
    },
    /// The other side sent what can't be decoded.
    #[error("the link brought what is no message")]
    Garbled {
        #[source]
        source: format::Error,
    },
    #[error("the link lost its place: frame {expected} was due, {found} came")]
    Number { expected: u64, found: u64 },
    #[error("the other side of the link acknowledged frame {found}, at most {sent} were sent")]
    Ack { found: u64, sent: u64 },
    #[error("the other side of the link sent more than {window} frames that were not acknowledged")]
    Window { window: u64 },
    #[error("the other side of the link went on after its end")]
    AfterEnd,
    #[error(
        "the other side of the link gave an answer of kind {kind} to call {call}, which was not asked for"
    )]
    Unasked { kind: u8, call: u32 },
    #[error("the other side of the link has ended and is gone")]
    Gone,
    /// The other side has ended; what was asked of it stays without an answer.
    #[error("the other side of the link ended without an answer")]
    Unanswered,
    #[error("a message came for which nobody listens any more")]
    Unheard,
    #[error("this side of the link has ended")]
    Ended,
    #[error("the message can't be sent")]
    Unsendable {
        #[source]
        source: format::Error,
    },
}
