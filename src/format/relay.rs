//! A store's operations as bytes: what a mover asks of its job, and the answers.
//!
//! Spec: chapter 10, *Relay*. An object's bytes stand at the end of a message and are not
//! copied. What a mover may ask, and what becomes of it, is decided in `crate::store`.

use bytes::Bytes;

use crate::format::Error;
use crate::format::codec::{Reader, Writer};
use crate::format::limits::{PACK_LEN, RELAY_PAGE, RELAY_TEXT_LEN, STORE_KEY_LEN};

const REQUEST: &str = "store request";
const ANSWER: &str = "store answer";
/// How far from 1970 an object may have been written, in seconds: 34,000 years.
const MODIFIED_MOST: u64 = 1 << 40;
/// A key of one byte, a size and a time.
const OBJECT_MIN_LEN: usize = 4;

/// What a mover asks for.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The key; the folder of a list.
    pub key: String,
    pub operation: Operation,
}

#[derive(Clone, PartialEq, Eq)]
pub enum Operation {
    /// A whole object, if it has at most `limit` bytes; else its size.
    Get {
        limit: u64,
    },
    /// `len` bytes, all of them.
    Range {
        start: u64,
        len: u64,
    },
    Size,
    Put(Bytes),
    Create(Bytes),
    /// 0 begins a listing; other numbers go on with one.
    List {
        from: u32,
    },
    Delete,
}

#[derive(Clone, PartialEq, Eq)]
pub enum Answer {
    Done,
    Found(Bytes),
    Size(u64),
    /// `next` goes on with it; 0 if this is all.
    Listing {
        next: u32,
        objects: Vec<Listed>,
    },
    Failed {
        class: Class,
        text: String,
    },
}

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    pub size: u64,
    pub modified_unix_secs: i64,
}

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Missing = 1,
    Denied = 2,
    Full = 3,
    Transient = 4,
    Exists = 5,
    Unsupported = 6,
    Other = 7,
}

impl Request {
    pub fn encode(&self) -> Bytes {
        assert!(self.key.len() <= STORE_KEY_LEN, "a key is held to its limit before it is asked for");
        let mut out = Writer::new();
        let (number, body) = match &self.operation {
            Operation::Get { .. } => (1, None),
            Operation::Range { .. } => (2, None),
            Operation::Size => (3, None),
            Operation::Put(body) => (4, Some(body)),
            Operation::Create(body) => (5, Some(body)),
            Operation::List { .. } => (6, None),
            Operation::Delete => (7, None),
        };
        out.u8(number);
        out.bytes(self.key.as_bytes());
        match &self.operation {
            Operation::Get { limit } => out.u64(*limit),
            Operation::Range { start, len } => {
                out.u64(*start);
                out.u64(*len);
            }
            Operation::List { from } => out.u32(*from),
            _ => {}
        }
        out.raw(body.map_or(&[], |body| &body[..]));
        out.into_bytes().into()
    }

    pub fn decode(bytes: &Bytes) -> Result<Self, Error> {
        let mut input = Reader::new(REQUEST, bytes);
        let number = input.u8()?;
        let key = text(&mut input, "key", STORE_KEY_LEN)?;
        if key.is_empty() && number != 6 {
            return Err(input.invalid("key", "empty"));
        }
        let operation = match number {
            1 => Operation::Get { limit: length(&mut input, "limit")? },
            2 => {
                let (start, len) = (input.u64()?, length(&mut input, "length")?);
                if len == 0 || start.checked_add(len).is_none() {
                    return Err(input.invalid("range", format_args!("{len} bytes from {start}")));
                }
                Operation::Range { start, len }
            }
            3 => Operation::Size,
            4 => Operation::Put(object(&mut input, bytes)?),
            5 => Operation::Create(object(&mut input, bytes)?),
            6 => Operation::List { from: input.u32()? },
            7 => Operation::Delete,
            other => return Err(input.invalid("operation", other)),
        };
        input.end()?;
        Ok(Self { key, operation })
    }
}

impl Answer {
    /// A text that is too long is cut.
    pub fn failed(class: Class, mut text: String) -> Self {
        text.truncate(text.floor_char_boundary(RELAY_TEXT_LEN));
        Self::Failed { class, text }
    }

    pub fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        match self {
            Answer::Done => out.u8(1),
            Answer::Found(body) => {
                out.u8(2);
                out.raw(body);
            }
            Answer::Size(size) => {
                out.u8(3);
                out.u64(*size);
            }
            Answer::Listing { next, objects } => {
                out.u8(4);
                out.u32(*next);
                out.varint(objects.len() as u64);
                for object in objects {
                    out.bytes(object.key.as_bytes());
                    out.varint(object.size);
                    out.signed(object.modified_unix_secs);
                }
            }
            Answer::Failed { class, text } => {
                out.u8(5);
                out.u8(*class as u8);
                out.bytes(text.as_bytes());
            }
        }
        out.into_bytes().into()
    }

    pub fn decode(bytes: &Bytes) -> Result<Self, Error> {
        let mut input = Reader::new(ANSWER, bytes);
        let answer = match input.u8()? {
            1 => Answer::Done,
            2 => Answer::Found(object(&mut input, bytes)?),
            3 => Answer::Size(input.u64()?),
            4 => {
                let next = input.u32()?;
                let count = input.count("objects", RELAY_PAGE, OBJECT_MIN_LEN)?;
                if count == 0 && next != 0 {
                    return Err(input.invalid("listing", "an empty page that is not the last"));
                }
                let objects = (0..count).map(|_| Listed::read(&mut input)).collect::<Result<_, _>>()?;
                Answer::Listing { next, objects }
            }
            5 => {
                let number = input.u8()?;
                let class = Class::from_number(number).ok_or_else(|| input.invalid("class", number))?;
                Answer::Failed { class, text: text(&mut input, "text", RELAY_TEXT_LEN)? }
            }
            other => return Err(input.invalid("kind", other)),
        };
        input.end()?;
        Ok(answer)
    }
}

impl Listed {
    /// As it can be written; none for a stranger's object with an impossible key.
    pub fn new(key: String, size: u64, modified_unix_secs: i64) -> Option<Self> {
        let most = MODIFIED_MOST as i64;
        let modified_unix_secs = modified_unix_secs.clamp(-most, most);
        (1..=STORE_KEY_LEN).contains(&key.len()).then_some(Self { key, size, modified_unix_secs })
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Error> {
        let key = text(input, "key", STORE_KEY_LEN)?;
        if key.is_empty() {
            return Err(input.invalid("key", "empty"));
        }
        let size = input.varint()?;
        let modified_unix_secs = input.signed()?;
        match modified_unix_secs.unsigned_abs() > MODIFIED_MOST {
            true => Err(input.invalid("time", modified_unix_secs)),
            false => Ok(Self { key, size, modified_unix_secs }),
        }
    }
}

impl Class {
    const ALL: [Class; 7] = [
        Class::Missing,
        Class::Denied,
        Class::Full,
        Class::Transient,
        Class::Exists,
        Class::Unsupported,
        Class::Other,
    ];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| *class as u8 == number)
    }
}

/// A number of bytes, held to the size of an object.
fn length(input: &mut Reader<'_>, field: &'static str) -> Result<u64, Error> {
    let (found, most) = (input.u64()?, PACK_LEN as u64);
    match found > most {
        true => Err(Error::TooMuch { what: input.what(), field, found, most }),
        false => Ok(found),
    }
}

/// The rest, which is an object's bytes; shares them with `all`.
fn object(input: &mut Reader<'_>, all: &Bytes) -> Result<Bytes, Error> {
    let (found, most) = (input.left() as u64, PACK_LEN as u64);
    if found > most {
        return Err(Error::TooMuch { what: input.what(), field: "object", found, most });
    }
    Ok(all.slice_ref(input.raw(input.left())?))
}

fn text(input: &mut Reader<'_>, field: &'static str, most: usize) -> Result<String, Error> {
    let bytes = input.bytes(field, most)?;
    let text = std::str::from_utf8(bytes).map_err(|_| input.invalid(field, "not UTF-8"))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_failure_is_cut_at_a_character() {
        let Answer::Failed { text, .. } = Answer::failed(Class::Other, "ä".repeat(3000)) else { panic!() };
        assert_eq!(text, "ä".repeat(RELAY_TEXT_LEN / 2));
        let odd = format!("a{}", "ä".repeat(3000));
        let failed = Answer::failed(Class::Other, odd);
        assert!(Answer::decode(&failed.encode()).unwrap() == failed);
    }

    #[test]
    fn a_strangers_object_is_listed_only_if_it_can_be_written() {
        assert!(Listed::new("a".repeat(513), 1, 0).is_none() && Listed::new(String::new(), 1, 0).is_none());
        let far = Listed::new("a".into(), u64::MAX, i64::MIN).unwrap();
        let listing = Answer::Listing { next: 0, objects: vec![far] };
        assert!(Answer::decode(&listing.encode()).unwrap() == listing);
    }
}
