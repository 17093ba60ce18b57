//! What goes over the link between job and mover: the opening, frames, messages in pieces.
//!
//! Spec: chapter 10. Pure: `crate::wire` reads and writes the streams, this takes them
//! apart. Numbers, acknowledgements and silence are the link's; here is what one frame may be,
//! and how a message is cut: in one way only, so that what is taken is what was sent.

use bytes::{Bytes, BytesMut};

use crate::format::codec::{Reader, Writer};
use crate::format::limits::{FRAME_LEN, MESSAGE_LEN};
use crate::format::{Error, LINK_VERSION};

/// The kinds of messages. A request's answer has the kind that is one higher.
pub mod kind {
    pub const TASK: u8 = 1;
    pub const REPORT: u8 = 2;
    pub const PROGRESS: u8 = 3;
    pub const CANCEL: u8 = 4;
    pub const STORE_REQUEST: u8 = 5;
    pub const STORE_ANSWER: u8 = 6;
    pub const KEY_REQUEST: u8 = 7;
    pub const KEY_ANSWER: u8 = 8;
    pub const READY: u8 = 9;
    pub const FAILURE: u8 = 10;
}

const MAGIC: &[u8; 8] = b"KISTLINK";
/// Magic and version.
pub const OPENING_LEN: usize = MAGIC.len() + 2;
/// Type, number and length before a payload.
const PIECE_HEAD_LEN: usize = 11;
/// The longest payload of a frame.
pub const PAYLOAD_LEN: usize = FRAME_LEN - PIECE_HEAD_LEN;
/// Kind, call and length before a body.
const MESSAGE_HEAD_LEN: usize = 9;
/// How many times what has come in of a body is taken in memory for it: few steps, and moving to the last
/// one holds a sixteenth more than the body.
const AHEAD: usize = 16;

const FRAME: &str = "frame";
const MESSAGE: &str = "message";
const OPENING: &str = "link";

/// What each side sends first.
pub fn opening() -> [u8; OPENING_LEN] {
    let mut out = [0; OPENING_LEN];
    out[..MAGIC.len()].copy_from_slice(MAGIC);
    out[MAGIC.len()..].copy_from_slice(&LINK_VERSION.to_le_bytes());
    out
}

/// Takes the opening off; false while more bytes are needed. Refuses at the first wrong byte.
pub fn take_opening(input: &mut BytesMut) -> Result<bool, Error> {
    let known = input.len().min(MAGIC.len());
    if input[..known] != MAGIC[..known] {
        return Err(Error::Magic { what: OPENING });
    }
    if input.len() < OPENING_LEN {
        return Ok(false);
    }
    let opening = input.split_to(OPENING_LEN);
    match Reader::new(OPENING, &opening[MAGIC.len()..]).u16()? {
        LINK_VERSION => Ok(true),
        found => Err(Error::Version { what: OPENING, found, known: LINK_VERSION }),
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A part of a message, in a payload of 1 to [`PAYLOAD_LEN`] bytes.
    Piece {
        number: u64,
        last: bool,
        payload: Bytes,
    },
    /// This side sends no more.
    End {
        number: u64,
    },
    /// All numbered frames up to this one were taken.
    Ack {
        number: u64,
    },
    Heartbeat,
}

impl Frame {
    const PIECE: u8 = 1;
    const LAST_PIECE: u8 = 2;
    const END: u8 = 3;
    const ACK: u8 = 4;
    const HEARTBEAT: u8 = 5;

    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut head = Writer::new();
        let mut numbered = |kind, number| {
            head.u8(kind);
            head.u64(number);
        };
        match self {
            Frame::Piece { number, last, payload } => {
                numbered(if *last { Self::LAST_PIECE } else { Self::PIECE }, *number);
                let sound = if *last {
                    (1..=PAYLOAD_LEN).contains(&payload.len())
                } else {
                    payload.len() == PAYLOAD_LEN
                };
                assert!(sound, "a payload of {} bytes (last: {last})", payload.len());
                head.u16(payload.len() as u16);
                head.raw(payload);
            }
            Frame::End { number } => numbered(Self::END, *number),
            Frame::Ack { number } => numbered(Self::ACK, *number),
            Frame::Heartbeat => head.u8(Self::HEARTBEAT),
        }
        out.extend_from_slice(&head.into_bytes());
    }

    /// Takes the first frame off; none while it is not whole.
    pub fn take(input: &mut BytesMut) -> Result<Option<Frame>, Error> {
        let Some(&kind) = input.first() else { return Ok(None) };
        let head_len = match kind {
            Self::PIECE | Self::LAST_PIECE => PIECE_HEAD_LEN,
            Self::END | Self::ACK => 9,
            Self::HEARTBEAT => 1,
            other => return Err(invalid(FRAME, "type", other)),
        };
        let Some(head) = input.get(..head_len) else { return Ok(None) };
        let mut head = Reader::new(FRAME, &head[1..]);
        if kind == Self::HEARTBEAT {
            let _ = input.split_to(head_len);
            return Ok(Some(Frame::Heartbeat));
        }
        let number = head.u64()?;
        if number == 0 {
            return Err(invalid(FRAME, "number", number));
        }
        if kind == Self::END || kind == Self::ACK {
            let _ = input.split_to(head_len);
            return Ok(Some(if kind == Self::END { Frame::End { number } } else { Frame::Ack { number } }));
        }
        let (len, last) = (usize::from(head.u16()?), kind == Self::LAST_PIECE);
        if len > PAYLOAD_LEN {
            return Err(too_much(FRAME, "length", len, PAYLOAD_LEN));
        }
        if len == 0 || (!last && len < PAYLOAD_LEN) {
            return Err(invalid(FRAME, "length", len));
        }
        if input.len() < head_len + len {
            return Ok(None);
        }
        let _ = input.split_to(head_len);
        let payload = input.split_to(len).freeze();
        Ok(Some(Frame::Piece { number, last, payload }))
    }

    /// Decodes bytes that are one frame.
    pub fn decode(bytes: &[u8]) -> Result<Frame, Error> {
        let mut input = BytesMut::from(bytes);
        match Self::take(&mut input)? {
            None => Err(Error::Short { what: FRAME, at: bytes.len() }),
            Some(frame) if input.is_empty() => Ok(frame),
            Some(_) => Err(Error::LeftOver { what: FRAME, left: input.len() }),
        }
    }
}

fn invalid(what: &'static str, field: &'static str, found: impl std::fmt::Display) -> Error {
    Error::Invalid { what, field, found: found.to_string() }
}

fn too_much(what: &'static str, field: &'static str, found: usize, most: usize) -> Error {
    Error::TooMuch { what, field, found: found as u64, most: most as u64 }
}

/// What one side says to the other.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// One of [`kind`].
    pub kind: u8,
    /// Joins an answer to its request; 0 where there is none.
    pub call: u32,
    pub body: Bytes,
}

// Bodies carry keys, so they are never shown.
impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message(kind {}, call {}, {} bytes)", self.kind, self.call, self.body.len())
    }
}

impl Message {
    fn head(&self) -> [u8; MESSAGE_HEAD_LEN] {
        let mut out = Writer::new();
        out.u8(self.kind);
        out.u32(self.call);
        out.u32(u32::try_from(self.body.len()).expect("a body is at most MESSAGE_LEN"));
        out.into_bytes().try_into().expect("three fields of fixed length")
    }

    /// Kind, call and length of the body.
    fn read_head(input: &mut Reader<'_>) -> Result<(u8, u32, usize), Error> {
        let kind = input.u8()?;
        if !(kind::TASK..=kind::FAILURE).contains(&kind) {
            return Err(input.invalid("kind", kind));
        }
        let call = input.u32()?;
        let len = input.u32()? as usize;
        match len > MESSAGE_LEN {
            true => Err(too_much(MESSAGE, "length", len, MESSAGE_LEN)),
            false => Ok((kind, call, len)),
        }
    }

    /// The message laid end to end, as its pieces are.
    pub fn encode(&self) -> Vec<u8> {
        [&self.head(), &self.body[..]].concat()
    }

    pub fn decode(bytes: &[u8]) -> Result<Message, Error> {
        let mut assembly = Assembly::default();
        let count = bytes.len().div_ceil(PAYLOAD_LEN).max(1);
        for (nth, payload) in bytes.chunks(PAYLOAD_LEN).enumerate() {
            if let Some(message) = assembly.push(payload, nth + 1 == count)? {
                return Ok(message);
            }
        }
        Err(Error::Short { what: MESSAGE, at: 0 })
    }
}

/// A message while it is cut into the payloads of frames.
pub struct Pieces {
    /// The head and as much of the body as goes with it; taken first.
    first: Option<Bytes>,
    rest: Bytes,
}

impl Pieces {
    /// Refuses a body beyond the limit.
    pub fn cut(message: Message) -> Result<Self, Error> {
        if message.body.len() > MESSAGE_LEN {
            return Err(too_much(MESSAGE, "length", message.body.len(), MESSAGE_LEN));
        }
        let head = message.head();
        let mut rest = message.body;
        let with_head = rest.split_to(rest.len().min(PAYLOAD_LEN - MESSAGE_HEAD_LEN));
        Ok(Self { first: Some([&head, &with_head[..]].concat().into()), rest })
    }

    /// The next piece and whether it is the last; nothing may be asked for behind that one.
    pub fn take(&mut self) -> (Bytes, bool) {
        let payload = match self.first.take() {
            Some(first) => first,
            None => self.rest.split_to(self.rest.len().min(PAYLOAD_LEN)),
        };
        (payload, self.rest.is_empty())
    }
}

/// A message while its pieces come in.
#[derive(Default)]
pub struct Assembly(Option<Partial>);

struct Partial {
    kind: u8,
    call: u32,
    len: usize,
    body: Vec<u8>,
}

impl Partial {
    /// Takes memory by what has come in: the length is only what the other side says.
    fn make_room(&mut self, total: usize) {
        if total > self.body.capacity() {
            self.body.reserve_exact(self.len.min(AHEAD * total) - self.body.len());
        }
    }
}

impl Assembly {
    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.0.as_ref().map_or(0, |partial| partial.body.len())
    }

    /// Whether a message has begun and is not whole.
    pub fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Takes a piece; gives the message with its last one.
    pub fn push(&mut self, payload: &[u8], last: bool) -> Result<Option<Message>, Error> {
        let (partial, payload) = match &mut self.0 {
            Some(partial) => (partial, payload),
            none => {
                let mut input = Reader::new(MESSAGE, payload);
                let (kind, call, len) = Message::read_head(&mut input)?;
                (none.insert(Partial { kind, call, len, body: vec![] }), &payload[input.at()..])
            }
        };
        let total = partial.body.len() + payload.len();
        if total > partial.len {
            return Err(Error::LeftOver { what: MESSAGE, left: total - partial.len });
        }
        partial.make_room(total);
        partial.body.extend_from_slice(payload);
        match (total == partial.len, last) {
            (true, true) => {}
            (false, false) => return Ok(None),
            (false, true) => return Err(Error::Short { what: MESSAGE, at: total }),
            (true, false) => return Err(invalid(MESSAGE, "last piece", "not marked")),
        }
        let whole = self.0.take().expect("it was pushed to above");
        Ok(Some(Message { kind: whole.kind, call: whole.call, body: whole.body.into() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: usize) -> Message {
        let body: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        Message { kind: kind::TASK, call: 7, body: body.into() }
    }

    #[test]
    fn messages_of_all_lengths_around_a_piece_come_back() {
        let first = PAYLOAD_LEN - MESSAGE_HEAD_LEN;
        for len in [0, 1, first - 1, first, first + 1, first + PAYLOAD_LEN, first + PAYLOAD_LEN + 1, 1 << 20]
        {
            let sent = message(len);
            let mut pieces = Pieces::cut(sent.clone()).unwrap();
            let (mut assembly, mut stream) = (Assembly::default(), Vec::new());
            for number in 1.. {
                let (payload, last) = pieces.take();
                Frame::Piece { number, last, payload }.encode(&mut stream);
                if last {
                    break;
                }
            }
            let mut stream = BytesMut::from(&stream[..]);
            let mut found = None;
            while let Some(frame) = Frame::take(&mut stream).unwrap() {
                let Frame::Piece { last, payload, .. } = frame else { panic!("{frame:?}") };
                assert!(found.is_none(), "{len}: pieces behind the last one");
                found = assembly.push(&payload, last).unwrap();
            }
            assert!(found.as_ref() == Some(&sent) && stream.is_empty(), "{len}");
            assert!(Message::decode(&sent.encode()).unwrap() == sent, "{len}");
        }
    }

    #[test]
    fn a_frame_that_is_not_whole_is_waited_for() {
        let mut whole = Vec::new();
        Frame::Piece { number: 3, last: true, payload: Bytes::from_static(b"abc") }.encode(&mut whole);
        for len in 0..whole.len() {
            let mut input = BytesMut::from(&whole[..len]);
            assert_eq!(Frame::take(&mut input).unwrap(), None, "{len}");
            assert_eq!(input.len(), len, "nothing was taken");
        }
    }

    #[test]
    fn a_body_beyond_the_limit_is_refused_on_both_sides() {
        let huge = Message { kind: 1, call: 0, body: vec![0; MESSAGE_LEN + 1].into() };
        assert!(matches!(Pieces::cut(huge), Err(Error::TooMuch { .. })));
        let mut head = Writer::new();
        head.u8(1);
        head.u32(0);
        head.u32(MESSAGE_LEN as u32 + 1);
        let refused = Assembly::default().push(&head.into_bytes(), false);
        assert!(matches!(refused, Err(Error::TooMuch { .. })));
    }

    #[test]
    fn pieces_that_do_not_make_up_the_length_are_refused() {
        let bytes = message(10).encode();
        let push = |bytes: &[u8], last| Assembly::default().push(bytes, last);
        assert!(matches!(push(&bytes[..18], true), Err(Error::Short { .. })));
        assert!(matches!(push(&bytes, false), Err(Error::Invalid { .. })));
        assert!(matches!(push(&[&bytes[..], &[0]].concat(), true), Err(Error::LeftOver { .. })));
        assert!(matches!(push(&bytes[..8], false), Err(Error::Short { .. })));
    }

    #[test]
    fn an_opening_is_told_from_another_programs_words_at_the_first_byte() {
        let mut input = BytesMut::from(&b"KIST"[..]);
        assert_eq!(take_opening(&mut input), Ok(false));
        let mut input = BytesMut::from(&b"s"[..]);
        assert!(matches!(take_opening(&mut input), Err(Error::Magic { .. })));
        let mut input = BytesMut::from(&[&opening()[..], b"rest"].concat()[..]);
        assert_eq!(take_opening(&mut input), Ok(true));
        assert_eq!(&input[..], b"rest");
        let mut later = opening();
        later[8] = 1;
        assert!(matches!(take_opening(&mut BytesMut::from(&later[..])), Err(Error::Version { .. })));
    }

    #[test]
    fn a_message_shows_nothing_of_its_body() {
        let message = Message { kind: 1, call: 2, body: Bytes::from_static(b"planted") };
        assert_eq!(format!("{message:?}"), "Message(kind 1, call 2, 7 bytes)");
    }
}
