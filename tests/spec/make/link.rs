//! What a job and a mover say to each other: all bytes by hand, after chapter 10.

use serde_json::Value;

use crate::make::{Group, bytes};
use crate::material::stream;
use crate::vector::Vector;

const PAYLOAD: usize = 32_757;

pub fn all() -> Vec<Vector> {
    [openings(), frames(), messages(), requests(), answers()].concat()
}

type Sound<'a> = &'a [(&'a str, &'a str, Vec<u8>)];
type Defective<'a> = &'a [(&'a str, &'a str, &'a str, Vec<u8>)];

fn group(
    folder: &'static str,
    form: &'static str,
    sound: Sound<'_>,
    defective: Defective<'_>,
) -> Vec<Vector> {
    let mut g = Group::new(folder, form);
    for (name, what, encoded) in sound {
        g.ok(name, what, Value::Null, bytes(encoded.clone()));
    }
    for (name, class, what, encoded) in defective {
        g.bad(name, class, what, Value::Null, bytes(encoded.clone()));
    }
    g.out
}

/// Bytes end to end.
fn cat(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// A text or bytes of less than 128, as `bytes`.
fn short(text: &str) -> Vec<u8> {
    cat(&[&[text.len() as u8], text.as_bytes()])
}

fn openings() -> Vec<Vector> {
    let opening = b"KISTLINK\0\0";
    let sound = [("opening", "what each side sends first", opening.to_vec())];
    let defective = [
        ("opening-foreign", "magic", "another program's output", b"sh: not found\n".to_vec()),
        ("opening-foreign-late", "magic", "seven bytes right, the eighth not", b"KISTLINE\0\0".to_vec()),
        ("opening-later-version", "version", "version 1", b"KISTLINK\x01\0".to_vec()),
        ("opening-cut", "short", "without its last byte", opening[..9].to_vec()),
        ("opening-empty", "short", "no bytes", vec![]),
        ("opening-left-over", "left-over", "a byte behind it", cat(&[opening, b"x"])),
    ];
    group("frame", "opening", &sound, &defective)
}

/// Type, number, length, payload.
fn piece(kind: u8, number: u64, len: u16, payload: &[u8]) -> Vec<u8> {
    cat(&[&[kind], &number.to_le_bytes(), &len.to_le_bytes(), payload])
}

fn numbered(kind: u8, number: u64) -> Vec<u8> {
    cat(&[&[kind], &number.to_le_bytes()])
}

fn frames() -> Vec<Vector> {
    let full = stream(10, PAYLOAD);
    let sound = [
        ("piece", "a piece that is not the last: a full payload", piece(1, 1, 32_757, &full)),
        ("last-piece", "a last piece", piece(2, 300, 4, b"kist")),
        ("end", "an end", numbered(3, u64::MAX)),
        ("acknowledgement", "an acknowledgement", numbered(4, 128)),
        ("heartbeat", "a heartbeat", vec![5]),
    ];
    let defective = [
        ("empty", "short", "no bytes", vec![]),
        ("type-0", "invalid", "a type that is not known", vec![0]),
        ("type-6", "invalid", "a type that is not known", vec![6]),
        ("number-0", "invalid", "numbers begin with 1", piece(2, 0, 4, b"kist")),
        ("end-0", "invalid", "numbers begin with 1", numbered(3, 0)),
        ("acknowledgement-0", "invalid", "there is no frame 0", numbered(4, 0)),
        ("piece-not-full", "invalid", "a piece that is not the last must be full", piece(1, 1, 4, b"kist")),
        ("last-piece-empty", "invalid", "a last piece without a byte", piece(2, 1, 0, b"")),
        ("payload-too-long", "too-much", "a length of 32,758", piece(2, 1, 32_758, b"kist")),
        ("payload-cut", "short", "ends within its payload", piece(2, 1, 5, b"kist")),
        ("number-cut", "short", "ends within its number", numbered(4, 1)[..8].to_vec()),
        ("left-over", "left-over", "a byte behind a heartbeat", vec![5, 5]),
    ];
    group("frame", "frame", &sound, &defective)
}

fn message(kind: u8, call: u32, len: u32, body: &[u8]) -> Vec<u8> {
    cat(&[&[kind], &call.to_le_bytes(), &len.to_le_bytes(), body])
}

fn messages() -> Vec<Vector> {
    let sound = [
        ("message", "a store request", message(5, 258, 4, b"kist")),
        ("message-without-body", "a cancel", message(4, 0, 0, b"")),
        ("message-failure", "the highest kind", message(10, u32::MAX, 3, b"why")),
    ];
    let defective = [
        ("message-empty", "short", "no bytes", vec![]),
        ("message-head-cut", "short", "ends within its length", message(4, 0, 0, b"")[..8].to_vec()),
        ("message-kind-0", "invalid", "a kind that is not known", message(0, 0, 0, b"")),
        ("message-kind-11", "invalid", "a kind that is not known", message(11, 0, 0, b"")),
        ("message-too-long", "too-much", "a length beyond 64 MiB and 64 KiB", message(1, 0, 67_174_401, b"")),
        ("message-cut", "short", "less than its length says", message(1, 0, 5, b"kist")),
        ("message-left-over", "left-over", "more than its length says", message(1, 0, 3, b"kist")),
    ];
    group("frame", "message", &sound, &defective)
}

const PACK: &str = "packs/07/07070707070707070707070707070707";
const MOST: u64 = 67_108_864;

fn request(operation: u8, key: &str, more: &[&[u8]]) -> Vec<u8> {
    cat(&[&[operation], &short(key), &more.concat()])
}

fn range(start: u64, len: u64) -> Vec<u8> {
    request(2, PACK, &[&start.to_le_bytes(), &len.to_le_bytes()])
}

fn requests() -> Vec<Vector> {
    let get = |limit: u64| request(1, PACK, &[&limit.to_le_bytes()]);
    let sound = [
        ("get", "an object of any size that one may have", get(MOST)),
        ("get-nothing", "a limit of 0", get(0)),
        ("range", "the last byte that can be counted", range(u64::MAX - 1, 1)),
        ("size", "an object's size", request(3, "config", &[])),
        ("put", "an object", request(4, PACK, &[b"kist"])),
        ("put-empty", "an object without a byte", request(4, PACK, &[])),
        ("create", "an object, if its key is free", request(5, "commits/a", &[b"kist"])),
        ("list", "a new listing of everything", request(6, "", &[&[0; 4]])),
        ("list-on", "a listing that goes on", request(6, "packs/", &[&[1, 2, 0, 0]])),
        ("delete", "an object to remove", request(7, "commits/a", &[])),
    ];
    let long = cat(&[&[3, 0x81, 4], &[b'a'; 513]]);
    let defective = [
        ("request-empty", "short", "no bytes", vec![]),
        ("operation-0", "invalid", "an operation that is not known", request(0, "config", &[])),
        ("operation-8", "invalid", "an operation that is not known", request(8, "config", &[])),
        ("key-empty", "invalid", "only a folder may be empty", request(3, "", &[])),
        ("key-too-long", "too-much", "a key of 513 bytes", long),
        ("key-not-utf-8", "invalid", "a key that is no text", vec![3, 1, 0xff]),
        ("key-cut", "short", "ends within the key", vec![3, 6, b'c']),
        ("get-too-much", "too-much", "a limit of 64 MiB and one byte", get(MOST + 1)),
        ("get-without-limit", "short", "ends before the limit", request(1, PACK, &[])),
        ("range-empty", "invalid", "a range without a byte", range(7, 0)),
        ("range-too-long", "too-much", "a range of 64 MiB and one byte", range(0, MOST + 1)),
        ("range-beyond-64-bits", "invalid", "its end can't be counted", range(u64::MAX, 1)),
        ("size-left-over", "left-over", "a byte behind it", request(3, "config", &[b"x"])),
        ("list-cut", "short", "ends within where it goes on", request(6, "packs", &[&[0; 3]])),
    ];
    group("relay", "relay-request", &sound, &defective)
}

fn answers() -> Vec<Vector> {
    let zigzag_2_40_and_1 = [0x82, 0x80, 0x80, 0x80, 0x80, 0x40];
    let zigzag_2_40 = [0x80, 0x80, 0x80, 0x80, 0x80, 0x40];
    let object = cat(&[&short("packs/a"), &[0x80, 1], &[1]]);
    let listing = |next: u8, count: u8, objects: &[u8]| cat(&[&[4, next, 0, 0, 0, count], objects]);
    let failed = |class: u8, text: &str| cat(&[&[5, class], &short(text)]);
    let late = |time: &[u8]| cat(&[&short("a"), &[0], time]);
    let sound = [
        ("done", "done", vec![1]),
        ("found", "the bytes that were asked for", b"\x02kist".to_vec()),
        ("found-nothing", "an object without a byte", vec![2]),
        ("size-answer", "an object's size", cat(&[&[3], &u64::MAX.to_le_bytes()])),
        ("listing-none", "a listing of nothing", listing(0, 0, &[])),
        ("listing-more", "one object of 128 bytes, written in 1969; more follow", listing(9, 1, &object)),
        ("listing-last", "two objects", listing(0, 2, &[&object[..], &object].concat())),
        ("listing-latest", "written 2^40 seconds behind 1970", listing(0, 1, &late(&zigzag_2_40))),
        ("failed-missing", "the first class", failed(1, "")),
        ("failed-other", "the last class", failed(7, "it is raining")),
    ];
    let long = cat(&[&[5, 7, 0x81, 0x20], &[b'a'; 4097]]);
    let defective = [
        ("answer-empty", "short", "no bytes", vec![]),
        ("answer-0", "invalid", "a kind that is not known", vec![0]),
        ("answer-6", "invalid", "a kind that is not known", vec![6]),
        ("done-left-over", "left-over", "a byte behind it", vec![1, 1]),
        ("size-cut", "short", "ends within the size", vec![3, 0, 0, 0]),
        ("listing-empty-page", "invalid", "a page of nothing, but more follow", listing(1, 0, &[])),
        ("listing-cut", "short", "less objects than it says", listing(0, 2, &object)),
        (
            "listing-without-room",
            "short",
            "an object of 3 bytes; it has at least 4",
            listing(0, 1, &[0, 0, 0]),
        ),
        ("listing-key-empty", "invalid", "an object without a key", listing(0, 1, &[0, 0, 0, 0])),
        ("listing-key-not-utf-8", "invalid", "a key that is no text", listing(0, 1, &[1, 0xff, 0, 0])),
        ("listing-too-late", "invalid", "2^40 + 1 seconds", listing(0, 1, &late(&zigzag_2_40_and_1))),
        ("listing-too-many", "too-much", "8193 objects", vec![4, 0, 0, 0, 0, 0x81, 0x40]),
        ("failed-class-0", "invalid", "a class that is not known", failed(0, "")),
        ("failed-class-8", "invalid", "a class that is not known", failed(8, "")),
        ("failed-too-long", "too-much", "a text of 4097 bytes", long),
        ("failed-not-utf-8", "invalid", "a text that is none", vec![5, 7, 1, 0xff]),
    ];
    group("relay", "relay-answer", &sound, &defective)
}
