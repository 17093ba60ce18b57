//! What a job and a mover say to each other: opening, frames, messages, a relay's requests and answers.

use bytes::{Bytes, BytesMut};
use kist::format::frame::{Frame, Message, opening as encoded_opening, take_opening};
use kist::format::id::hex;
use kist::format::relay::{Answer, Listed, Operation, Request};
use kist::format::{Error, LINK_VERSION};
use serde_json::{Value, json};

use crate::check::Checked;
use crate::vector::{Encoded, Vector};

fn checked(fields: Value, encoded: impl Into<Vec<u8>>) -> Result<Checked, Error> {
    Ok(Checked { fields, encoded: Encoded::Bytes(encoded.into()) })
}

pub fn opening(vector: &Vector) -> Result<Checked, Error> {
    let mut input = BytesMut::from(vector.bytes());
    match take_opening(&mut input)? {
        false => Err(Error::Short { what: "opening", at: input.len() }),
        true if input.is_empty() => checked(json!({"version": LINK_VERSION}), encoded_opening()),
        true => Err(Error::LeftOver { what: "opening", left: input.len() }),
    }
}

pub fn frame(vector: &Vector) -> Result<Checked, Error> {
    let frame = Frame::decode(vector.bytes())?;
    let mut again = Vec::new();
    frame.encode(&mut again);
    let fields = match &frame {
        Frame::Piece { number, last, payload } => {
            json!({"type": "piece", "number": number, "last": last, "payload": hex(payload)})
        }
        Frame::End { number } => json!({"type": "end", "number": number}),
        Frame::Ack { number } => json!({"type": "acknowledgement", "number": number}),
        Frame::Heartbeat => json!({"type": "heartbeat"}),
    };
    checked(fields, again)
}

pub fn message(vector: &Vector) -> Result<Checked, Error> {
    let message = Message::decode(vector.bytes())?;
    let fields = json!({"kind": message.kind, "call": message.call, "body": hex(&message.body)});
    checked(fields, message.encode())
}

pub fn relay_request(vector: &Vector) -> Result<Checked, Error> {
    let request = Request::decode(&Bytes::copy_from_slice(vector.bytes()))?;
    let mut fields = match &request.operation {
        Operation::Get { limit } => json!({"operation": "get", "limit": limit}),
        Operation::Range { start, len } => json!({"operation": "range", "start": start, "len": len}),
        Operation::Size => json!({"operation": "size"}),
        Operation::Put(body) => json!({"operation": "put", "body": hex(body)}),
        Operation::Create(body) => json!({"operation": "create", "body": hex(body)}),
        Operation::List { from } => json!({"operation": "list", "from": from}),
        Operation::Delete => json!({"operation": "delete"}),
    };
    fields["key"] = json!(request.key);
    checked(fields, request.encode())
}

pub fn relay_answer(vector: &Vector) -> Result<Checked, Error> {
    let answer = Answer::decode(&Bytes::copy_from_slice(vector.bytes()))?;
    let object = |o: &Listed| json!({"key": o.key, "size": o.size, "modified": o.modified_unix_secs});
    let fields = match &answer {
        Answer::Done => json!({"answer": "done"}),
        Answer::Found(body) => json!({"answer": "found", "body": hex(body)}),
        Answer::Size(size) => json!({"answer": "size", "size": size}),
        Answer::Listing { next, objects } => {
            let objects: Vec<Value> = objects.iter().map(object).collect();
            json!({"answer": "listing", "next": next, "objects": objects})
        }
        Answer::Failed { class, text } => json!({"answer": "failed", "class": *class as u8, "text": text}),
    };
    checked(fields, answer.encode())
}
