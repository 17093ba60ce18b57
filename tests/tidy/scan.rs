//! Rust text without its comments and the contents of its literals, and the pairs of braces in it.
//!
//! What is blanked out becomes spaces, byte for byte, so that offsets and lines stay true.

/// Blanks comments, and what is inside of strings and characters.
pub fn mask(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => line_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'\'' => character_end(bytes, at),
            b'r' if !follows_word(bytes, at) || is_prefix(bytes, at) => raw_string_end(bytes, at),
            _ => at + 1,
        };
        if end > at + 1 {
            for byte in &mut out[at..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
        }
        at = end;
    }
    String::from_utf8(out).expect("whole characters are replaced by spaces")
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|&b| b == b'\n').map_or(bytes.len(), |len| at + len)
}

fn comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        match bytes.get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of a character, or the next byte if this starts a lifetime.
fn character_end(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at + 1) {
        Some(b'\\') => {
            let close = bytes[at + 3..].iter().position(|&b| b == b'\'');
            close.map_or(bytes.len(), |len| at + 3 + len + 1)
        }
        Some(&first) => {
            let len = match first {
                0..0x80 => 1,
                0x80..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            };
            if bytes.get(at + 1 + len) == Some(&b'\'') { at + len + 2 } else { at + 1 }
        }
        None => at + 1,
    }
}

/// The end of `r"…"` or `r#"…"#`, or the next byte if this `r` starts no raw string.
fn raw_string_end(bytes: &[u8], at: usize) -> usize {
    let hashes = bytes[at + 1..].iter().take_while(|&&b| b == b'#').count();
    let open = at + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return at + 1;
    }
    let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let found = bytes[open + 1..].windows(close.len()).position(|window| window == close);
    found.map_or(bytes.len(), |len| open + 1 + len + close.len())
}

fn follows_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && is_word(bytes[at - 1])
}

/// Whether this `r` belongs to `br` or `cr` that stands alone.
fn is_prefix(bytes: &[u8], at: usize) -> bool {
    matches!(bytes[at - 1], b'b' | b'c') && !follows_word(bytes, at - 1)
}

pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The words of masked code with their offsets.
pub fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let bytes = code.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        at += bytes[at..].iter().position(|&b| is_word(b))?;
        let start = at;
        at += bytes[at..].iter().take_while(|&&b| is_word(b)).count();
        Some((start, &code[start..at]))
    })
}

/// The offset behind the brace that closes the one at `open`.
pub fn closed(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

/// The first `{` or `;` from `start` that is not inside of parentheses or brackets.
pub fn body_or_end(code: &str, start: usize) -> Option<(usize, u8)> {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' | b';' if depth == 0 => return Some((at, byte)),
            _ => {}
        }
    }
    None
}

#[test]
fn comments_and_literals_are_blanked_and_offsets_stay() {
    for (text, masked) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("a \" b", c)"#, "f(        , c)"),
        ("f(r#\"a \" b\"#, br\"x\", c)", "f(          , b    , c)"),
        ("let c = '\\''; let d = '\"'; f::<'a>(x)", "let c =     ; let d =    ; f::<'a>(x)"),
        ("'ü' r#type bar\"x\"", "     r#type bar   "),
        ("'static str; '\\u{7f}'", "'static str;         "),
    ] {
        let found = mask(text);
        assert_eq!(found.trim_end(), masked.trim_end(), "{text}");
        assert_eq!(found.len(), text.len());
    }
}
