//! The `lab` command: real clusters for use by hand.
//!
//! `up NAME` leaves a cluster and an S3 server running and prints where they are; `down
//! NAME` takes both down; `list` shows what is up, and of whom; `sweep` removes what killed
//! runs left behind. What is up belongs to a process of its own, `serve NAME`, which also
//! provisions the volumes: ending it, in whatever way, ends everything.

#[allow(dead_code, reason = "the tests use parts of the harness that this command does not")]
mod cluster;

use std::fs::{self, File, TryLockError};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::error::{Error, Result};
use crate::cluster::objectstore::ObjectStore;
use crate::cluster::{Cluster, Spec, image, postgres, slot, tools};

const USAGE: &str = "usage: lab up NAME | down NAME | list | sweep";
/// One lock for each name, held by its `serve`.
const LOCKS: &str = "/run/kist-lab";
const BUCKET: &str = "kist";

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let outcome = match args[..] {
        ["up", name] => up(name),
        ["serve", name] => serve(name),
        ["down", name] => down(name),
        ["list"] => list(),
        ["sweep"] => slot::sweep().map(|count| println!("{count} slots swept")),
        _ => Err(Error::Other(USAGE.into())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.chain());
            ExitCode::FAILURE
        }
    }
}

/// Starts `serve` in a session of its own and waits until it says that all is up.
fn up(name: &str) -> Result<()> {
    check_name(name)?;
    tools::require_cluster()?;
    tools::require_store()?;
    if try_lock(name)?.is_none() {
        return Err(Error::Other(format!("{name} is up already")));
    }
    let log = tools::cache().join("logs").join(format!("lab-{name}.log"));
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).map_err(Error::io("make the folder", folder))?;
    }
    let log_file = File::create(&log).map_err(Error::io("create", &log))?;
    let this = std::env::current_exe().map_err(Error::io("find", "lab".as_ref()))?;
    let mut child = Command::new("setsid")
        .arg(this)
        .args(["serve", name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log_file)
        .spawn()
        .map_err(Error::io("start", "setsid".as_ref()))?;
    let mut said = String::new();
    let stdout = child.stdout.take().expect("stdout is piped");
    for line in BufReader::new(stdout).lines() {
        let line = line.map_err(Error::io("read from", "lab serve".as_ref()))?;
        if line.is_empty() {
            print!("{said}");
            return Ok(());
        }
        said = said + &line + "\n";
    }
    let reason = fs::read_to_string(&log).unwrap_or_default();
    Err(Error::Other(format!("{name} did not come up: {reason}")))
}

/// Owns a cluster and an S3 server until a signal ends it.
fn serve(name: &str) -> Result<()> {
    check_name(name)?;
    let Some(mut lock) = try_lock(name)? else {
        return Err(Error::Other(format!("{name} is up already")));
    };
    write!(lock, "{}", std::process::id()).map_err(Error::io("write", &lock_path(name)))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(Error::io("start", "the runtime".as_ref()))?;
    runtime.block_on(async {
        let mut spec = Spec::new(name).image(image::busybox()?).image(postgres::postgres()?);
        let program = tools::kist_beside();
        if let Some(program) = &program {
            spec = spec.image(image::kist(program)?);
        }
        let store_name = format!("{name}-s3");
        let (cluster, store) =
            futures::try_join!(Cluster::start(spec), ObjectStore::start(&store_name, BUCKET))?;
        println!("export KUBECONFIG={}", cluster.kubeconfig().display());
        println!("# node {} at {}", cluster.node_name(), cluster.node_ip());
        println!("# logs, volumes: {}", cluster.dir().display());
        println!("# images: {} {}", image::BUSYBOX_IMAGE, postgres::POSTGRES_IMAGE);
        let kist = program.map_or("no kist: run make build, then down and up", |_| image::KIST_IMAGE);
        println!("# image for movers: {kist}");
        println!("# S3 and its credentials:");
        println!(". {}", store.env_file().display());
        println!(); // the sign for `up`, which then ends
        // The signal handler takes all down and ends the process; a daemon's end does so here.
        cluster.while_alive(std::future::pending::<Result<()>>()).await
    })
}

/// Ends the owner, waits until it is gone, and removes what it could not.
fn down(name: &str) -> Result<()> {
    check_name(name)?;
    if try_lock(name)?.is_none() {
        let path = lock_path(name);
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        // The lock is held, so this is the living owner's id and no other's.
        let pid = text.parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Error::Other(format!("{name} is just coming up")))?;
        kill_process(pid, Signal::TERM).map_err(|error| Error::io("end", &path)(error.into()))?;
        let lock = File::open(&path).map_err(Error::io("open the lock", &path))?;
        lock.lock().map_err(Error::io("wait for the lock", &path))?;
    }
    slot::sweep()?;
    let path = lock_path(name);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &path)(error)),
        _ => Ok(()),
    }
}

fn list() -> Result<()> {
    for seen in slot::list()? {
        let state = if seen.alive { "up" } else { "left by a killed run" };
        println!("{}\t{}\towner {}\t{state}", seen.index, seen.name, seen.owner_pid);
    }
    Ok(())
}

/// A name becomes part of a node's name.
fn check_name(name: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 40 || !name.bytes().all(fits) || name.starts_with('-') {
        return Err(Error::Other(format!("{name:?} is no name: a-z, 0-9, - (40 at most)")));
    }
    Ok(())
}

fn lock_path(name: &str) -> PathBuf {
    Path::new(LOCKS).join(format!("lab-{name}.lock"))
}

fn try_lock(name: &str) -> Result<Option<File>> {
    fs::create_dir_all(LOCKS).map_err(Error::io("make the folder", LOCKS.as_ref()))?;
    let path = lock_path(name);
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false);
    let file = options.open(&path).map_err(Error::io("open the lock", &path))?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).map_err(Error::io("empty", &path))?;
            Ok(Some(file))
        }
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
    }
}
