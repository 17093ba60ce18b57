//! Ctrl-C, SIGTERM and SIGHUP: everything that this process brought up is taken down, then
//! the process ends with the exit code that the signal has in a shell.

use std::sync::Once;

use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::slot;

static HANDLED: Once = Once::new();

/// Starts the thread that waits for the signals; once for each process. A thread with a
/// runtime of its own, because the runtime of a test comes and goes.
pub fn handle() {
    HANDLED.call_once(|| {
        // Without the thread a signal ends this process at once: the kernel then ends all
        // daemons, and the next run removes the files.
        let _ = std::thread::Builder::new().name("signals".into()).spawn(wait);
    });
}

fn wait() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return };
    let number = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).ok()?;
        let mut terminate = signal(SignalKind::terminate()).ok()?;
        let mut hangup = signal(SignalKind::hangup()).ok()?;
        tokio::select! {
            _ = interrupt.recv() => Some(2),
            _ = terminate.recv() => Some(15),
            _ = hangup.recv() => Some(1),
        }
    });
    let Some(number) = number else { return };
    eprintln!("signal {number}: taking the clusters down");
    slot::take_down_all();
    std::process::exit(128 + number);
}
