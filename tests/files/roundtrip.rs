//! What is walked, read and written again is the same tree, in everything.

use proptest::prelude::*;
use tempfile::tempdir;

use crate::compare::differences;
use crate::copy::copy;
use crate::trees;

#[test]
fn the_awkward_tree_comes_back_as_it_was() {
    for base in ["/tmp", "/dev/shm"] {
        let dir = tempfile::tempdir_in(base).unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::create_dir(&a).unwrap();
        trees::awkward(&a);
        let problems = copy(&a, &b, false);
        assert!(problems.is_empty(), "{base}: {problems:?}");
        assert_eq!(differences(&a, &b), Vec::<String>::new(), "{base}");
        // Once more onto itself: what lies there already has every attribute to be replaced.
        let problems = copy(&a, &b, false);
        assert!(problems.is_empty(), "{base}: {problems:?}");
        assert_eq!(differences(&a, &b), Vec::<String>::new(), "{base}, second time");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_comes_back_as_it_was_and_so_does_what_it_became(
        tree in trees::tree(60),
        seed in any::<u64>(),
    ) {
        let dir = tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::create_dir(&a).unwrap();
        tree.build(&a);
        let problems = copy(&a, &b, false);
        prop_assert!(problems.is_empty(), "{:?}", problems);
        prop_assert_eq!(differences(&a, &b), Vec::<String>::new());
        let changes = trees::mutate(&a, seed);
        let problems = copy(&a, &b, true);
        prop_assert!(problems.is_empty(), "{:?}", problems);
        prop_assert_eq!(differences(&a, &b), Vec::<String>::new(), "after {:#?}", changes);
    }
}

#[test]
fn the_comparison_sees_every_kind_of_difference() {
    let mut seen = 0;
    for seed in 0..200 {
        let dir = tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        for base in [&a, &b] {
            std::fs::create_dir(base).unwrap();
            std::fs::write(base.join("file"), trees::pseudo_random(20_000, 3)).unwrap();
            std::fs::create_dir(base.join("folder")).unwrap();
        }
        let xattrs = vec![(b"user.a".to_vec(), b"to be removed".to_vec())];
        trees::dress(&a.join("file"), &trees::Meta { mode: 0o644, xattrs, ..Default::default() });
        copy(&a, &b, true);
        assert_eq!(differences(&a, &b), Vec::<String>::new());
        let changes = trees::mutate(&a, seed);
        let found = differences(&a, &b);
        assert!(!found.is_empty(), "seed {seed}: {changes:?}");
        seen += found.len();
    }
    assert!(seen > 1000, "{seen}");
}
