//! What a walk finds, in which order, and what it leaves out.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use kist::archive::exclude::Exclude;
use kist::archive::problem::ProblemKind;
use kist::archive::walk::{FoundKind, Options, Walk};
use kist::format::entry::TreePath;
use proptest::prelude::*;
use tempfile::tempdir;

use crate::compare;
use crate::copy::{link_group, options, path, split, walk_all};
use crate::trees;

fn names(walk: Walk<'_>) -> Vec<String> {
    let (found, problems) = split(walk);
    assert!(problems.is_empty(), "{problems:?}");
    found.iter().map(|found| found.path.to_string()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_walk_finds_each_path_once_in_the_order_of_the_tree(tree in trees::tree(80)) {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempdir().unwrap();
        tree.build(dir.path());
        let found: Vec<TreePath> = walk_all(dir.path()).into_iter().map(|found| found.path).collect();
        let mut expected: Vec<TreePath> = compare::paths(dir.path())
            .iter()
            .map(|path| TreePath::from_slashes(path.as_os_str().as_bytes()).unwrap())
            .collect();
        expected.sort();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn the_first_path_names_the_group_of_hard_links() {
    let dir = tempdir().unwrap();
    fs::create_dir_all(dir.path().join("b")).unwrap();
    fs::write(dir.path().join("z"), "1").unwrap();
    fs::hard_link(dir.path().join("z"), dir.path().join("b/x")).unwrap();
    fs::hard_link(dir.path().join("z"), dir.path().join("b-a")).unwrap();
    fs::write(dir.path().join("alone"), "2").unwrap();
    let links: Vec<_> =
        walk_all(dir.path()).into_iter().map(|f| (f.path.to_string(), f.attributes.link)).collect();
    let group = Some(link_group(&path("b/x")));
    let expected =
        [("/", None), ("/alone", None), ("/b", None), ("/b/x", group), ("/b-a", group), ("/z", group)];
    assert_eq!(links, expected.map(|(path, link)| (path.to_owned(), link)));
}

#[test]
fn given_paths_are_merged_and_come_with_the_folders_above() {
    let dir = tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    for file in ["a/1", "a/b/2", "a/c/3", "d/4", "e/5"] {
        fs::create_dir_all(base.join(file).parent().unwrap()).unwrap();
        fs::write(base.join(file), file).unwrap();
    }
    symlink("d", base.join("link")).unwrap();
    let rows: [(&[&str], &[&str]); 5] = [
        (&["a/b", "a/b/2", "a/b", "a"], &["a", "a/1", "a/b", "a/b/2", "a/c", "a/c/3"]),
        (&["a/b/2", "a/1"], &["a", "a/1", "a/b", "a/b/2"]),
        (&["link"], &["link"]),
        (&["link/4"], &["d", "d/4", "link"]),
        (&["./e/../d/"], &["d", "d/4"]),
    ];
    let exclude = Exclude::default();
    for (given, expected) in rows {
        let given: Vec<PathBuf> = given.iter().map(|path| base.join(path)).collect();
        let above = base.ancestors().collect::<Vec<_>>().into_iter().rev().map(|p| p.display().to_string());
        let expected: Vec<String> =
            above.chain(expected.iter().map(|path| base.join(path).display().to_string())).collect();
        assert_eq!(names(Walk::of_paths(&given, options(&exclude)).unwrap()), expected, "{given:?}");
    }
}

#[test]
fn the_root_can_be_given_as_a_path() {
    let exclude = Exclude::new(["/*"]).unwrap();
    let (found, problems) = split(Walk::of_paths(&["/".into()], options(&exclude)).unwrap());
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].path.is_root(), &found[0].kind), (true, &FoundKind::Folder));
}

#[test]
fn a_given_path_that_is_not_there_is_a_problem_with_its_path() {
    let dir = tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    fs::write(base.join("file"), "").unwrap();
    let exclude = Exclude::default();
    let given = ["gone", "file/below", "no/such/thing", "file"].map(|name| base.join(name));
    let (found, problems) = split(Walk::of_paths(&given, options(&exclude)).unwrap());
    assert_eq!(found.last().unwrap().path.name(), b"file");
    let problems: Vec<_> = problems.iter().map(|p| (p.path.name().to_vec(), p.kind)).collect();
    let expected = [(b"file".to_vec(), ProblemKind::Changed), (b"gone".to_vec(), ProblemKind::Vanished)];
    assert!(problems.contains(&expected[1]), "{problems:?}");
    assert!(problems.contains(&(b"no".to_vec(), ProblemKind::Vanished)), "{problems:?}");
    let below = problems.iter().find(|(name, _)| name == b"file" || name == b"below");
    assert!(below.is_some(), "{problems:?}");
}

#[test]
fn relative_paths_and_bases_that_are_no_folders_are_refused() {
    let exclude = Exclude::default();
    assert!(Walk::of_paths(&["etc".into()], options(&exclude)).is_err());
    assert!(Walk::of_folder("/etc/passwd".as_ref(), options(&exclude)).is_err());
    let error = Walk::of_folder("/no/such/folder".as_ref(), options(&exclude)).err().unwrap();
    assert_eq!((error.kind, error.to_string()), (ProblemKind::Vanished, "opening /no/such/folder".into()));
}

#[test]
fn excluded_folders_are_not_entered_and_named_paths_are_taken() {
    let dir = tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    for file in ["keep/x", "tmp/y", "keep/tmp/z", "keep/tmp/wanted", "keep/a.log"] {
        fs::create_dir_all(base.join(file).parent().unwrap()).unwrap();
        fs::write(base.join(file), file).unwrap();
    }
    let exclude = Exclude::new(["tmp/", "*.log"]).unwrap();
    let walk = Walk::of_folder(&base, options(&exclude)).unwrap();
    assert_eq!(names(walk), ["/", "/keep", "/keep/x"]);
    let given = [base.clone(), base.join("keep/tmp/wanted")];
    let all = names(Walk::of_paths(&given, options(&exclude)).unwrap());
    let below: Vec<_> = all.iter().filter_map(|path| path.strip_prefix(base.to_str().unwrap())).collect();
    assert_eq!(below, ["", "/keep", "/keep/tmp", "/keep/tmp/wanted", "/keep/x"]);
}

#[test]
fn of_a_cache_only_the_folder_and_its_tag_are_taken() {
    let dir = tempdir().unwrap();
    let signature = "Signature: 8a477f597d28d172789f06886806bc55\n# comment\n";
    for (folder, tag) in [("cache", signature), ("fake", "Signature: other")] {
        fs::create_dir_all(dir.path().join(folder).join("inner")).unwrap();
        fs::write(dir.path().join(folder).join("CACHEDIR.TAG"), tag).unwrap();
    }
    let exclude = Exclude::default();
    let walk = |exclude_caches| {
        names(Walk::of_folder(dir.path(), Options { exclude_caches, ..options(&exclude) }).unwrap())
    };
    let fake = ["/fake", "/fake/CACHEDIR.TAG", "/fake/inner"];
    assert_eq!(walk(true), [&["/", "/cache", "/cache/CACHEDIR.TAG"][..], &fake].concat());
    assert_eq!(walk(false), [&["/", "/cache", "/cache/CACHEDIR.TAG", "/cache/inner"][..], &fake].concat());
}

#[test]
fn what_vanishes_or_is_swapped_during_the_walk_is_a_problem_and_the_rest_is_found() {
    let dir = tempdir().unwrap();
    for folder in ["a", "b", "c", "d"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
        fs::write(dir.path().join(folder).join("file"), folder).unwrap();
    }
    let exclude = Exclude::default();
    let mut walk = Walk::of_folder(dir.path(), options(&exclude)).unwrap();
    assert_eq!(split_some(&mut walk, 2), ["/", "/a"]);
    // `a` was found and is entered next: it turns into a link that leads out. `b` goes, `c` is another folder. The walk
    // looks ahead, so it may have opened each of them before; then what was in it is found.
    fs::rename(dir.path().join("a"), dir.path().join("moved")).unwrap();
    symlink("/etc", dir.path().join("a")).unwrap();
    fs::remove_dir_all(dir.path().join("b")).unwrap();
    fs::rename(dir.path().join("c"), dir.path().join("moved too")).unwrap();
    fs::create_dir(dir.path().join("c")).unwrap();
    let mut rest = split_some(&mut walk, 99);
    assert_eq!(rest.split_off(rest.len() - 2), ["/d", "/d/file"]);
    // Each is told of, and nothing but what it was.
    for folder in ["a", "b", "c"] {
        let may_be = |kind: &str| [format!("{kind}/{folder}"), format!("{kind}/{folder}/file")];
        let may_be = [may_be(""), may_be("changed "), may_be("vanished ")].concat();
        let told = rest.extract_if(.., |step| may_be.contains(step)).count();
        assert!(folder == "b" || told > 0, "nothing is told of {folder}");
    }
    assert_eq!(rest, [""; 0]);
}

fn split_some(walk: &mut Walk<'_>, count: usize) -> Vec<String> {
    use kist::archive::walk::Step;
    walk.take(count)
        .map(|step| match step {
            Step::Found(found) => found.path.to_string(),
            Step::Problem(problem) => format!("{} {}", problem.kind.as_str(), problem.path),
        })
        .collect()
}
