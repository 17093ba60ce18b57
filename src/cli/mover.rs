//! `kist mover wait` and `kist mover run`: the two processes of a helper pod.

use crate::cli::exit::{Exit, Failure};
use crate::cli::settings::Settings;
use crate::job::mover::{self, Machine};

/// The pod's main process: does nothing until it is told to end.
pub async fn wait() -> Result<Exit, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error: std::io::Error| Failure::other(format!("signals can't be waited for: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(Exit::Complete)
}

/// One task. Standard output is the link; what can't be said there goes to stderr, which the job shows.
pub async fn run(settings: &Settings) -> Result<Exit, Failure> {
    let (input, output) = (tokio::io::stdin(), tokio::io::stdout());
    let scratch = std::env::temp_dir();
    let machine = Machine { world: settings.world.clone(), scratch, limits: settings.limits };
    mover::run(input, output, machine, env!("CARGO_PKG_VERSION")).await?;
    Ok(Exit::Complete)
}
