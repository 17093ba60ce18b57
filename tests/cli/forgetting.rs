//! `kist forget`, `recall`, `hold` and `prune`: what they say of what they do, and what they refuse.

use std::fs;

use serde_json::Value;

use crate::kist::{Kist, Run, grow, noise};

/// Three snapshots of a folder that is wholly new each time, oldest first.
fn three(kist: &Kist) -> Vec<String> {
    let source = kist.path("source");
    let backup = |seed| {
        grow(&source, seed);
        kist.backup(&source)
    };
    (1..4).map(backup).collect()
}

/// The line of the text that speaks of a snapshot.
fn line<'a>(run: &'a Run, name: &str) -> &'a str {
    let mut lines = run.out.lines().filter(|line| line.contains(&name[..8]));
    let line = lines.next().unwrap_or_else(|| panic!("{name}: {run:?}"));
    assert_eq!(lines.next(), None, "{run:?}");
    line
}

/// What the objects say of a snapshot: whether it is kept, and why.
fn decision(objects: &[Value], name: &str) -> (bool, String) {
    let one = objects.iter().find(|one| one["snapshot"] == name).unwrap();
    (one["keep"].as_bool().unwrap(), one["why"].as_str().unwrap().to_owned())
}

#[test]
fn a_forget_says_of_each_snapshot_why_it_stays_or_that_nothing_keeps_it() {
    let kist = Kist::new();
    let names = three(&kist);
    kist.fine(&["hold", "add", &names[0], "--note", "an auditor"], &[]);
    let expected = [
        (true, "held: an auditor"),
        (false, "nothing keeps it"),
        (true, "last 1 of 1, yearly 1 of 9, complete 1 of 1"),
    ];
    let flags = ["forget", "--keep-last", "1", "--keep-yearly", "9"];
    let dry = kist.fine(&[&flags[..], &["--dry-run"]].concat(), &[]);
    let objects = kist.json(0, &[&flags[..], &["--dry-run"]].concat(), &[]);
    for (name, (keep, why)) in names.iter().zip(expected) {
        let line = line(&dry, name);
        assert!(line.starts_with(if keep { "keep " } else { "forget " }), "{line}");
        // The oldest of them is held, and the rule for years has room for it too.
        assert!(line.ends_with(why) && line.contains(&kist.path("source").display().to_string()), "{line}");
        assert_eq!(decision(&objects, name), (keep, why.to_owned()));
    }
    assert!(dry.out.ends_with("2 kept, 1 would be forgotten\n"), "{dry:?}");
    assert_eq!(objects.last().unwrap()["forgotten"], 1);
    assert_eq!(kist.json(0, &["snapshots"], &[]).len(), 3, "nothing was changed");
    let run = kist.fine(&flags, &[]);
    for name in &names {
        assert_eq!(line(&run, name), line(&dry, name), "as the dry run has said");
    }
    assert!(run.out.contains("2 kept, 1 forgotten\n") && run.out.contains("kist recall"), "{run:?}");
    assert_eq!(kist.json(0, &["snapshots"], &[]).len(), 2);
}

#[test]
fn what_was_forgotten_is_back_after_a_recall() {
    let kist = Kist::new();
    let names = three(&kist);
    kist.fine(&["forget", &names[1]], &[]);
    assert_eq!(kist.json(0, &["snapshots"], &[]).len(), 2);
    kist.ends(2, &["recall", &names[0]], &[]);
    let run = kist.fine(&["recall", &names[1][..10]], &[]);
    assert_eq!(run.out, format!("{} is back\n", &names[1][..8]));
    let listed = kist.json(0, &["snapshots"], &[]);
    let listed: Vec<&str> = listed.iter().map(|one| one["snapshot"].as_str().unwrap()).collect();
    assert_eq!(listed, names);
}

#[test]
fn holds_are_listed_with_their_notes_until_they_are_lifted() {
    let kist = Kist::new();
    let names = three(&kist);
    let source = kist.json(0, &["snapshots"], &[])[0]["sourceId"].as_str().unwrap().to_owned();
    kist.fine(&["hold", "add", &names[0], "--note", "an auditor"], &[]);
    kist.fine(&["hold", "add", "--source", &source[..6], "--note", "a migration"], &[]);
    kist.fine(&["hold", "add", "--everything", "--note", "a lawsuit"], &[]);
    let listed = kist.json(0, &["hold", "list"], &[]);
    let of = |note: &str| listed.iter().find(|hold| hold["note"] == note).unwrap();
    let scopes = ["an auditor", "a migration", "a lawsuit"].map(|note| of(note)["scope"].as_str().unwrap());
    let expected = [format!("snapshot {}", &names[0][..8]), format!("source {}", &source[..8])];
    assert_eq!(scopes, [&expected[0], &expected[1], "everything"]);
    let text = kist.fine(&["hold", "list"], &[]).out;
    for hold in &listed {
        let (id, scope) = (&hold["id"].as_str().unwrap()[..8], hold["scope"].as_str().unwrap());
        assert!(text.contains(&format!("{id}  {scope}: {}\n", hold["note"].as_str().unwrap())), "{text}");
    }
    let refused = kist.ends(1, &["forget", &names[2]], &[]);
    assert!(refused.err.contains("a migration") || refused.err.contains("a lawsuit"), "{refused:?}");
    let lifted: Vec<&str> = listed.iter().map(|hold| hold["id"].as_str().unwrap()).collect();
    kist.fine(&[&["hold", "lift"], &lifted[..]].concat(), &[]);
    assert_eq!(kist.fine(&["hold", "list"], &[]).out, "");
    kist.fine(&["forget", &names[2]], &[]);
}

#[test]
fn a_source_that_fits_none_or_several_is_refused_by_forget_as_by_hold() {
    let kist = Kist::new();
    let (a, b) = (kist.path("a"), kist.path("b"));
    grow(&a, 1);
    grow(&b, 2);
    let (a, _, b) = (kist.backup(&a), kist.backup(&b), kist.backup(&b));
    let listed = kist.json(0, &["snapshots"], &[]);
    let source_of = |name: &str| {
        let one = listed.iter().find(|one| one["snapshot"] == name).unwrap();
        one["sourceId"].as_str().unwrap().to_owned()
    };
    for (wanted, says) in [("xyz", "no source fits"), ("", "fits several sources")] {
        for verb in [&["forget", "--keep-last", "1"][..], &["hold", "add", "--note", "a note"]] {
            let run = kist.ends(2, &[verb, &["--source", wanted]].concat(), &[]);
            assert!(run.err.contains(says), "{run:?}");
            let has_both = [&a, &b].iter().all(|name| run.err.contains(&source_of(name)));
            assert_eq!(has_both, wanted.is_empty(), "{run:?}");
        }
    }
    assert_eq!(kist.json(0, &["snapshots"], &[]).len(), 3);
    let run = kist.fine(&["forget", "--keep-last", "1", "--source", &source_of(&b)], &[]);
    assert!(run.out.contains("1 kept, 1 forgotten") && !run.out.contains(&a[..8]), "{run:?}");
}

#[test]
fn a_dry_prune_says_what_comes_free_and_the_prune_does_it() {
    let kist = Kist::new();
    let source = kist.path("source");
    fs::create_dir(&source).unwrap();
    // All that the first has uploaded goes, and most of what the second has: the rest of that lies in several packs, and
    // is rewritten.
    let path = |name: &str, number: u64| source.join(format!("{name} {number}"));
    fs::write(path("goes", 0), noise(1_000_000, 1)).unwrap();
    let first = kist.backup(&source);
    (0..40).for_each(|number| fs::write(path("goes", number), noise(200_000, 100 + number)).unwrap());
    (0..8).for_each(|number| fs::write(path("stays", number), noise(200_000, 200 + number)).unwrap());
    let second = kist.backup(&source);
    (0..40).for_each(|number| fs::remove_file(path("goes", number)).unwrap());
    kist.backup(&source);
    let plan = |objects: Vec<Value>| objects.into_iter().find(|one| one["type"] == "prune-plan").unwrap();
    let number = |plan: &Value, field: &str| plan[field].as_u64().unwrap();
    let before = plan(kist.json(0, &["prune", "--dry-run"], &[]));
    assert_eq!(number(&before, "unusedPacks") + number(&before, "repackPacks"), 0, "{before}");
    kist.fine(&["forget", &first, &second], &[]);
    let dry = plan(kist.json(0, &["prune", "--dry-run"], &[]));
    let (freed, repacked) = (number(&dry, "freedBytes"), number(&dry, "repackPacks"));
    assert!((8_900_000..9_900_000).contains(&freed), "{dry}");
    assert!(repacked >= 1 && number(&dry, "unusedPacks") >= 1, "{dry}");
    assert!(number(&dry, "totalBytes") - number(&dry, "usedBytes") >= freed / 2, "{dry}");
    let text = kist.fine(&["prune", "--dry-run"], &[]).out;
    let expected = [
        "come free:".to_owned(),
        format!("  {} packs of ", number(&dry, "unusedPacks")),
        format!("  {repacked} packs of "),
        "are rewritten to ".to_owned(),
    ];
    assert!(expected.iter().all(|part| text.contains(part)), "{text}");
    let size = || {
        let packs = crate::compare::paths(&kist.repo.join("packs"));
        let packs = packs.iter().map(|path| fs::metadata(kist.repo.join("packs").join(path)).unwrap());
        packs.filter(fs::Metadata::is_file).map(|pack| pack.len()).sum::<u64>()
    };
    let had = size();
    let pruned = kist.json(0, &["prune"], &[]);
    assert_eq!(plan(pruned.clone()), dry, "as the dry run has said");
    let swept = number(pruned.last().unwrap(), "sweptPacks");
    assert_eq!(swept, repacked + number(&dry, "unusedPacks"), "{pruned:?}");
    let came_free = had - size();
    assert!(came_free.abs_diff(freed) < 500_000, "{came_free} and {freed}");
    kist.restores("latest", &source);
}
