//! The tables and numbers of the spec, held against the constants of the code.

use std::collections::BTreeMap;
use std::path::Path;

use kist::crypto::kdf::Params;
use kist::crypto::{seal, wrap};
use kist::format::{frame, limits, node, pack};

use crate::vector::{Outcome, load_all};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The rows of the table whose first heading is `heading`, as cells.
fn table(text: &str, heading: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        line.trim().trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect()
    };
    let mut lines = text.lines().skip_while(|line| !line.starts_with(heading));
    assert!(lines.next().is_some(), "no table {heading}");
    lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// `pub const NAME: … = value;` of a source file, the value as it is written.
fn constants(source: &str) -> BTreeMap<String, String> {
    let parse = |line: &str| {
        let (name, rest) = line.trim().strip_prefix("pub const ")?.split_once(':')?;
        let value = rest.split_once('=')?.1.trim().strip_suffix(';')?;
        Some((name.to_owned(), value.trim_start_matches('b').trim_matches('"').to_owned()))
    };
    source.lines().filter_map(parse).collect()
}

/// The limits of chapter 1, by name.
pub fn all_limits() -> BTreeMap<String, u64> {
    let rows = table(&read("format-spec/01-terms.md"), "| name | most |");
    rows.iter().map(|row| (row[0].clone(), row[1].parse().expect("a number"))).collect()
}

#[test]
fn the_limits_of_chapter_1_are_those_of_the_code() {
    let product = |value: &String| -> u64 {
        let factors = value.split('*').map(|factor| factor.trim().parse::<u64>().expect("a number"));
        factors.product()
    };
    let code = constants(&read("src/format/limits.rs"));
    let code: BTreeMap<_, _> = code.iter().map(|(name, value)| (name.clone(), product(value))).collect();
    assert_eq!(code["CHUNK_LEN"], limits::CHUNK_LEN as u64);
    assert_eq!(all_limits(), code);
}

#[test]
fn the_contexts_of_chapter_3_are_those_of_the_code() {
    let code = constants(&read("src/crypto/mod.rs"));
    let rows = table(&read("format-spec/03-keys.md"), "| name | text | makes |");
    let spec: BTreeMap<_, _> = rows.iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(spec, code);
    let texts: std::collections::BTreeSet<_> = code.values().collect();
    assert_eq!(texts.len(), code.len(), "two uses share a context");
}

#[test]
fn the_masks_of_chapter_6_are_those_of_the_chunker() {
    let rows = table(&read("format-spec/06-tree.md"), "| bits | mask |");
    let pairs = rows.iter().flat_map(|row| row.chunks(2)).filter(|pair| !pair[0].is_empty());
    let mut bits: Vec<usize> = Vec::new();
    for pair in pairs {
        let (number, mask) = (pair[0].parse::<usize>().expect("bits"), u64::from_str_radix(&pair[1], 16));
        assert_eq!(mask, Ok(fastcdc::v2020::MASKS[number]), "{number} bits");
        bits.push(number);
    }
    bits.sort();
    // An average of 1,026 has 10 bits, one of 4 MiB has 22; the masks are one beside.
    assert_eq!(bits, (9..=23).collect::<Vec<_>>());
}

#[test]
fn the_numbers_in_the_prose_are_those_of_the_code() {
    let grouped = |number: usize| {
        let digits = number.to_string();
        let mut groups: Vec<&str> =
            digits.as_bytes().rchunks(3).map(|g| str::from_utf8(g).unwrap()).collect();
        groups.reverse();
        groups.join(",")
    };
    let most = Params::LIMITS;
    for (chapter, numbers) in [
        ("03-keys.md", vec![wrap::WRAP_LEN, wrap::PUBLIC_LEN, seal::OVERHEAD, most.memory_kib as usize]),
        ("03-keys.md", vec![most.passes as usize, most.lanes as usize]),
        ("04-pack.md", vec![pack::HEADER_LEN, pack::TRAILER_LEN]),
        ("06-tree.md", vec![node::NODE_MIN_BYTES, node::NODE_AVG_BYTES, node::NODE_MAX_BYTES]),
        ("06-tree.md", vec![node::EXTENTS_MIN, node::EXTENTS_MAX, limits::NODE_PART_LEN]),
        ("06-tree.md", vec![limits::NODE_PART_LEN / 32]),
        ("07-snapshot.md", vec![wrap::WRAP_LEN]),
        ("10-mover.md", vec![frame::PAYLOAD_LEN]),
    ] {
        let text = read(&format!("format-spec/{chapter}"));
        for number in numbers {
            assert!(text.contains(&grouped(number)), "{chapter} does not have {}", grouped(number));
        }
    }
}

#[test]
fn the_kinds_of_messages_in_chapter_10_are_those_of_the_code() {
    let rows = table(&read("format-spec/10-mover.md"), "| kind | what | who sends it |");
    let spec: BTreeMap<_, _> =
        rows.iter().map(|row| (row[1].to_uppercase().replace(' ', "_"), row[0].clone())).collect();
    let code = constants(&read("src/format/frame.rs"));
    let kinds = code.into_iter().filter(|(_, value)| value.parse::<u8>().is_ok());
    assert_eq!(spec, kinds.collect());
}

#[test]
fn every_class_of_refusal_has_a_vector_and_a_line_in_the_readme() {
    let rows = table(&read("format-spec/README.md"), "| class |");
    let spec: std::collections::BTreeSet<_> = rows.iter().map(|row| row[0].clone()).collect();
    crate::vectors::write_missing();
    let stated = load_all().into_iter().filter_map(|vector| match vector.outcome {
        Outcome::Error(class) => Some(class),
        Outcome::Fields(_) => None,
    });
    assert_eq!(stated.collect::<std::collections::BTreeSet<_>>(), spec);
}

#[test]
fn every_chapter_is_named_in_the_readme() {
    let readme = read("format-spec/README.md");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("format-spec");
    for file in std::fs::read_dir(folder).expect("format-spec") {
        let name = file.expect("an entry").file_name().to_string_lossy().into_owned();
        let known = ["README.md", "vectors", "reader"].contains(&name.as_str())
            || readme.contains(&format!("({name})"));
        assert!(known, "{name}");
    }
}
