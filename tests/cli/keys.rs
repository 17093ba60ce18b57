//! `kist key`: the story of a repository's keys, as people type it. No secret is shown in any of it, errors
//! included: each run is looked through.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::kist::{Kist, PASSPHRASE, grow};

/// Adds a key of a role and gives its file.
fn add(kist: &mut Kist, role: &str, name: &str, more: &[&str]) -> PathBuf {
    let file = kist.path(&format!("{name}.key"));
    kist.fine(&[&["key", "add", "--role", role, "--name", name], more, &["--out"]].concat(), &[&file]);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    kist.knows(&file);
    file
}

fn list(kist: &Kist) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let keys = kist.json(0, &["key", "list"], &[]);
    keys.iter().map(|key| (text(&key["role"]), text(&key["name"]))).collect()
}

#[test]
fn each_role_does_its_work_and_is_denied_the_others() {
    let mut kist = Kist::new();
    let (source, owner) = (kist.path("source"), kist.path("owner.key"));
    grow(&source, 1);
    let writer = add(&mut kist, "writer", "shop", &["--trust", "shared"]);
    let maintainer = add(&mut kist, "maintainer", "nightly", &[]);
    let reader = add(&mut kist, "reader", "drill", &[]);
    let second = add(&mut kist, "owner", "second", &[]);
    kist.use_key(&writer);
    let snapshot = kist.backup(&source);
    let restore = ["restore", "files", "latest", "/nowhere"];
    for (key, denied) in [
        (&writer, &[&restore[..], &["key", "list"]][..]),
        (&maintainer, &[&restore[..], &["key", "list"], &["--no-catalog", "ls", "latest"]]),
        (&reader, &[&["key", "list"], &["key", "rotate", "--owner"]]),
    ] {
        kist.use_key(key);
        let is_shut = kist.fine(&["check", "--read-data"], &[]).out.contains("not opened");
        let reads = std::ptr::eq(key, &reader);
        assert_eq!(is_shut, !reads);
        for verb in denied {
            let run = kist.ends(5, verb, &[]);
            assert!(!run.err.is_empty() && run.out.is_empty(), "{run:?}");
        }
    }
    for key in [&maintainer, &reader] {
        kist.use_key(key);
        kist.ends(5, &["backup", "files"], &[&source]);
    }
    assert!(!Path::new("/nowhere").exists());
    for key in [&reader, &second, &owner] {
        kist.use_key(key);
        kist.restores(&snapshot, &source);
        kist.fine(&["check", "--read-data"], &[]);
    }
    let expected = [
        ("owner", "owner"),
        ("writer", "shop"),
        ("maintainer", "nightly"),
        ("reader", "drill"),
        ("owner", "second"),
    ];
    assert_eq!(list(&kist), expected.map(|(role, name)| (role.to_owned(), name.to_owned())));
    let shown = kist.fine(&["key", "list"], &[]).out;
    assert!(
        shown.lines().any(|line| line.contains("shop") && line.ends_with("trusts its domain")),
        "{shown}"
    );
}

#[test]
fn a_writer_and_a_reader_forget_prune_hold_and_lift_nothing() {
    let mut kist = Kist::new();
    let (source, owner) = (kist.path("source"), kist.path("owner.key"));
    grow(&source, 1);
    let keys = [add(&mut kist, "writer", "shop", &[]), add(&mut kist, "reader", "drill", &[])];
    let (first, second, third) = (kist.backup(&source), kist.backup(&source), kist.backup(&source));
    kist.fine(&["forget", &second], &[]);
    let hold = kist.json(0, &["hold", "add", &first, "--note", "a note"], &[]);
    let hold = hold[0]["id"].as_str().unwrap().to_owned();
    let before = crate::refused::all(&kist.repo);
    for key in keys {
        kist.use_key(&key);
        for verb in [
            &["forget", &third][..],
            &["forget", "--keep-last", "1"],
            &["recall", &second],
            &["prune"],
            &["prune", "--dry-run"],
            &["hold", "add", "--everything", "--note", "mine"],
            &["hold", "lift", &hold],
            &["repair"],
        ] {
            let run = kist.ends(5, verb, &[]);
            assert!(run.err.contains("can't do it"), "{verb:?}: {run:?}");
            assert!(crate::refused::all(&kist.repo) == before, "{verb:?} has changed something");
        }
    }
    kist.use_key(&owner);
    assert_eq!(kist.json(0, &["hold", "list"], &[]).len(), 1);
}

/// An old copy of a repository is put back, and the owner removes a key of another domain, with a catalog and without one.
#[test]
fn an_old_copy_that_was_put_back_is_an_alarm_for_work_on_keys_and_without_a_catalog() {
    let mut kist = Kist::new();
    let source = kist.path("source");
    grow(&source, 1);
    add(&mut kist, "writer", "shop", &["--domain", "shop"]);
    add(&mut kist, "writer", "shop-2", &["--domain", "shop"]);
    let old = kist.path("old");
    let copy = |from: &Path, to: &Path| {
        let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap();
        assert!(copied.success());
    };
    copy(&kist.repo, &old);
    for verb in [
        &["--domain", "shop", "hold", "add", "--everything", "--note", "more"][..],
        &["key", "remove", "shop"],
    ] {
        kist.fine(&[&["--no-catalog"], verb].concat(), &[]);
    }
    fs::remove_dir_all(&kist.repo).unwrap();
    copy(&old, &kist.repo);
    for verb in
        [&["--domain", "shop", "snapshots"][..], &["key", "remove", "shop-2"], &["key", "rotate", "--owner"]]
    {
        for catalog in [&["--no-catalog"][..], &[]] {
            let run = kist.ends(4, &[catalog, verb].concat(), &[]);
            assert!(run.err.contains("an old copy of the store was put back"), "{verb:?}: {run:?}");
        }
    }
    assert_eq!(list(&kist).len(), 3, "nothing was changed");
}

#[test]
fn a_domain_is_the_owner_s_to_choose_and_has_snapshots_of_its_own() {
    let mut kist = Kist::new();
    let (source, owner) = (kist.path("source"), kist.path("owner.key"));
    grow(&source, 1);
    let shop = add(&mut kist, "writer", "shop", &["--domain", "shop"]);
    kist.use_key(&shop);
    let snapshot = kist.backup(&source);
    kist.fine(&["--domain", "shop", "snapshots"], &[]);
    let run = kist.ends(5, &["--domain", "bank", "snapshots"], &[]);
    assert!(run.err.contains("the writer's key is of the domain shop, not of \"bank\""), "{run:?}");
    kist.use_key(&owner);
    assert_eq!(kist.fine(&["snapshots"], &[]).out, "0 snapshots\n");
    // The catalogs of two domains do not mix either.
    let of_default = kist.backup(&source);
    let in_shop = kist.fine(&["--domain", "shop", "snapshots"], &[]).out;
    assert!(in_shop.contains(&snapshot[..8]) && !in_shop.contains(&of_default[..8]), "{in_shop}");
    let run = kist.run(kist.command(&["snapshots"], &[]).env("KIST_DOMAIN", "shop"));
    assert_eq!(run.out, in_shop);
    let run = kist.ends(2, &["--domain", "no/name", "snapshots"], &[]);
    assert!(run.err.contains("the name of a domain must be"), "{run:?}");
    let listed = kist.json(0, &["key", "list"], &[]);
    let folder = listed.iter().find_map(|key| key["folder"].as_str()).unwrap().to_owned();
    assert!(kist.repo.join(&folder).join("commits").is_dir(), "{listed:?}");
    let shown = kist.fine(&["key", "list"], &[]).out;
    assert!(shown.contains(" shop ") && shown.contains(&format!("in {folder}/")), "{shown}");
}

#[test]
fn a_rotated_key_s_old_file_is_denied_and_a_removed_one_s_too() {
    let mut kist = Kist::new();
    let (source, owner) = (kist.path("source"), kist.path("owner.key"));
    grow(&source, 1);
    let old = add(&mut kist, "writer", "shop", &[]);
    let new = kist.path("new.key");
    kist.ends(2, &["key", "rotate", "shop"], &[]);
    kist.ends(2, &["key", "rotate", "shop", "--out"], &[&old]);
    kist.fine(&["key", "rotate", "shop", "--out"], &[&new]);
    kist.use_key(&old);
    let run = kist.ends(5, &["snapshots"], &[]);
    assert!(run.err.contains("the key file opens nothing here"), "{run:?}");
    kist.use_key(&new);
    kist.backup(&source);
    kist.use_key(&owner);
    let run = kist.fine(&["key", "rotate", "--owner"], &[]);
    assert!(run.out.contains("sealed 2 slots again"), "{run:?}");
    kist.use_key(&new);
    let snapshot = kist.backup(&source);
    kist.use_key(&owner);
    kist.restores(&snapshot, &source);
    kist.fine(&["key", "remove", "shop"], &[]);
    let run = kist.ends(2, &["key", "remove", "shop"], &[]);
    assert!(run.err.contains("there is no key with the name or id \"shop\""), "{run:?}");
    let run = kist.ends(2, &["key", "remove", "owner"], &[]);
    assert!(run.err.contains("is the only slot that opens for the owner"), "{run:?}");
    kist.use_key(&new);
    kist.ends(5, &["backup", "files"], &[&source]);
}

#[test]
fn the_owner_s_passphrase_is_changed_by_adding_one_and_removing_the_other() {
    let mut kist = Kist::without_repository();
    kist.use_passphrase(PASSPHRASE);
    kist.fine(&["init"], &[]);
    let new = kist.path("new-passphrase");
    let text = "another passphrase that nobody may see";
    fs::write(&new, text).unwrap();
    let add = ["key", "add", "--role", "owner", "--name", "new", "--new-passphrase-file"];
    kist.fine(&add, &[&new]);
    let writer = ["key", "add", "--role", "writer", "--name", "x", "--new-passphrase-file"];
    kist.ends(2, &writer, &[&new]);
    let run = kist.ends(2, &["key", "rotate", "new", "--out", "/nowhere.key"], &[]);
    assert!(run.err.contains("a passphrase of the owner's"), "{run:?}");
    kist.use_passphrase(text);
    kist.fine(&["key", "remove", "owner"], &[]);
    assert_eq!(list(&kist), [("owner".to_owned(), "new".to_owned())]);
    kist.use_passphrase(PASSPHRASE);
    kist.ends(5, &["snapshots"], &[]);
}

#[test]
fn a_recovery_page_that_was_typed_back_opens_everything_and_a_mistake_is_named_by_its_line() {
    let mut kist = Kist::new();
    let source = kist.path("source");
    grow(&source, 1);
    let snapshot = kist.backup(&source);
    let page = kist.path("page.txt");
    kist.fine(&["key", "recovery", "--out"], &[&page]);
    kist.ends(2, &["key", "recovery", "--out"], &[&page]);
    let run = kist.ends(2, &["key", "recovery", "--out"], &[&kist.path("page-2.txt")]);
    assert!(run.err.contains("a key with the name \"recovery\" already"), "{run:?}");
    assert_eq!(fs::metadata(&page).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&page).unwrap();
    let lines: Vec<&str> =
        text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).collect();
    assert_eq!(lines.len(), 8, "{text}");
    assert!(text.lines().all(|line| line.len() <= 80), "it is to fit a page");
    let said = [
        "owner",
        "kist key recover --from FILE --out owner.key",
        "KIST_KEY_FILE",
        kist.repo.to_str().unwrap(),
    ];
    assert!(said.iter().all(|said| text.contains(said)), "{text}");

    // The whole page in small letters; and only the lines, without spaces, from the standard input.
    let (typed, key) = (kist.path("typed"), kist.path("recovered.key"));
    let recover = ["key", "recover", "--from", typed.to_str().unwrap(), "--out"];
    fs::write(&typed, text.to_lowercase().replace('0', "O")).unwrap();
    kist.fine(&recover, &[&key]);
    kist.ends(2, &recover, &[&key]);
    let from_stdin = kist.path("from-stdin.key");
    let squeezed: String =
        lines.iter().map(|line| format!("{}.{}\n", &line[..1], line[1..].replace(' ', ""))).collect();
    fs::write(&typed, &squeezed).unwrap();
    let mut command = kist.command(&["key", "recover", "--from", "-", "--out"], &[&from_stdin]);
    let run = kist.run(command.stdin(Stdio::from(fs::File::open(&typed).unwrap())));
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(fs::read(&from_stdin).unwrap(), fs::read(&key).unwrap());

    for (at, line) in lines.iter().enumerate() {
        let last = if line.ends_with('7') { "8" } else { "7" };
        let wrong = format!("{}{last}", &line[..line.len() - 1]);
        fs::write(&typed, text.replace(line, &wrong)).unwrap();
        let run = kist.ends(2, &recover, &[&kist.path("never.key")]);
        assert!(run.err.contains(&format!("line {} is mistyped", at + 1)), "{run:?}");
        let signs = wrong[1..].split_whitespace();
        assert!(signs.into_iter().all(|group| !run.err.contains(group)), "a secret is shown: {run:?}");
        fs::write(&typed, text.replace(&format!("{line}\n"), "")).unwrap();
        let run = kist.ends(2, &recover, &[&kist.path("never.key")]);
        assert!(run.err.contains(&format!("line {} is missing", at + 1)), "{run:?}");
    }
    assert!(!kist.path("never.key").exists());

    // All other keys are lost: the page brings everything back, and makes new ones.
    fs::remove_file(kist.path("owner.key")).unwrap();
    kist.use_key(&key);
    kist.restores(&snapshot, &source);
    kist.fine(&["key", "remove", "owner"], &[]);
    add(&mut kist, "owner", "new", &[]);
    kist.use_key(&kist.path("new.key"));
    kist.fine(&["key", "remove", "recovery"], &[]);
    kist.use_key(&key);
    kist.ends(5, &["snapshots"], &[]);
}

#[test]
fn what_lies_among_the_slots_and_opens_for_nobody_is_shown_with_its_own_code() {
    let kist = Kist::new();
    let junk = "00112233445566778899aabbccddeeff";
    fs::write(kist.repo.join("keys").join(junk), "junk").unwrap();
    let run = kist.ends(4, &["key", "list"], &[]);
    assert!(run.out.contains(junk) && run.out.contains("owner"), "{run:?}");
    let run = kist.ends(4, &["key", "rotate", "--owner"], &[]);
    assert!(run.err.contains("nothing was changed") && run.err.contains(junk), "{run:?}");
    kist.fine(&["key", "remove", &junk[..8]], &[]);
    kist.fine(&["key", "rotate", "--owner"], &[]);
}
