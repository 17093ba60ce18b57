//! The command line: arguments in, text or JSON out, an exit code at the end.
//!
//! [`args`] parses, [`settings`] validates and is the only place that reads the environment,
//! a thin file a verb calls `job` or `repo`, [`render`] shows, [`exit`] turns errors into codes.

#![allow(clippy::disallowed_methods, clippy::exit, reason = "the one place that touches the outside")]

mod args;
mod backup;
mod catalog;
mod check;
mod cluster;
mod copy;
mod exit;
mod forget;
mod hold;
mod init;
mod install;
mod keep;
mod key;
mod ls;
mod memory;
mod mover;
mod pace;
mod prune;
mod render;
mod repair;
mod restore;
mod seen;
mod settings;
mod snapshots;
mod terminal;
mod verdict;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::args::{Args, BackupWhat, CatalogWhat, MoverWhat, RestoreWhat, Verb};
use crate::cli::exit::{Exit, Failure};
use crate::cli::settings::Settings;

/// Runs one command and gives its exit code.
pub fn run() -> ExitCode {
    memory::bound();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return match error.use_stderr() {
                true => Exit::Usage.into(),
                false => Exit::Complete.into(),
            };
        }
    };
    let json = args.json;
    match execute(args) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            render::failure(&failure, json);
            failure.exit.into()
        }
    }
}

fn execute(args: Args) -> Result<Exit, Failure> {
    pace::apply(&args.pace)?;
    terminal::start_tracing(args.verbose);
    let settings = Settings::new(&args)?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = args.pace.threads {
        builder.worker_threads(threads.get());
    }
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| Failure::other(format!("the runtime can't be started: {error}")))?;
    let exit = runtime.block_on(async {
        match args.verb {
            Verb::Init(init) => init::run(&settings, init).await,
            Verb::Backup { what: BackupWhat::Files(files) } => backup::files(&settings, files).await,
            Verb::Backup { what: BackupWhat::Cluster(args) } => cluster::backup(&settings, args).await,
            Verb::Restore { what: RestoreWhat::Files(files) } => restore::files(&settings, files).await,
            Verb::Restore { what: RestoreWhat::Cluster(args) } => cluster::restore(&settings, args).await,
            Verb::Snapshots(snapshots) => snapshots::run(&settings, snapshots).await,
            Verb::Ls(ls) => ls::run(&settings, ls).await,
            Verb::Forget(args) => forget::run(&settings, *args).await,
            Verb::Recall(args) => forget::recall(&settings, args).await,
            Verb::Hold { what } => hold::run(&settings, what).await,
            Verb::Prune(args) => prune::run(&settings, args).await,
            Verb::Check(check) => check::run(&settings, check).await,
            Verb::Repair(args) => repair::run(&settings, *args).await,
            Verb::Copy(args) => copy::run(&settings, args).await,
            Verb::Key { what } => key::run(&settings, what).await,
            Verb::Catalog { what: CatalogWhat::Rebuild } => catalog::rebuild(&settings).await,
            Verb::Install(args) => install::run(&settings, *args).await,
            Verb::Mover { what: MoverWhat::Wait } => mover::wait().await,
            Verb::Mover { what: MoverWhat::Run } => mover::run(&settings).await,
        }
    });
    settings.remember();
    // Whatever still runs on the runtime's threads is of no use any more.
    runtime.shutdown_background();
    exit
}
