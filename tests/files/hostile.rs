//! Trees and targets that want a restore to write elsewhere.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use kist::archive::file;
use kist::archive::problem::ProblemKind;
use kist::archive::target::Target;
use kist::archive::walk::{Step, Walk};
use kist::format::entry::{Attributes, TreePath};
use tempfile::{TempDir, tempdir};

use crate::compare::differences;
use crate::copy::{options, path};

/// A target beside a folder that must stay as it is.
struct Scene {
    dir: TempDir,
    target: Target,
}

impl Scene {
    fn new() -> Self {
        let dir = tempdir().unwrap();
        for folder in ["outside", "copy"] {
            fs::create_dir_all(dir.path().join(folder).join("sub")).unwrap();
            fs::write(dir.path().join(folder).join("precious"), "untouched").unwrap();
        }
        crate::copy::copy(&dir.path().join("outside"), &dir.path().join("copy"), true);
        let target = Target::open(&dir.path().join("target"), true).unwrap();
        Self { dir, target }
    }

    fn inside(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join("target").join(path)
    }

    fn assert_outside_is_untouched(&self) {
        let (a, b) = (self.dir.path().join("outside"), self.dir.path().join("copy"));
        assert_eq!(differences(&a, &b), Vec::<String>::new());
    }
}

/// An empty file at a path, whatever was there.
fn make_file(target: &Target, at: &str) {
    let problems = target.create_file(&path(at), 0).unwrap().place(&Attributes::default());
    assert!(problems.is_empty(), "{problems:?}");
}

/// Every operation on `below`, which lies under something that is no folder; none may succeed.
fn all_refused(target: &Target, below: &TreePath) {
    let owner = Attributes { mode: 0o777, uid: 1, gid: 1, ..Attributes::default() };
    assert!(target.make_folder(below).is_err());
    assert!(target.create_file(below, 10).is_err());
    assert!(target.symlink(below, b"x").is_err());
    assert!(target.fifo(below).is_err());
    assert!(target.socket(below).is_err());
    assert!(target.hard_link(below, &path("stolen")).is_err());
    assert!(target.list(below).is_err());
    assert_eq!(target.set_attributes(below, &owner).len(), 1);
    assert_eq!(target.existing(below).unwrap(), None);
    target.remove(below).unwrap();
}

#[test]
fn nothing_is_done_through_a_link_in_the_target() {
    let scene = Scene::new();
    for (link, to) in [("absolute", scene.dir.path().join("outside")), ("relative", "../outside".into())] {
        symlink(to, scene.inside(link)).unwrap();
        for name in ["precious", "sub", "new", "sub/new"] {
            all_refused(&scene.target, &path(&format!("{link}/{name}")));
        }
    }
    symlink("/proc/self/root", scene.inside("magic")).unwrap();
    all_refused(&scene.target, &path("magic/etc"));
    scene.assert_outside_is_untouched();
}

#[test]
fn a_link_where_the_tree_has_something_else_is_replaced_and_not_followed() {
    let scene = Scene::new();
    for (name, to) in [("folder", "../outside/sub"), ("file", "../outside/precious"), ("same", "../outside")]
    {
        symlink(to, scene.inside(name)).unwrap();
    }
    assert!(scene.target.make_folder(&path("folder")).unwrap());
    let file = scene.target.create_file(&path("file"), 3).unwrap();
    file.write_at(0, b"new").unwrap();
    assert!(fs::symlink_metadata(scene.inside("file")).unwrap().is_symlink(), "not before it is whole");
    assert!(file.place(&Attributes::default()).is_empty());
    scene.target.symlink(&path("same"), b"elsewhere").unwrap();
    assert!(fs::symlink_metadata(scene.inside("folder")).unwrap().is_dir());
    assert_eq!(fs::read(scene.inside("file")).unwrap(), b"new");
    assert_eq!(fs::read_link(scene.inside("same")).unwrap(), Path::new("elsewhere"));
    scene.assert_outside_is_untouched();
}

#[test]
fn attributes_of_a_link_are_its_own() {
    let scene = Scene::new();
    symlink("../outside/precious", scene.inside("link")).unwrap();
    let mut wanted = Attributes { mode: 0o4777, uid: 7, gid: 8, ..Attributes::default() };
    wanted.mtime.secs = 77;
    wanted.xattrs.push((b"trusted.x".to_vec(), b"y".to_vec()));
    let problems = scene.target.set_attributes(&path("link"), &wanted);
    assert!(problems.is_empty(), "{problems:?}");
    let existing = scene.target.existing(&path("link")).unwrap().unwrap();
    assert_eq!((existing.uid, existing.gid, existing.mtime.secs), (7, 8, 77));
    scene.assert_outside_is_untouched();
}

#[test]
fn a_tree_that_has_entries_below_its_own_links_and_files_gets_nowhere() {
    let scene = Scene::new();
    let outside = scene.dir.path().join("outside");
    scene.target.symlink(&path("a"), outside.as_os_str().as_encoded_bytes()).unwrap();
    all_refused(&scene.target, &path("a/precious"));
    make_file(&scene.target, "b");
    all_refused(&scene.target, &path("b/x"));
    // A folder that was open before is not taken for the link that came in its place.
    scene.target.make_folder(&path("c")).unwrap();
    make_file(&scene.target, "c/x");
    scene.target.remove(&path("c")).unwrap();
    scene.target.symlink(&path("c"), outside.as_os_str().as_encoded_bytes()).unwrap();
    all_refused(&scene.target, &path("c/precious"));
    scene.assert_outside_is_untouched();
}

#[test]
fn removal_takes_links_and_not_what_they_lead_to() {
    let scene = Scene::new();
    fs::create_dir_all(scene.inside("old/deeper")).unwrap();
    symlink("../../../outside", scene.inside("old/deeper/link")).unwrap();
    symlink("../outside", scene.inside("direct")).unwrap();
    fs::hard_link(scene.dir.path().join("outside/precious"), scene.inside("old/hard")).unwrap();
    scene.target.remove(&path("old")).unwrap();
    scene.target.remove(&path("direct")).unwrap();
    scene.target.remove(&path("not/there")).unwrap();
    assert!(scene.target.is_empty().unwrap());
    assert!(scene.target.remove(&TreePath::root()).is_err());
    scene.assert_outside_is_untouched();
}

#[test]
fn a_folder_that_is_not_empty_is_never_replaced_unasked() {
    let scene = Scene::new();
    fs::create_dir_all(scene.inside("full/of")).unwrap();
    fs::create_dir_all(scene.inside("empty")).unwrap();
    let problems = scene.target.create_file(&path("full"), 0).unwrap().place(&Attributes::default());
    assert_eq!(problems[0].kind, ProblemKind::InTheWay);
    assert_eq!(fs::read_dir(scene.dir.path().join("target")).unwrap().count(), 2, "nothing is left behind");
    assert_eq!(scene.target.symlink(&path("full"), b"x").unwrap_err().kind, ProblemKind::InTheWay);
    assert!(scene.inside("full/of").is_dir());
    make_file(&scene.target, "empty");
    scene.target.remove(&path("full")).unwrap();
    make_file(&scene.target, "full");
}

#[test]
fn a_file_written_over_another_leaves_its_other_names_alone() {
    let scene = Scene::new();
    fs::hard_link(scene.dir.path().join("outside/precious"), scene.inside("name")).unwrap();
    let file = scene.target.create_file(&path("name"), 4).unwrap();
    file.write_at(0, b"evil").unwrap();
    file.place(&Attributes { mode: 0o777, uid: 5, gid: 5, ..Attributes::default() });
    scene.assert_outside_is_untouched();
}

#[test]
fn a_file_that_was_swapped_after_the_walk_is_not_read() {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    for name in ["sub/a", "sub/b", "sub/c", "sub/d"] {
        fs::write(dir.path().join(name), "mine").unwrap();
    }
    let exclude = Default::default();
    let found: Vec<_> = Walk::of_folder(dir.path(), options(&exclude))
        .unwrap()
        .filter_map(|step| match step {
            Step::Found(found) if found.path.name().len() == 1 => Some(found),
            _ => None,
        })
        .collect();
    fs::remove_file(dir.path().join("sub/a")).unwrap();
    symlink("/etc/shadow", dir.path().join("sub/a")).unwrap();
    fs::write(dir.path().join("other"), "other").unwrap();
    fs::rename(dir.path().join("other"), dir.path().join("sub/b")).unwrap();
    fs::remove_file(dir.path().join("sub/c")).unwrap();
    // The folder itself turns into a link: the file is still found in the folder that was walked.
    fs::rename(dir.path().join("sub"), dir.path().join("moved")).unwrap();
    symlink("/etc", dir.path().join("sub")).unwrap();
    let kinds: Vec<_> = found.iter().map(|found| file::open(found).map_err(|problem| problem.kind)).collect();
    assert_eq!(kinds[0].as_ref().unwrap_err(), &ProblemKind::Changed);
    assert_eq!(kinds[1].as_ref().unwrap_err(), &ProblemKind::Changed);
    assert_eq!(kinds[2].as_ref().unwrap_err(), &ProblemKind::Vanished);
    let mut content = [0; 4];
    kinds[3].as_ref().unwrap().read_at(0, &mut content).unwrap();
    assert_eq!(&content, b"mine");
}

#[test]
fn attributes_that_mean_something_else_to_the_system_are_refused() {
    let scene = Scene::new();
    let file = scene.target.create_file(&path("file"), 0).unwrap();
    let mut wanted = Attributes { mode: 0o6755, uid: u32::MAX, gid: 1, ..Attributes::default() };
    wanted.mtime.nanos = (1 << 30) - 1;
    let problems = file.place(&wanted);
    let told: Vec<_> = problems.iter().map(|problem| problem.doing).collect();
    assert_eq!(told, ["setting the owner of", "setting the mode of", "setting the time of"]);
    assert_eq!(scene.target.existing(&path("file")).unwrap().unwrap().mode, 0o755);
}
