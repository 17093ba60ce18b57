//! Two links face to face over a pipe in memory, or a link and bytes written by hand. The
//! clock stands still and jumps to the next timer, so minutes of silence take no time.

use std::pin::Pin;
use std::task::{Context, Poll};

use super::*;
use crate::format::frame::{Frame, PAYLOAD_LEN, kind, opening};
use crate::format::limits::{FRAME_WINDOW, MESSAGE_LEN};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex, split};

const PIPE_LEN: usize = 64 * 1024;
/// How many turns the other tasks are given: more than any exchange in here takes.
const TURNS: usize = 20_000;

fn pair() -> ((Sender, Receiver), (Sender, Receiver)) {
    let (a, b) = duplex(PIPE_LEN);
    let start = |stream| {
        let (read, write) = split(stream);
        link(read, write, Limits::default())
    };
    (start(a), start(b))
}

/// A link, and the other end of its streams for a side that is played by hand.
fn against_bytes() -> ((Sender, Receiver), DuplexStream) {
    let (a, b) = duplex(PIPE_LEN);
    let (read, write) = split(a);
    (link(read, write, Limits::default()), b)
}

fn bytes_of(frames: &[Frame]) -> Vec<u8> {
    let mut out = opening().to_vec();
    frames.iter().for_each(|frame| frame.encode(&mut out));
    out
}

/// A message that fits a frame.
fn small(number: u64, body: &'static [u8]) -> Frame {
    let message = Message { kind: kind::TASK, call: 0, body: Bytes::from_static(body) };
    Frame::Piece { number, last: true, payload: message.encode().into() }
}

fn body(len: usize, seed: u8) -> Bytes {
    (0..len).map(|at| (at % 241) as u8 ^ seed).collect()
}

async fn turns() {
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn messages_come_in_order_and_then_the_end() {
    let ((a, mut from_b), (b, mut from_a)) = pair();
    let talk = async {
        for len in [0, 1, 100, PAYLOAD_LEN, 3 * PAYLOAD_LEN] {
            a.send(kind::TASK, 3, body(len, 1)).await.unwrap();
        }
        a.end().await.unwrap();
    };
    let listen = async {
        for len in [0, 1, 100, PAYLOAD_LEN, 3 * PAYLOAD_LEN] {
            let message = from_a.next().await.unwrap().unwrap();
            assert_eq!((message.kind, message.call), (kind::TASK, 3));
            assert!(message.body == body(len, 1), "{len}");
        }
        assert!(from_a.next().await.unwrap().is_none());
        b.send(kind::REPORT, 0, Bytes::new()).await.unwrap();
        b.end().await.unwrap();
    };
    tokio::join!(talk, listen);
    assert_eq!(from_b.next().await.unwrap().unwrap().kind, kind::REPORT);
    assert!(from_b.next().await.unwrap().is_none() && from_b.next().await.unwrap().is_none());
    assert!(matches!(a.send(kind::TASK, 0, Bytes::new()).await, Err(Error::Ended)));
    assert!(matches!(a.end().await, Err(Error::Ended)));
}

#[tokio::test(start_paused = true)]
async fn both_sides_send_the_longest_message_before_either_listens() {
    let ((a, mut from_b), (b, mut from_a)) = pair();
    let (one, two) = (body(MESSAGE_LEN, 1), body(MESSAGE_LEN, 2));
    let (sent, sent_too) =
        tokio::join!(a.send(kind::TASK, 0, one.clone()), b.send(kind::REPORT, 0, two.clone()));
    sent.and(sent_too).unwrap();
    assert!(from_a.next().await.unwrap().unwrap().body == one);
    assert!(from_b.next().await.unwrap().unwrap().body == two);
    let refused = a.send(kind::TASK, 0, body(MESSAGE_LEN + 1, 1)).await;
    assert!(matches!(refused, Err(Error::Unsendable { .. })));
}

#[tokio::test(start_paused = true)]
async fn messages_of_clones_do_not_mix() {
    let ((a, _from_b), (_b, mut from_a)) = pair();
    let send = |seed: u8| {
        let a = a.clone();
        async move {
            for _ in 0..4 {
                a.send(kind::PROGRESS, seed.into(), body(5 * PAYLOAD_LEN, seed)).await.unwrap();
            }
        }
    };
    let listen = async {
        for _ in 0..12 {
            let message = from_a.next().await.unwrap().unwrap();
            assert!(message.body == body(5 * PAYLOAD_LEN, message.call as u8));
        }
    };
    tokio::join!(send(1), send(2), send(3), listen);
}

/// A stream that only one side writes to, and that counts what goes through.
struct Counted<S>(S, Arc<std::sync::atomic::AtomicUsize>);

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.0).poll_read(cx, buf);
        self.1.fetch_add(buf.filled().len() - before, std::sync::atomic::Ordering::Relaxed);
        polled
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_take_stops_the_sender_within_a_bound() {
    let (a, b) = duplex(PIPE_LEN);
    let (read, write) = split(a);
    let (sender, _from_b) = link(read, write, Limits::default());
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (read, write) = split(b);
    let (_b, mut from_a) = link(Counted(read, Arc::clone(&count)), write, Limits::default());
    let sending = tokio::spawn(async move {
        for number in 0..40 {
            sender.send(kind::PROGRESS, number, body(1 << 20, number as u8)).await.unwrap();
        }
        sender.end().await.unwrap();
    });
    turns().await;
    let held = count.load(std::sync::atomic::Ordering::Relaxed);
    assert!((8 << 20..14 << 20).contains(&held), "{held} bytes were taken in");
    assert!(!sending.is_finished());
    for number in 0..40 {
        let message = from_a.next().await.unwrap().unwrap();
        assert!(message.call == number && message.body == body(1 << 20, number as u8));
    }
    assert!(from_a.next().await.unwrap().is_none());
    sending.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_is_never_an_end() {
    let whole = bytes_of(&[small(1, b"x"), small(2, b"y"), Frame::End { number: 3 }]);
    for len in 0..whole.len() {
        let ((sender, mut receiver), mut other) = against_bytes();
        other.write_all(&whole[..len]).await.unwrap();
        drop(other);
        let failed = loop {
            match receiver.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("an end after {len} of {} bytes", whole.len()),
                Err(error) => break error,
            }
        };
        let expected = |error: &Error| matches!(error, Error::Cut { .. } | Error::Broken { .. });
        assert!(expected(&failed), "{len}: {failed}");
        assert!(expected(&receiver.next().await.unwrap_err()), "{len}: it is sticky");
        assert!(expected(&sender.send(kind::TASK, 0, Bytes::new()).await.unwrap_err()), "{len}");
        assert!(expected(&sender.end().await.unwrap_err()), "{len}");
    }
}

#[tokio::test(start_paused = true)]
async fn last_words_are_heard_though_nothing_can_be_written() {
    for frames in [&[small(1, b"x"), Frame::End { number: 2 }][..], &[Frame::End { number: 1 }]] {
        let ((sender, mut receiver), mut other) = against_bytes();
        other.write_all(&bytes_of(frames)).await.unwrap();
        drop(other);
        for _ in 1..frames.len() {
            assert_eq!(receiver.next().await.unwrap().unwrap().body, "x");
        }
        assert!(receiver.next().await.unwrap().is_none());
        turns().await;
        sender.end().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn silence_has_an_end_and_heartbeats_break_it() {
    let ((a, mut from_b), mut other) = against_bytes();
    other.write_all(&opening()).await.unwrap();
    let begun = tokio::time::Instant::now();
    assert!(matches!(from_b.next().await, Err(Error::Silent { seconds: 300 })));
    assert_eq!(begun.elapsed(), Duration::from_secs(300));
    assert!(matches!(a.end().await, Err(Error::Silent { .. })));
    let mut heard = Vec::new();
    other.read_to_end(&mut heard).await.unwrap();
    // The twentieth is due in the moment of the end.
    let heartbeats = heard.len() - opening().len();
    assert!((19..=20).contains(&heartbeats) && heard.ends_with(&[5]), "{heard:?}");

    let ((a, mut from_b), (_b, _from_a)) = pair();
    let quiet = tokio::time::timeout(Duration::from_secs(3600), from_b.next()).await;
    assert!(quiet.is_err(), "an hour of heartbeats is no failure");
    a.send(kind::TASK, 0, Bytes::new()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_write_that_hangs() {
    let ((a, mut from_b), other) = against_bytes();
    let sent = a.send(kind::TASK, 0, body(1 << 20, 1)).await;
    assert!(matches!(sent, Err(Error::Silent { .. })));
    assert!(matches!(from_b.next().await, Err(Error::Silent { .. })));
    drop(other);
}

async fn refusal_of(bytes: &[u8]) -> Error {
    let ((_sender, mut receiver), mut other) = against_bytes();
    // The link may hang up before it has read everything.
    let _ = other.write_all(bytes).await;
    loop {
        match receiver.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("an end"),
            Err(error) => return error,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn numbers_that_do_not_follow_are_refused() {
    let piece = |number| small(number, b"x");
    for (frames, expected, found) in [
        (vec![piece(2)], 1, 2),
        (vec![piece(1), piece(1)], 2, 1),
        (vec![piece(1), piece(3)], 2, 3),
        (vec![piece(1), Frame::End { number: 1 }], 2, 1),
        (vec![piece(1), piece(2), piece(1 << 40)], 3, 1 << 40),
    ] {
        match refusal_of(&bytes_of(&frames)).await {
            Error::Number { expected: e, found: f } => assert_eq!((e, f), (expected, found)),
            other => panic!("{other}"),
        }
    }
    let behind = [Frame::End { number: 1 }, Frame::Ack { number: 1 }];
    let ((sender, mut receiver), mut other) = against_bytes();
    other.write_all(&bytes_of(&behind)).await.unwrap();
    assert!(receiver.next().await.unwrap().is_none(), "the end came first");
    turns().await;
    assert!(matches!(sender.end().await, Err(Error::Ack { .. })));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_frame_or_no_message_is_refused() {
    let unmarked = Frame::Piece { number: 1, last: true, payload: Bytes::from_static(&[0; 9]) };
    assert!(matches!(refusal_of(&bytes_of(&[unmarked])).await, Error::Garbled { .. }));
    let unknown = [&bytes_of(&[])[..], &[9]].concat();
    assert!(matches!(refusal_of(&unknown).await, Error::Garbled { .. }));
    let mut later = opening();
    later[8] = 1;
    let error = refusal_of(&later).await;
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("version 1"), "{source}");
    for number in [1, u64::MAX] {
        assert!(matches!(refusal_of(&bytes_of(&[Frame::Ack { number }])).await, Error::Ack { sent: 0, .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn every_flipped_byte_of_a_number_is_found() {
    let sound = bytes_of(&[small(1, b"abc"), small(2, b"def")]);
    let second = bytes_of(&[small(1, b"abc")]).len();
    for at in second + 1..second + 9 {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        let error = refusal_of(&bytes).await;
        assert!(matches!(error, Error::Number { expected: 2, .. }), "{at}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_programs_words_are_shown() {
    for (said, shown) in [
        ("sh: not found\n", "sh: not found"),
        ("K", "K"),
        ("KISTLINE\n\x1b[31mred\"", "KISTLINE\\n\\x1b[31mred\\\""),
    ] {
        let error = match said.len() {
            // As long as it could still be an opening, its end is a cut.
            1 => refusal_of(b"K?").await,
            _ => refusal_of(said.as_bytes()).await,
        };
        let Error::Foreign { found } = error else { panic!("{error}") };
        assert!(found.starts_with(shown), "{found}");
    }
    let Error::Foreign { found } = refusal_of(&[b'x'; 10_000]).await else { panic!() };
    assert_eq!(found, "x".repeat(200));
}

#[tokio::test(start_paused = true)]
async fn a_side_that_ignores_the_window_is_refused() {
    let ((_sender, receiver), mut other) = against_bytes();
    let flood = tokio::spawn(async move {
        let (mut bytes, piece) = (opening().to_vec(), vec![0; PAYLOAD_LEN]);
        let mut first = Message { kind: kind::TASK, call: 0, body: vec![0; MESSAGE_LEN].into() }.encode();
        first.truncate(PAYLOAD_LEN);
        for (number, message) in (1_u64..).zip(0..10_000) {
            // Messages of 10 MiB each, that nobody takes.
            let at = message % 320;
            let mut payload = if at == 0 { first.clone() } else { piece.clone() };
            if at == 0 {
                payload[5..9].copy_from_slice(&((320 * PAYLOAD_LEN - 9) as u32).to_le_bytes());
            }
            Frame::Piece { number, last: at == 319, payload: payload.into() }.encode(&mut bytes);
            if other.write_all(&bytes).await.is_err() {
                return number;
            }
            bytes.clear();
        }
        panic!("no end of it");
    });
    let number = flood.await.unwrap();
    assert!(number < 320 + 2 * FRAME_WINDOW, "{number} frames were read");
    drop(receiver);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_nobody_can_hear_fails_the_link() {
    let ((a, _from_b), (b, from_a)) = pair();
    drop(from_a);
    a.send(kind::TASK, 0, Bytes::new()).await.unwrap();
    turns().await;
    assert!(matches!(b.end().await, Err(Error::Unheard)));
    assert!(a.end().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn dropping_all_of_it_closes_the_stream() {
    let ((sender, receiver), mut other) = against_bytes();
    let clone = sender.clone();
    other.write_all(&opening()).await.unwrap();
    drop((sender, receiver));
    clone.send(kind::TASK, 0, Bytes::new()).await.unwrap();
    drop(clone);
    let mut heard = Vec::new();
    other.read_to_end(&mut heard).await.unwrap();
    let message = Message { kind: kind::TASK, call: 0, body: Bytes::new() };
    let piece = Frame::Piece { number: 1, last: true, payload: message.encode().into() };
    assert_eq!(heard, bytes_of(&[piece]));
}

#[tokio::test(start_paused = true)]
async fn a_send_that_is_given_up_leaves_no_half_message() {
    let ((a, _from_b), (_b, mut from_a)) = pair();
    a.send(kind::TASK, 1, body(9 << 20, 1)).await.unwrap();
    // Nobody takes, so these stop half-way: one within its message, one before its turn.
    for call in [2, 3] {
        let given_up =
            tokio::time::timeout(Duration::from_secs(1), a.send(kind::TASK, call, body(9 << 20, 2)));
        assert!(given_up.await.is_err());
    }
    for call in [1, 2] {
        let message = from_a.next().await.unwrap().unwrap();
        assert_eq!((message.call, message.body.len()), (call, 9 << 20));
    }
    let (sent, message) = tokio::join!(a.send(kind::TASK, 4, Bytes::new()), from_a.next());
    sent.unwrap();
    let call = message.unwrap().unwrap().call;
    assert!(call == 4 || call == 3, "the third is sent whole or not at all");
}

#[tokio::test(start_paused = true)]
async fn answers_find_their_calls_in_any_order() {
    let ((a, mut from_b), (b, mut from_a)) = pair();
    let calls = Calls::new(a);
    let ask = |text: &'static str| {
        let calls = calls.clone();
        async move { calls.call(kind::STORE_REQUEST, text.into()).await.unwrap().body }
    };
    let answer = async {
        let mut asked = Vec::new();
        for _ in 0..3 {
            asked.push(from_a.next().await.unwrap().unwrap());
        }
        while let Some(message) = asked.pop() {
            assert!(message.kind == kind::STORE_REQUEST && message.call != 0);
            let body = [b"re: ", &message.body[..]].concat();
            b.send(kind::STORE_ANSWER, message.call, body.into()).await.unwrap();
        }
    };
    let read = async {
        for _ in 0..3 {
            calls.answered(from_b.next().await.unwrap().unwrap()).unwrap();
        }
    };
    let (one, two, three, (), ()) = tokio::join!(ask("one"), ask("two"), ask("three"), answer, read);
    assert_eq!((&one[..], &two[..], &three[..]), (&b"re: one"[..], &b"re: two"[..], &b"re: three"[..]));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_asked_for_is_misbehaviour() {
    let ((a, _from_b), (_b, mut from_a)) = pair();
    let calls = Calls::new(a);
    let answer = |kind, call| Message { kind, call, body: Bytes::new() };
    let unasked = calls.answered(answer(kind::STORE_ANSWER, 1));
    assert!(matches!(unasked, Err(Error::Unasked { kind: kind::STORE_ANSWER, call: 1 })));
    let given_up = tokio::time::timeout(Duration::from_secs(1), calls.call(kind::KEY_REQUEST, Bytes::new()));
    assert!(given_up.await.is_err());
    let asked = from_a.next().await.unwrap().unwrap();
    calls.answered(answer(kind::KEY_ANSWER, asked.call)).expect("it was asked for, once");
    assert!(calls.answered(answer(kind::KEY_ANSWER, asked.call)).is_err());
    let (called, ()) = tokio::join!(calls.call(kind::KEY_REQUEST, Bytes::new()), async {
        let asked = from_a.next().await.unwrap().unwrap();
        assert!(calls.answered(answer(kind::STORE_ANSWER, asked.call)).is_err(), "another kind");
    });
    assert!(matches!(called, Err(Error::Unanswered)));
}

#[tokio::test(start_paused = true)]
async fn calls_end_with_the_link() {
    let ((a, _from_b), (b, from_a)) = pair();
    let calls = Calls::new(a);
    let (called, ()) = tokio::join!(calls.call(kind::STORE_REQUEST, Bytes::new()), async {
        turns().await;
        drop((b, from_a));
    });
    assert!(matches!(called, Err(Error::Cut { .. })), "{called:?}");

    let ((a, mut from_b), (b, _from_a)) = pair();
    let calls = Calls::new(a);
    let read = async { assert!(from_b.next().await.unwrap().is_none()) };
    let (called, (), ended) = tokio::join!(calls.call(kind::STORE_REQUEST, Bytes::new()), read, b.end());
    ended.unwrap();
    assert!(matches!(called, Err(Error::Unanswered)), "{called:?}");
}
