//! Decodes a vector by its form and encodes what came out again.

mod gc;
mod link;
mod objects;
mod pack;
mod values;

pub use gc::part_key;
pub use objects::slot_plain;
pub use values::join_node;

use kist::format::Error;
use serde_json::Value;

use crate::vector::{Encoded, Vector};

/// What a vector's bytes are: their fields, and what the fields encode to.
pub struct Checked {
    pub fields: Value,
    pub encoded: Encoded,
}

/// Every form of vectors.
pub const FORMS: [&str; 28] = [
    "varint",
    "signed",
    "padded",
    "config",
    "slot",
    "key-file",
    "kit",
    "record-header",
    "pack",
    "index",
    "node",
    "session",
    "commit",
    "log",
    "checkpoint",
    "checks",
    "state",
    "index-part",
    "derive",
    "ids",
    "gear",
    "cuts",
    "node-cuts",
    "opening",
    "frame",
    "message",
    "relay-request",
    "relay-answer",
];

pub fn check(vector: &Vector) -> Result<Checked, Error> {
    match vector.form.as_str() {
        "varint" => values::varint(vector),
        "signed" => values::signed(vector),
        "padded" => Ok(values::padded(vector)),
        "config" => objects::config(vector),
        "slot" => objects::slot(vector),
        "key-file" => objects::key_file(vector),
        "kit" => objects::kit(vector),
        "record-header" => pack::header(vector),
        "pack" => pack::pack(vector),
        "index" => objects::index(vector),
        "node" => values::node(vector),
        "session" => objects::session(vector),
        "commit" => objects::commit(vector),
        "log" => gc::log(vector),
        "checkpoint" => gc::checkpoint(vector),
        "checks" => gc::checks(vector),
        "state" => gc::state(vector),
        "index-part" => gc::index_part(vector),
        "derive" => Ok(values::derive(vector)),
        "ids" => Ok(values::ids(vector)),
        "gear" => Ok(values::gear(vector)),
        "cuts" => Ok(values::cuts(vector)),
        "node-cuts" => Ok(values::node_cuts(vector)),
        "opening" => link::opening(vector),
        "frame" => link::frame(vector),
        "message" => link::message(vector),
        "relay-request" => link::relay_request(vector),
        "relay-answer" => link::relay_answer(vector),
        other => panic!("{}: no check for the form {other}", vector.name),
    }
}
