//! Laws about the code itself.

use std::path::Path;

/// A second place that creates would not read back what is in doubt, and would take its
/// own object for another's. A put that asks for a free name reads back too, and means no lock.
#[test]
fn only_the_store_creates_and_only_create_exclusive_calls_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut creates, mut callers) = (Vec::new(), Vec::new());
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            if text.contains("mode: PutMode::Create") || text.contains("PutMode::Create.into()") {
                creates.push(name.clone());
            }
            if text.contains(".create_once(") {
                callers.push(name);
            }
        }
    }
    creates.sort();
    assert_eq!(creates, ["store/conditional.rs", "store/mod.rs"]);
    assert_eq!(callers, ["store/exclusive.rs"]);
}
