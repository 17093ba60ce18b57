//! Runs that may take only a part of the machine: limits, threads, priority.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::kist::{Kist, noise};

const MIB: usize = 1024 * 1024;
const DEADLINE: Duration = Duration::from_secs(30);
const LOOK_RETRY: Duration = Duration::from_millis(2);
/// The lowest priority, as the kernel counts it.
const LOWEST: &str = "19";

fn much(kist: &Kist, bytes: usize) -> std::path::PathBuf {
    let source = kist.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("noise"), noise(bytes, 1)).unwrap();
    source
}

#[test]
fn a_backup_reads_and_uploads_no_more_in_a_second_than_it_may() {
    for limit in ["--limit-read=2M", "--limit-upload=2M"] {
        let kist = Kist::new();
        let source = much(&kist, 8 * MIB);
        let start = Instant::now();
        kist.fine(&["--no-catalog", limit, "backup", "files"], &[&source]);
        // The last part, of a quarter of a second or one pack, is had at once.
        assert!(start.elapsed() > Duration::from_millis(1900), "{limit}: {:?}", start.elapsed());
        kist.restores("latest", &source);
    }
}

#[test]
fn a_run_of_low_priority_gives_way_with_all_its_threads() {
    let kist = Kist::new();
    let source = much(&kist, 8 * MIB);
    let args = ["--priority=low", "--threads=1", "--limit-read=4M", "backup", "files"];
    let mut child =
        kist.command(&args, &[&source]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let tasks = format!("/proc/{}/task", child.id());
    let nice_of = |task: &fs::DirEntry| {
        // Behind the name, which is in brackets, nice is the 17th field.
        let stat = fs::read_to_string(task.path().join("stat")).ok()?;
        stat.rsplit(')').next()?.split_whitespace().nth(16).map(str::to_owned)
    };
    let start = Instant::now();
    loop {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before its threads were seen");
        assert!(start.elapsed() < DEADLINE, "no threads were started");
        let tasks: Vec<_> = fs::read_dir(&tasks).unwrap().flatten().collect();
        let nice: Vec<_> = tasks.iter().filter_map(nice_of).collect();
        if nice.len() > 4 {
            assert!(nice.iter().all(|nice| nice == LOWEST), "{nice:?}");
            break;
        }
        std::thread::sleep(LOOK_RETRY);
    }
    let run = kist.ended(child.wait_with_output().unwrap());
    assert_eq!(run.code, 0, "{run:?}");
    kist.restores("latest", &source);
}

#[test]
fn a_limit_of_nothing_is_a_usage_error() {
    let kist = Kist::new();
    let source = much(&kist, 1);
    for wrong in ["--limit-read=0", "--limit-upload=fast", "--threads=0", "--priority=high"] {
        kist.ends(2, &[wrong, "backup", "files"], &[&source]);
    }
}
