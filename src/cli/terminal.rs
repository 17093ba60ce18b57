//! The terminal: progress bars where there is one, diagnosis on stderr when asked for, Ctrl-C.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::render::bytes;
use crate::progress::{Progress, Unit};

/// Prints `tracing` events to stderr: warnings always, more with -v, as KIST_LOG says above all.
pub fn start_tracing(verbose: u8) {
    let level = match verbose {
        0 => "kist=warn",
        1 => "kist=info",
        _ => "kist=debug",
    };
    let filter = std::env::var("KIST_LOG").unwrap_or_else(|_| level.to_owned());
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time()
        .try_init();
}

/// Shows how far a run is, and stops it on Ctrl-C or SIGTERM.
pub struct Shown {
    bar: ProgressBar,
    entries: AtomicU64,
    bytes: AtomicU64,
    packs: AtomicU64,
    cancelled: AtomicBool,
    asked_to_end: tokio::sync::Notify,
}

impl Shown {
    /// Within a runtime. The first signal asks the run to end, the second one ends it at once.
    pub fn start(quiet: bool) -> Arc<Self> {
        let visible = !quiet && std::io::stderr().is_terminal();
        let target =
            if visible { ProgressDrawTarget::stderr_with_hz(5) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{elapsed_precise}  {msg}") {
            bar.set_style(style);
        }
        let shown = Arc::new(Self {
            bar,
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            packs: AtomicU64::new(0),
            cancelled: AtomicBool::new(false),
            asked_to_end: tokio::sync::Notify::new(),
        });
        tokio::spawn(watch_signals(shown.clone()));
        shown
    }

    /// Ends when the run shall.
    pub async fn cancelled(&self) {
        self.asked_to_end.notified().await;
    }

    /// Prints something without the bar in the way.
    pub fn aside(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    pub fn done(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Shown {
    fn advance(&self, unit: Unit, by: u64) {
        let counter = match unit {
            Unit::Entries => &self.entries,
            Unit::Bytes => &self.bytes,
            Unit::PackBytes => &self.packs,
        };
        let now = counter.fetch_add(by, Ordering::Relaxed) + by;
        if self.bar.is_hidden() || (unit == Unit::Entries && !now.is_multiple_of(256)) {
            return;
        }
        let packs = match self.packs.load(Ordering::Relaxed) {
            0 => String::new(),
            packs => format!("  {} of packs", bytes(packs)),
        };
        let entries = self.entries.load(Ordering::Relaxed);
        let read = bytes(self.bytes.load(Ordering::Relaxed));
        self.bar.set_message(format!("{entries} entries  {read}{packs}"));
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

async fn watch_signals(shown: Arc<Shown>) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    loop {
        tokio::select! {
            pressed = tokio::signal::ctrl_c() => if pressed.is_err() { return },
            _ = terminate.recv() => {}
        }
        if shown.cancelled.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        shown.asked_to_end.notify_one();
        shown.bar.println("ending; once more to end at once");
    }
}
