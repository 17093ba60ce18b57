//! Runs that end in the middle: by kill -9, and by Ctrl-C. The next one just runs.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::kist::{Kist, Run, noise};

const MIB: u64 = 1024 * 1024;
/// How much is backed up: enough to be in the middle of it for a while.
const FILES: u64 = 24;
const FILE_BYTES: u64 = 8 * MIB;
const DEADLINE: Duration = Duration::from_secs(90);
/// "Within seconds", on a machine that is busy.
const SECONDS: Duration = Duration::from_secs(10);
const LOOK_RETRY: Duration = Duration::from_millis(2);
/// So that a run takes 24 seconds, on any machine.
const LIMIT: &str = "--limit-read=8M";

fn much(folder: &Path) {
    fs::create_dir(folder).unwrap();
    for number in 0..FILES {
        fs::write(folder.join(format!("file {number:02}")), noise(FILE_BYTES as usize, number)).unwrap();
    }
}

/// How many objects there are in a folder of the repository; what is still being written doesn't count.
fn objects(kist: &Kist, folder: &str) -> usize {
    let is_whole = |path: &std::path::PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.len() > 2 && !name.contains('#')
    };
    let mut folders = vec![kist.repo.join(folder)];
    let mut count = 0;
    while let Some(next) = folders.pop() {
        // A folder may come and go while we look.
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => folders.push(entry.path()),
                false => count += usize::from(is_whole(&entry.path())),
            }
        }
    }
    count
}

fn start(kist: &Kist, source: &Path, limit: &str) -> Child {
    let mut command = kist.command(&["--json", limit, "backup", "files"], &[source]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Waits until the run has put something into a folder of the repository: into `packs` soon, into `index` a delta every
/// ten seconds.
fn wait_for(folder: &str, kist: &Kist, child: &mut Child) {
    let since = Instant::now();
    while objects(kist, folder) == 0 {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before anything was in {folder}");
        assert!(since.elapsed() < DEADLINE, "nothing came into {folder}");
        std::thread::sleep(LOOK_RETRY);
    }
}

/// Starts a run, presses Ctrl-C once it has uploaded something, and sees it end within seconds, with nothing committed.
fn interrupted(kist: &Kist, source: &Path, limit: &str) -> Run {
    let mut child = start(kist, source, limit);
    wait_for("packs", kist, &mut child);
    let pressed = Instant::now();
    send(&child, Signal::INT);
    let run = kist.ended(child.wait_with_output().unwrap());
    assert!(pressed.elapsed() < SECONDS, "{:?}", pressed.elapsed());
    assert_eq!(run.code, 130, "{run:?}");
    assert_eq!(objects(kist, "commits"), 0);
    run
}

/// The next run is complete, restores, and is taken for sound. Gives how many bytes were new to it.
fn goes_on(kist: &Kist, source: &Path) -> u64 {
    let done = kist.json(0, &["backup", "files"], &[source]);
    let counts = &done[0]["counts"];
    assert_eq!((&done[0]["complete"], &counts["bytes"]), (&true.into(), &(FILES * FILE_BYTES).into()));
    kist.restores("latest", source);
    kist.fine(&["check", "--read-data"], &[]);
    assert_eq!(kist.json(0, &["snapshots"], &[]).len(), 1);
    counts["newBytes"].as_u64().unwrap()
}

#[test]
fn after_kill_9_the_next_run_just_runs_and_takes_up_what_was_uploaded() {
    let kist = Kist::new();
    let source = kist.path("source");
    much(&source);
    let mut child = start(&kist, &source, LIMIT);
    wait_for("packs", &kist, &mut child);
    wait_for("index", &kist, &mut child);
    child.kill().unwrap();
    let run = kist.ended(child.wait_with_output().unwrap());
    assert_eq!((run.code, run.out.as_str()), (-1, ""), "{run:?}");
    assert_eq!(objects(&kist, "commits"), 0);
    let new = goes_on(&kist, &source);
    assert!(new < FILES * FILE_BYTES - 8 * MIB, "{new} bytes were uploaded again");
}

#[test]
fn ctrl_c_ends_within_seconds_and_the_next_run_takes_up_what_was_uploaded() {
    let kist = Kist::new();
    let source = kist.path("source");
    much(&source);
    let run = interrupted(&kist, &source, LIMIT);
    let told = run.objects();
    assert_eq!((&told[0]["type"], &told[0]["exitCode"]), (&"error".into(), &130.into()), "{run:?}");
    // Only a machine that is too slow to put things away in three seconds leaves no delta.
    let is_put_away = objects(&kist, "index") > 0;
    let new = goes_on(&kist, &source);
    assert!(!is_put_away || new < FILES * FILE_BYTES - 8 * MIB, "{new} bytes were uploaded again");
}

#[test]
fn ctrl_c_ends_within_seconds_though_uploads_wait_for_their_limit() {
    let kist = Kist::new();
    let source = kist.path("source");
    much(&source);
    interrupted(&kist, &source, "--limit-upload=512K");
}
