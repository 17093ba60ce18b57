//! What a job and its movers send each other.

use kist::format::frame::{Assembly, Frame, Message, kind, opening, take_opening};
use kist::format::relay::{Answer, Request};
use kist::format::task::KeyRequest;
use kist::wire::{Limits, Receiver, link as new_link};
use tokio::io::{AsyncWriteExt, copy, duplex, sink, split};

pub fn frame(bytes: &[u8]) {
    if let Ok(frame) = Frame::decode(bytes) {
        let mut again = Vec::new();
        frame.encode(&mut again);
        assert_eq!(again, bytes);
    }
}

/// What one side reads: an opening, then frames, their payloads put together.
pub fn link(bytes: &[u8]) {
    let mut input = bytes.into();
    if !matches!(take_opening(&mut input), Ok(true)) {
        return;
    }
    let (mut again, mut assembly) = (opening().to_vec(), Assembly::default());
    while let Ok(Some(frame)) = Frame::take(&mut input) {
        frame.encode(&mut again);
        if let Frame::Piece { last, payload, .. } = frame {
            match assembly.push(&payload, last) {
                Ok(whole) => assert_eq!(whole.is_some(), last),
                Err(_) => break,
            }
        }
        assert!(assembly.held() <= bytes.len());
    }
    assert!(bytes.starts_with(&again));
}

/// The payloads of a message, end to end.
pub fn message(bytes: &[u8]) {
    if let Ok(message) = Message::decode(bytes) {
        assert_eq!(message.encode(), bytes);
    }
}

pub fn relay_request(bytes: &[u8]) {
    if let Ok(request) = Request::decode(&bytes.to_vec().into()) {
        assert_eq!(request.encode(), bytes);
    }
}

pub fn relay_answer(bytes: &[u8]) {
    if let Ok(answer) = Answer::decode(&bytes.to_vec().into()) {
        assert_eq!(answer.encode(), bytes);
    }
}

/// A mover's request for a lane's key.
pub fn key_request(bytes: &[u8]) {
    if let Ok(request) = KeyRequest::decode(bytes) {
        assert_eq!(request.encode(), bytes);
    }
}

/// What a side that has sent a few messages does with all that the other side sends; the first byte says how many.
pub fn wire(bytes: &[u8]) {
    let Some((sent, bytes)) = bytes.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let (ours, theirs) = duplex(16 << 10);
        let (read, write) = split(ours);
        let (sender, receiver) = new_link(read, write, Limits::default());
        let (mut from, mut to) = split(theirs);
        let reading = tokio::spawn(async move { copy(&mut from, &mut sink()).await });
        for _ in 0..sent % 4 {
            sender.send(kind::PROGRESS, 0, Vec::new().into()).await.expect("nothing was read yet");
        }
        let theirs = bytes.to_vec();
        let writing = tokio::spawn(async move {
            let _ = to.write_all(&theirs).await;
            let _ = to.shutdown().await;
        });
        let taken = take_all(receiver).await;
        assert!(taken <= bytes.len(), "{taken} bytes of messages out of {}", bytes.len());
        reading.abort();
        writing.abort();
    });
}

/// Takes messages until there are no more; gives their bytes. How it ended stays so.
async fn take_all(mut receiver: Receiver) -> usize {
    let mut taken = 0;
    let ended = loop {
        match receiver.next().await {
            Ok(Some(message)) => taken += message.encode().len(),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    match receiver.next().await {
        Ok(None) => assert!(ended),
        Err(_) => assert!(!ended),
        Ok(Some(_)) => panic!("a message behind the end"),
    }
    taken
}
