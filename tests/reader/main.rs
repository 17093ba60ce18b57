//! The reader of `format-spec/reader`, which shares no code with kist: it passes the vectors, restores what kist
//! backed up, and refuses what was damaged. Needs root, as restores of other people's files do.

#[path = "../support/compare.rs"]
mod compare;
mod damage;
#[path = "../support/programs.rs"]
mod programs;
mod pruned;
mod repaired;
mod restore;
mod scene;
#[path = "../support/trees.rs"]
mod trees;

#[test]
fn the_reader_passes_every_vector() {
    let run = programs::ended(&mut programs::reader("check_vectors.py"));
    assert_eq!(run.code, 0, "{run:?}");
}
