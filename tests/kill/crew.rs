//! Who works on the bucket: writers with folders that change, a keeper who forgets, a pruner, a checker.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Kist, Run};
use crate::versitygw::{ACCESS_KEY, SECRET_KEY, Versitygw};

const WRITERS: u64 = 3;
/// Snapshots that the keeper leaves.
const KEPT: usize = 6;
const BETWEEN_RETRY: Duration = Duration::from_millis(200);

/// What a backup has said, and the copy of what it had read.
struct Told {
    kept: PathBuf,
    /// Somebody has begun to forget it: it may be there or not.
    is_going: bool,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub told: u64,
    pub killed: u64,
    pub gave_up: u64,
    pub pruned: u64,
    pub forgotten: u64,
    pub checked: u64,
    pub restored: u64,
}

#[derive(Default)]
struct Counts {
    killed: AtomicU64,
    gave_up: AtomicU64,
    pruned: AtomicU64,
    forgotten: AtomicU64,
    checked: AtomicU64,
}

pub struct Crew {
    seed: u64,
    dir: TempDir,
    server: Versitygw,
    told: Mutex<BTreeMap<String, Told>>,
    stop: AtomicBool,
    counts: Counts,
}

/// Numbers from a seed, a counter and a name.
struct Draw {
    seed: u64,
    name: String,
    count: u64,
}

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.count += 1;
        let from = format!("{} {} {}", self.seed, self.name, self.count);
        let number = blake3::hash(from.as_bytes());
        u64::from_le_bytes(number.as_bytes()[..8].try_into().unwrap()) % end
    }

    /// When a run is killed, if it is: early ones more often than late ones.
    fn end(&mut self, longest: Duration) -> Option<Duration> {
        let most = longest.as_millis() as u64;
        let most = 1 + self.below(most);
        (self.below(100) < 60).then(|| Duration::from_millis(self.below(most)))
    }
}

/// Says that all are to stop, also when a test panics.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Crew {
    pub fn new(seed: u64) -> Self {
        let (dir, server) = (tempfile::tempdir().unwrap(), Versitygw::start());
        server.bucket("kill");
        let (told, stop, counts) = (Mutex::default(), AtomicBool::new(false), Counts::default());
        let crew = Self { seed, dir, server, told, stop, counts };
        let owner = crew.kist("owner");
        let made = owner.run_without_key(&["init", "--new-key-file"], &[&owner.key]);
        assert_eq!(made.code, Some(0), "{made:?}");
        for writer in 0..WRITERS {
            let (name, key) = (format!("w{writer}"), crew.path(&format!("w{writer}.key")));
            let trust = if writer == 0 { "own" } else { "shared" };
            owner.fine(
                &["key", "add", "--role", "writer", "--trust", trust, "--name", &name, "--out"],
                &[&key],
            );
        }
        owner.fine(&["key", "add", "--role", "maintainer", "--name", "m", "--out"], &[&crew.path("m.key")]);
        crew
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn kist(&self, key: &str) -> Kist {
        let home = tempfile::tempdir_in(self.dir.path()).unwrap();
        let (repo, key) = (self.server.url("kill/repo"), self.path(&format!("{key}.key")));
        Kist { repo, key, home, access: (ACCESS_KEY, SECRET_KEY) }
    }

    fn draw(&self, name: &str) -> Draw {
        Draw { seed: self.seed, name: name.into(), count: 0 }
    }

    /// All work until the time is over.
    pub fn work(&self, time: Duration) {
        let deadline = Instant::now() + time;
        let until = |work: &mut dyn FnMut()| {
            let _stops = Stops(&self.stop);
            while Instant::now() < deadline && !self.stop.load(Ordering::SeqCst) {
                work();
            }
        };
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                scope.spawn(move || {
                    let (kist, mut draw) =
                        (self.kist(&format!("w{writer}")), self.draw(&format!("w{writer}")));
                    let mut round = 0;
                    until(&mut || {
                        round += 1;
                        self.back_up(&kist, &mut draw, writer, round);
                    });
                });
            }
            scope.spawn(|| {
                let (kist, mut draw) = (self.kist("m"), self.draw("pruner"));
                until(&mut || self.prune(&kist, &mut draw));
            });
            scope.spawn(|| {
                let (kist, mut draw) = (self.kist("m"), self.draw("keeper"));
                until(&mut || self.forget(&kist, &mut draw));
            });
            scope.spawn(|| {
                let (kist, mut draw) = (self.kist("m"), self.draw("checker"));
                until(&mut || self.check(&kist, &mut draw));
            });
        });
    }

    fn count(&self, run: &Run) {
        let counts = &self.counts;
        counts.killed.fetch_add(u64::from(run.is_killed()), Ordering::SeqCst);
        counts.gave_up.fetch_add(u64::from(run.gave_up()), Ordering::SeqCst);
        assert!(run.is_killed() || run.gave_up() || run.code == Some(0), "{run:?}");
    }

    fn back_up(&self, kist: &Kist, draw: &mut Draw, writer: u64, round: u64) {
        let source = self.path(&format!("source-{writer}"));
        change(&source, draw);
        let kept = self.path(&format!("kept-{writer}-{round}"));
        copy(&source, &kept);
        let killed_after = draw.end(Duration::from_secs(3));
        let run = kist.run(&["backup", "files"], &[&source], killed_after);
        self.count(&run);
        match run.code {
            Some(0) => {
                let last: Value = serde_json::from_str(run.out.lines().last().unwrap()).unwrap();
                let snapshot = last["snapshot"].as_str().unwrap().to_owned();
                assert_eq!(last["complete"], true, "{run:?}");
                self.told.lock().unwrap().insert(snapshot, Told { kept, is_going: false });
            }
            _ => fs::remove_dir_all(&kept).unwrap(),
        }
    }

    fn prune(&self, kist: &Kist, draw: &mut Draw) {
        let silence = format!("{}s", [1, 1, 3, 20][draw.below(4) as usize]);
        let killed_after = draw.end(Duration::from_secs(4));
        let run = kist.run(&["prune", "--silence", &silence, "--wait", "2s"], &[], killed_after);
        self.count(&run);
        self.counts.pruned.fetch_add(u64::from(run.code == Some(0)), Ordering::SeqCst);
    }

    fn forget(&self, kist: &Kist, draw: &mut Draw) {
        std::thread::sleep(BETWEEN_RETRY);
        let chosen: Option<String> = {
            let mut told = self.told.lock().unwrap();
            let mut there: Vec<(&String, &mut Told)> =
                told.iter_mut().filter(|(_, told)| !told.is_going).collect();
            let count = there.len();
            (count > KEPT).then(|| {
                let (name, told) = &mut there[draw.below(count as u64) as usize];
                told.is_going = true;
                (*name).clone()
            })
        };
        let Some(snapshot) = chosen else { return };
        let run = kist.run(&["forget", &snapshot], &[], draw.end(Duration::from_secs(2)));
        self.count(&run);
        self.counts.forgotten.fetch_add(u64::from(run.code == Some(0)), Ordering::SeqCst);
    }

    /// Nothing is damaged, whatever others do meanwhile: whatever a check finds is a false alarm.
    fn check(&self, kist: &Kist, draw: &mut Draw) {
        let run = kist.run(&["check"], &[], draw.end(Duration::from_secs(4)));
        self.count(&run);
        self.counts.checked.fetch_add(u64::from(run.code == Some(0)), Ordering::SeqCst);
    }

    /// Nobody is killed any more: one prune, a check, and every snapshot that was told and not forgotten.
    pub fn proves(&self) -> Done {
        let owner = self.kist("owner");
        owner.fine(&["prune", "--silence", "1s", "--wait", "10s"], &[]);
        owner.fine(&["check", "--read-data"], &[]);
        let told = self.told.lock().unwrap();
        let mut restored = 0;
        for (snapshot, told) in told.iter().filter(|(_, told)| !told.is_going) {
            let target = tempfile::tempdir_in(self.dir.path()).unwrap();
            let source = told.kept.file_name().unwrap().to_str().unwrap().split('-').nth(1).unwrap();
            let what = format!("{snapshot}:{}", self.path(&format!("source-{source}")).display());
            owner.fine(&["restore", "files", &what], &[target.path()]);
            let differences = crate::compare::differences(&told.kept, target.path());
            assert!(differences.is_empty(), "{snapshot}: {differences:?}");
            restored += 1;
        }
        let count = |count: &AtomicU64| count.load(Ordering::SeqCst);
        Done {
            told: told.len() as u64,
            killed: count(&self.counts.killed),
            gave_up: count(&self.counts.gave_up),
            pruned: count(&self.counts.pruned),
            forgotten: count(&self.counts.forgotten),
            checked: count(&self.counts.checked),
            restored,
        }
    }
}

/// Files come, change, go and come back, from a pool that all share.
fn change(source: &Path, draw: &mut Draw) {
    fs::create_dir_all(source.join("inner")).unwrap();
    for _ in 0..1 + draw.below(6) {
        let folder = if draw.below(2) == 0 { source.to_owned() } else { source.join("inner") };
        let file = folder.join(format!("file {:02}", draw.below(30)));
        match draw.below(3) {
            0 if file.exists() => fs::remove_file(&file).unwrap(),
            _ => fs::write(&file, noise(draw.below(24))).unwrap(),
        }
    }
}

fn noise(number: u64) -> Vec<u8> {
    let mut out = vec![0; 500 + (number as usize * number as usize * 797) % 400_000];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// With all that a restore brings back.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "cp -a {} {}", from.display(), to.display());
}
