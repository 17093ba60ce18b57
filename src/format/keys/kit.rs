//! A key file as eight lines that people can print and type back: the heart of a recovery kit.
//!
//! Spec: chapter 3. Crockford's base32 has no letter that looks like another sign. Each line has a number and a
//! check of its own, so that an error can name the line. Lines that begin otherwise are text.

use zeroize::Zeroizing;

use crate::crypto::hash;
use crate::format::Error;
use crate::format::codec::Reader;
use crate::format::keys::KeyFile;

const WHAT: &str = "recovery kit";
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LINES: usize = 8;
/// Bytes of a line, and of its check behind them.
const LINE_BYTES: usize = 8;
const CHECK_BYTES: usize = 2;
/// Signs of a line: five bits each.
const LINE_SIGNS: usize = (LINE_BYTES + CHECK_BYTES) * 8 / 5;

type Line = [u8; LINE_BYTES];

impl KeyFile {
    /// Eight lines. Secret.
    pub fn to_kit(&self) -> Zeroizing<String> {
        let body = self.body();
        let mut out = Zeroizing::new(String::with_capacity(LINES * 24));
        for (at, bytes) in body.as_chunks::<LINE_BYTES>().0.iter().enumerate() {
            out.push_str(&format!("{} ", at + 1));
            for (at, sign) in encode(at + 1, bytes).iter().enumerate() {
                if at % 4 == 0 {
                    out.push(' ');
                }
                out.push(char::from(*sign));
            }
            out.push('\n');
        }
        out
    }

    /// Takes a kit as it was typed: the lines, or the whole page. An error names the line that is mistyped and
    /// shows nothing of it.
    pub fn from_kit(text: &str) -> Result<Self, Error> {
        let mut lines: [Option<Zeroizing<Line>>; LINES] = Default::default();
        for line in text.lines() {
            let Some((number, signs)) = numbered(line) else { continue };
            let slot = &mut lines[number - 1];
            if slot.is_some() {
                return Err(invalid(format!("line {number} is there twice")));
            }
            *slot = Some(decode(number, signs)?);
        }
        let mut body = Zeroizing::new(Vec::with_capacity(64));
        for (at, line) in lines.iter().enumerate() {
            let line = line.as_ref().ok_or_else(|| invalid(format!("line {} is missing", at + 1)))?;
            body.extend_from_slice(&line[..]);
        }
        Self::read(&mut Reader::new(WHAT, &body))
    }
}

fn invalid(found: String) -> Error {
    Error::Invalid { what: WHAT, field: "contents", found }
}

/// The number that a line begins with, and the rest. Behind the number is a space, a dot, a colon or such.
fn numbered(line: &str) -> Option<(usize, &str)> {
    let line = line.trim_start();
    let number = line.chars().next()?.to_digit(10)? as usize;
    let rest = &line[1..];
    let is_apart = rest.starts_with(|c: char| c.is_whitespace() || ".:)-".contains(c));
    (is_apart && (1..=LINES).contains(&number)).then_some((number, rest))
}

fn check(number: usize, bytes: &Line) -> [u8; CHECK_BYTES] {
    let hash = hash::plain(&[&[number as u8], &bytes[..]].concat());
    *hash.first_chunk().expect("a hash has 32 bytes")
}

fn encode(number: usize, bytes: &Line) -> Zeroizing<[u8; LINE_SIGNS]> {
    let mut bits = u128::from(u64::from_be_bytes(*bytes)) << (CHECK_BYTES * 8);
    bits |= u128::from(u16::from_be_bytes(check(number, bytes)));
    let sign = |at: usize| ALPHABET[(bits >> (5 * (LINE_SIGNS - 1 - at)) & 31) as usize];
    Zeroizing::new(std::array::from_fn(sign))
}

fn decode(number: usize, typed: &str) -> Result<Zeroizing<Line>, Error> {
    let (mut bits, mut count) = (0u128, 0);
    for c in typed.chars().filter(|c| !c.is_whitespace() && !".:)-".contains(*c)) {
        let value =
            value(c).ok_or_else(|| invalid(format!("line {number} has a sign that kits don't have")))?;
        bits = bits << 5 | u128::from(value);
        count += 1;
        if count > LINE_SIGNS {
            return Err(invalid(format!("line {number} has more than {LINE_SIGNS} signs")));
        }
    }
    if count < LINE_SIGNS {
        return Err(invalid(format!("line {number} has {count} signs, not {LINE_SIGNS}")));
    }
    let bytes = ((bits >> (CHECK_BYTES * 8)) as u64).to_be_bytes();
    match check(number, &bytes) == (bits as u16).to_be_bytes() {
        true => Ok(Zeroizing::new(bytes)),
        false => Err(invalid(format!("line {number} is mistyped: its check does not fit"))),
    }
}

/// What a sign stands for. O is a zero; I and L are ones.
fn value(c: char) -> Option<u8> {
    let sign = match c.to_ascii_uppercase() {
        'O' => b'0',
        'I' | 'L' => b'1',
        c => u8::try_from(c).ok()?,
    };
    ALPHABET.iter().position(|known| *known == sign).map(|at| at as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::secret::Key;
    use crate::format::id::{RepoId, SlotId};

    fn sample() -> KeyFile {
        let unlock = Key::new(std::array::from_fn(|at| (at * 37) as u8));
        KeyFile { repo: RepoId([0xa1; 16]), slot: SlotId([0x7c; 16]), unlock }
    }

    #[test]
    fn a_kit_comes_back_however_it_is_typed() {
        let kit = sample().to_kit();
        assert_eq!(kit.lines().count(), 8);
        assert!(kit.lines().all(|line| line.len() == 22), "{}", *kit);
        for typed in [
            kit.to_string(),
            kit.to_lowercase(),
            kit.replace('0', "o").replace("  ", " "),
            // The number itself must stay one.
            kit.lines().map(|line| format!("{}{}\n", &line[..1], line[1..].replace('1', "l"))).collect(),
            kit.lines().map(|line| format!("  {}: {}\r\n", &line[..1], line[1..].replace(' ', ""))).collect(),
            kit.lines().rev().map(|line| format!("{line}\n")).collect(),
            format!("kist recovery kit\n\nMade by 2 people, 8-ish\n{}\nHow to use it\n9 lives\n", *kit),
        ] {
            assert_eq!(KeyFile::from_kit(&typed).as_ref(), Ok(&sample()), "{typed}");
        }
    }

    #[test]
    fn each_wrong_sign_is_found_and_its_line_is_named() {
        let kit = sample().to_kit();
        let lines: Vec<&str> = kit.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            for place in 2..line.len() {
                let old = line.as_bytes()[place];
                if old == b' ' {
                    continue;
                }
                for new in ALPHABET.iter().filter(|new| **new != old) {
                    let mut typed = line.as_bytes().to_vec();
                    typed[place] = *new;
                    let mut all: Vec<String> = lines.iter().map(|line| line.to_string()).collect();
                    all[at] = String::from_utf8(typed).unwrap();
                    let error = KeyFile::from_kit(&all.join("\n")).unwrap_err().to_string();
                    assert!(error.contains(&format!("line {} is mistyped", at + 1)), "{error}");
                }
            }
        }
    }

    #[test]
    fn lines_that_are_missing_swapped_doubled_short_or_long_are_named() {
        let kit = sample().to_kit();
        let lines: Vec<String> = kit.lines().map(str::to_owned).collect();
        let error = |lines: &[String]| KeyFile::from_kit(&lines.join("\n")).unwrap_err().to_string();
        assert!(error(&[]).contains("line 1 is missing"));
        assert!(error(&lines[..7]).contains("line 8 is missing"));
        let changed = |at: usize, new: String| {
            let mut lines = lines.clone();
            lines[at] = new;
            error(&lines)
        };
        // The content of line 6 under the number 5.
        let swapped = changed(4, format!("5{}", &lines[5][1..]));
        assert!(swapped.contains("line 5 is mistyped"), "{swapped}");
        assert!(changed(2, lines[1].clone()).contains("line 2 is there twice"));
        assert!(changed(2, lines[2][..21].to_owned()).contains("line 3 has 15 signs"));
        assert!(changed(2, format!("{}A", lines[2])).contains("line 3 has more than 16 signs"));
        assert!(changed(2, format!("{}U", &lines[2][..21])).contains("line 3 has a sign"));
    }
}
