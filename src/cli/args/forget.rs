//! The arguments of `kist forget`, `recall`, `hold` and `prune`.

use clap::{Args as ClapArgs, Subcommand};

use crate::cli::keep::KeepArgs;

#[derive(ClapArgs)]
pub struct Forget {
    /// Forget these snapshots, by the beginnings of their names, instead of deciding by what to keep
    #[arg(value_name = "SNAP")]
    pub snapshots: Vec<String>,
    /// Decide only about the source whose id begins like this
    #[arg(long, value_name = "ID", conflicts_with = "snapshots")]
    pub source: Option<String>,
    /// Show what would be forgotten and why the rest stays, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub keep: KeepArgs,
}

#[derive(ClapArgs)]
pub struct Recall {
    /// The beginnings of their names
    #[arg(required = true, value_name = "SNAP")]
    pub snapshots: Vec<String>,
}

#[derive(Subcommand)]
pub enum HoldWhat {
    /// Hold a snapshot, a source, or everything
    Add(HoldAdd),
    /// List the holds
    List,
    /// Lift holds
    Lift {
        /// Ids as `hold list` shows them; of a snapshot that was held when it was made, its name
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

#[derive(ClapArgs)]
pub struct HoldAdd {
    /// Snapshot, by the beginning of its name
    #[arg(value_name = "SNAP", required_unless_present_any = ["source", "everything"])]
    pub snapshot: Option<String>,
    /// Every snapshot, also later ones, of the source whose id begins like this
    #[arg(long, value_name = "ID", conflicts_with = "snapshot")]
    pub source: Option<String>,
    /// Every snapshot of every source
    #[arg(long, conflicts_with_all = ["snapshot", "source"])]
    pub everything: bool,
    /// Why; shown to who would forget it, and readable by maintainers
    #[arg(long, value_name = "TEXT")]
    pub note: String,
}

#[derive(ClapArgs)]
pub struct Prune {
    /// Show what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Rewrite at most so much: 500M, 20G [default: as much as is worth it]
    #[arg(long, value_name = "SIZE")]
    pub max_repack: Option<String>,
    /// Rewrite packs of which less than this is used
    #[arg(long, value_name = "PERCENT", default_value_t = 80, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub min_used: u8,
    /// Fence a backup that has shown no sign of life for so long; if it lives, it goes on by itself
    #[arg(long, value_name = "TIME", default_value = "15m")]
    pub silence: String,
    /// Wait so long for backups that are at work; after that the next prune goes on with this one
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub wait: String,
    /// Keep what was swept so long for restores that have begun before
    #[arg(long, value_name = "TIME")]
    pub grace: Option<String>,
}
