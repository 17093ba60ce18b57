//! The archives are what they were on the day that they were made: `v1/SHA256SUMS` has their digests.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

const LIST: &str = "SHA256SUMS";

#[test]
fn no_archive_was_changed_since_it_was_made() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen/v1");
    let list = fs::read_to_string(folder.join(LIST)).unwrap();
    let pair = |line: &str| {
        let (digest, name) = line.split_once("  ").expect("a line of sha256sum");
        (name.to_owned(), digest.to_owned())
    };
    let listed: BTreeMap<String, String> = list.lines().map(pair).collect();
    let names = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let digest = |name: String| {
        let digest = Sha256::digest(fs::read(folder.join(&name)).unwrap());
        (name, digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    };
    let found: BTreeMap<_, _> = names.filter(|name| name != LIST).map(digest).collect();
    assert_eq!(found, listed, "an archive is never changed; one that is new gets a line in {LIST}");
}
