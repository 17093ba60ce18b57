//! The arguments as they are typed. Nothing is checked here beyond their form.

mod forget;
mod key;
mod repair;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

pub use forget::{Forget, HoldAdd, HoldWhat, Prune, Recall};
pub use key::{KeyAdd, KeyRecover, KeyRecovery, KeyRotate, KeyWhat, Role, Trust};
pub use repair::Repair;

/// Back up and restore Kubernetes clusters and files, sealed, into storage that is not trusted
#[derive(Parser)]
#[command(name = "kist", version, max_term_width = 100)]
pub struct Args {
    /// Repository: a folder, s3://bucket/prefix?endpoint=URL&region=NAME, gs://bucket/prefix, or az://container/prefix?account=NAME
    #[arg(long, short, env = "KIST_REPO", global = true, value_name = "URL")]
    pub repo: Option<String>,
    /// File with the passphrase
    #[arg(long, env = "KIST_PASSPHRASE_FILE", global = true, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// File with a key or a bundle, instead of a passphrase
    #[arg(long, env = "KIST_KEY_FILE", global = true, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Domain to work in: the owner's choice; other keys have theirs [default: the default one]
    #[arg(long, env = "KIST_DOMAIN", global = true, value_name = "NAME")]
    pub domain: Option<String>,
    /// Where the local catalog is kept [default: in the user's cache folder]
    #[arg(long, env = "KIST_CATALOG", global = true, value_name = "FILE")]
    pub catalog: Option<PathBuf>,
    /// Do without the local catalog
    #[arg(long, global = true)]
    pub no_catalog: bool,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,
    /// Print what is going on inside; more with -vv
    #[arg(long, short, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    // Last, for its heading is for all that comes behind.
    #[command(flatten)]
    pub pace: Pace,
    #[command(subcommand)]
    pub verb: Verb,
}

/// How much of the machine a run takes.
#[derive(ClapArgs)]
#[command(next_help_heading = "What it may take")]
pub struct Pace {
    /// Read no more than this a second of what is backed up: 500K, 20M, 1G
    #[arg(long, env = "KIST_LIMIT_READ", global = true, value_name = "SIZE")]
    pub limit_read: Option<String>,
    /// Upload no more than this a second: 500K, 20M, 1G
    #[arg(long, env = "KIST_LIMIT_UPLOAD", global = true, value_name = "SIZE")]
    pub limit_upload: Option<String>,
    /// Threads that compress and encrypt [default: one a core]
    #[arg(long, env = "KIST_THREADS", global = true, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Give way to other processes (low), for CPUs and, by the kernel's rule for nice processes, for disks
    #[arg(long, env = "KIST_PRIORITY", global = true, value_enum, default_value_t = Priority::Normal)]
    pub priority: Priority,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Priority {
    Low,
    Normal,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Make a repository
    Init(Init),
    /// Back up
    Backup {
        #[command(subcommand)]
        what: BackupWhat,
    },
    /// Restore
    Restore {
        #[command(subcommand)]
        what: RestoreWhat,
    },
    /// List the snapshots
    Snapshots(Snapshots),
    /// List what is in a snapshot
    Ls(Ls),
    /// Forget snapshots, by what to keep or by name; their space comes back with the next prune
    Forget(Box<Forget>),
    /// Bring forgotten snapshots back, until a prune has swept them
    Recall(Recall),
    /// Keep snapshots from being forgotten, whatever else is said
    Hold {
        #[command(subcommand)]
        what: HoldWhat,
    },
    /// Give back the space of what is forgotten; backups may go on meanwhile
    Prune(Prune),
    /// Check the repository, and list everything that is wrong with it
    Check(Check),
    /// Repair what a check finds: bring back what can be, from here, from a copy, from the next backup
    Repair(Box<Repair>),
    /// Copy snapshots into this repository from another one, with this one's keys
    Copy(Copy),
    /// Manage keys
    Key {
        #[command(subcommand)]
        what: KeyWhat,
    },
    /// Manage the local catalog
    Catalog {
        #[command(subcommand)]
        what: CatalogWhat,
    },
    /// Put a backup on a schedule into a cluster, with the least rights that it needs
    Install(Box<Install>),
    /// Work inside a helper pod; started by a backup or restore, not by people
    #[command(hide = true)]
    Mover {
        #[command(subcommand)]
        what: MoverWhat,
    },
}

#[derive(Subcommand)]
pub enum MoverWhat {
    /// Wait until the pod is deleted
    Wait,
    /// Carry out one task, given over the standard input
    Run,
}

#[derive(ClapArgs)]
pub struct Init {
    /// Make the owner's key a file instead of a passphrase; it must not exist yet
    #[arg(long, value_name = "FILE")]
    pub new_key_file: Option<PathBuf>,
    /// Accept a store that can't create exclusively: one writer only, ever
    #[arg(long)]
    pub single_writer: bool,
    /// Cut and name as this repository does, so that what is copied from it and what is backed up directly are
    /// stored once; needs its owner. What reaches its store is as with `kist copy`
    #[arg(long, value_name = "URL")]
    pub like: Option<String>,
    /// File with its owner's passphrase
    #[arg(long, value_name = "FILE", requires = "like")]
    pub like_passphrase_file: Option<PathBuf>,
    /// File with its owner's key
    #[arg(long, value_name = "FILE", requires = "like")]
    pub like_key_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum BackupWhat {
    /// Back up files and folders
    Files(BackupFiles),
    /// Back up a cluster: manifests, and the data of volumes
    Cluster(BackupCluster),
}

/// Which cluster, and how its volumes are reached.
#[derive(ClapArgs)]
pub struct Cluster {
    /// Kubeconfig [default: KUBECONFIG, ~/.kube/config, then the service account of the pod we run in]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Image of the helper pods (movers): kist's own, from a registry that the nodes reach
    #[arg(long, visible_alias = "image", env = "KIST_MOVER_IMAGE", value_name = "IMAGE")]
    pub mover_image: Option<String>,
    /// Secret for pulling that image, in each namespace; may be given several times
    #[arg(long, value_name = "NAME")]
    pub mover_pull_secret: Vec<String>,
    /// How long a mover may take until it runs, such as 2m
    #[arg(long, value_name = "TIME", default_value = "2m")]
    pub mover_timeout: String,
    /// Memory that a mover may use, as Kubernetes writes it
    #[arg(long, value_name = "SIZE", default_value = "512Mi")]
    pub mover_memory: String,
    /// Threads that compress and encrypt in a mover that reads; one that restores takes what its node has to spare
    #[arg(long, value_name = "N", default_value = "2")]
    pub mover_threads: NonZeroUsize,
    /// Priority of a mover that reads; one that restores has a normal one
    #[arg(long, value_enum, default_value_t = Priority::Low)]
    pub mover_priority: Priority,
    /// Volumes that are moved at the same time
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub parallel: usize,
}

#[derive(ClapArgs)]
pub struct BackupCluster {
    /// Only this namespace and what it needs; may be given several times [default: everything]
    #[arg(long, short = 'n', value_name = "NAME")]
    pub namespace: Vec<String>,
    /// Label of the snapshot; may be given several times
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// Don't run the hooks that pods have in annotations
    #[arg(long)]
    pub no_hooks: bool,
    /// Wait this long before anything is done, such as 90s: `kist install` spreads the starts of many clusters
    #[arg(long, value_name = "TIME")]
    pub delay: Option<String>,
    #[command(flatten)]
    pub report: Report,
    #[command(flatten)]
    pub cluster: Cluster,
}

/// Where a backup that runs in a pod tells its verdict. Set by `kist install`.
#[derive(ClapArgs)]
pub struct Report {
    /// File for the pod's termination message
    #[arg(long, env = "KIST_TERMINATION_LOG", value_name = "FILE", hide = true)]
    pub termination_log: Option<PathBuf>,
    /// The pod to make an event about
    #[arg(long, env = "KIST_EVENT", value_name = "NAMESPACE/POD/UID", hide = true)]
    pub event: Option<String>,
}

#[derive(ClapArgs)]
pub struct Install {
    /// When to back up, as cron has it: '*/30 * * * *', @daily
    #[arg(long, value_name = "CRON")]
    pub schedule: String,
    /// Time zone of the schedule, such as Europe/Berlin [default: that of the cluster, mostly UTC]
    #[arg(long, value_name = "NAME")]
    pub time_zone: Option<String>,
    /// Namespace that kist itself lives in
    #[arg(long, short = 'n', value_name = "NAME", default_value = "kist-system")]
    pub namespace: String,
    /// Make that namespace too
    #[arg(long)]
    pub create_namespace: bool,
    /// Name of this backup; what is made is called kist-NAME
    #[arg(long, value_name = "NAME", default_value = "backup")]
    pub name: String,
    /// Only this namespace and what it needs; may be given several times [default: everything]
    #[arg(long, value_name = "NAME")]
    pub backup_namespace: Vec<String>,
    /// Label of the snapshots; may be given several times
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// Run the hooks of pods: gives the right to run commands in every pod where backups happen
    #[arg(long)]
    pub hooks: bool,
    /// How late a backup may still start
    #[arg(long, value_name = "TIME", default_value = "10m")]
    pub starting_deadline: String,
    /// How long a backup may take
    #[arg(long, value_name = "TIME", default_value = "6h")]
    pub active_deadline: String,
    /// Jobs that are kept after they succeeded
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub successful_history: u32,
    /// Jobs that are kept after they failed
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub failed_history: u32,
    /// Start on the minute, with all others [default: after a pause that is always the same for this cluster]
    #[arg(long)]
    pub no_jitter: bool,
    /// Don't hold the pods that kist creates to what it needs (for clusters before Kubernetes 1.30)
    #[arg(long)]
    pub no_admission_policy: bool,
    /// Print the objects as YAML, and change nothing; with --no-jitter no cluster is asked
    #[arg(long)]
    pub dry_run: bool,
    /// Print the keys too
    #[arg(long, requires = "dry_run")]
    pub show_secrets: bool,
    #[command(flatten)]
    pub cluster: Cluster,
}

#[derive(ClapArgs)]
pub struct BackupFiles {
    /// What to back up
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Leave out what fits (like a line of .gitignore); may be given several times
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Leave out what fits a line of this file; may be given several times
    #[arg(long, value_name = "FILE")]
    pub exclude_file: Vec<PathBuf>,
    /// Don't cross into other file systems
    #[arg(long)]
    pub one_file_system: bool,
    /// Leave out the contents of folders that are marked as caches (CACHEDIR.TAG)
    #[arg(long)]
    pub exclude_caches: bool,
    /// Label of the snapshot; may be given several times
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// Host that the snapshot is of [default: this one's name]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Tell what would be read, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(ClapArgs)]
pub struct Choice {
    /// Take the newest complete snapshot at or before this time: 2026-09-01T12:00[:00][Z|+02:00], or a date
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Only snapshots of this host
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Only snapshots of the source whose id begins like this
    #[arg(long, value_name = "ID")]
    pub source: Option<String>,
    /// Only snapshots with this label
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
}

#[derive(Subcommand)]
pub enum RestoreWhat {
    /// Restore files and folders
    Files(RestoreFiles),
    /// Restore a snapshot of a cluster into a cluster
    Cluster(RestoreCluster),
}

#[derive(ClapArgs)]
pub struct RestoreCluster {
    /// Snapshot: `latest` or the beginning of its id
    #[arg(value_name = "SNAP")]
    pub snapshot: String,
    /// Show what would be done, and change nothing
    #[arg(long)]
    pub plan: bool,
    /// Restore a namespace under another name: OLD=NEW; may be given several times
    #[arg(long, value_name = "OLD=NEW")]
    pub map_namespace: Vec<String>,
    /// Use another storage class: OLD=NEW; may be given several times
    #[arg(long, value_name = "OLD=NEW")]
    pub map_storage_class: Vec<String>,
    /// How long workloads may take until they are ready, such as 10m
    #[arg(long, value_name = "TIME", default_value = "10m")]
    pub timeout: String,
    /// Start workloads although files of their volumes are lost
    #[arg(long)]
    pub accept_loss: bool,
    #[command(flatten)]
    pub cluster: Cluster,
    #[command(flatten)]
    pub choice: Choice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Overwrite {
    /// Keep what is there
    Never,
    /// Replace files whose size or time differs
    Changed,
    /// Replace every file
    Always,
}

#[derive(ClapArgs)]
pub struct RestoreFiles {
    /// Snapshot: `latest` or the beginning of its id, then `:PATH` for a part of it
    #[arg(value_name = "SNAP[:PATH]")]
    pub snapshot: String,
    /// Folder that the contents go into
    pub target: PathBuf,
    /// What becomes of files that are there already; needed if the target is not empty
    #[arg(long, value_name = "WHEN")]
    pub overwrite: Option<Overwrite>,
    /// Delete what is in the target and not in the snapshot
    #[arg(long, requires = "overwrite")]
    pub delete: bool,
    /// Tell what would be done, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Of a snapshot of a cluster: the files of this volume; no cluster is needed for it
    #[arg(long, value_name = "NAMESPACE/CLAIM")]
    pub volume: Option<String>,
    #[command(flatten)]
    pub choice: Choice,
}

#[derive(ClapArgs)]
pub struct Snapshots {
    #[command(flatten)]
    pub choice: Choice,
}

#[derive(ClapArgs)]
pub struct Ls {
    /// Snapshot: `latest` or the beginning of its id, then `:PATH` for a part of it
    #[arg(value_name = "SNAP[:PATH]")]
    pub snapshot: String,
    /// List what is in folders too
    #[arg(long, short = 'R')]
    pub recursive: bool,
    /// Show type, mode, owner, size and time
    #[arg(long, short)]
    pub long: bool,
    /// Of a snapshot of a cluster: the files of this volume
    #[arg(long, value_name = "NAMESPACE/CLAIM", conflicts_with = "manifests")]
    pub volume: Option<String>,
    /// Of a snapshot of a cluster: the manifests, by group, version, kind, namespace and name
    #[arg(long)]
    pub manifests: bool,
    #[command(flatten)]
    pub choice: Choice,
}

#[derive(ClapArgs)]
pub struct Check {
    /// Read packs whole: every byte, and with the owner's or a reader's key every record. With a part such as 5%: those
    /// that were read longest ago, so that each run reads another part
    #[arg(long, value_name = "PART", num_args = 0..=1, require_equals = true, default_missing_value = "100%")]
    pub read_data: Option<String>,
    /// Read packs whole that no check has read for so long, such as 30d; with --read-data=PART no more than that
    #[arg(long, value_name = "TIME")]
    pub older_than: Option<String>,
}

#[derive(ClapArgs)]
pub struct Copy {
    /// Snapshots of the other repository: `latest` or the beginning of an id
    #[arg(value_name = "SNAP", required_unless_present = "all")]
    pub snapshots: Vec<String>,
    /// Copy all snapshots that are not here yet
    #[arg(long, conflicts_with = "snapshots")]
    pub all: bool,
    /// Copy anew what was copied with losses
    #[arg(long)]
    pub again: bool,
    /// Tell what would be copied, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub other: Other,
    #[command(flatten)]
    pub choice: Choice,
}

/// Another repository. What reaches its store is taken from KIST_FROM_AWS_ACCESS_KEY_ID and so on, and
/// otherwise from the same variables as for this one.
#[derive(ClapArgs)]
pub struct Other {
    /// Repository to copy from
    #[arg(long, env = "KIST_FROM_REPO", value_name = "URL")]
    pub from_repo: String,
    /// File with its passphrase
    #[arg(long, env = "KIST_FROM_PASSPHRASE_FILE", value_name = "FILE")]
    pub from_passphrase_file: Option<PathBuf>,
    /// File with its key; it must open contents
    #[arg(long, env = "KIST_FROM_KEY_FILE", value_name = "FILE")]
    pub from_key_file: Option<PathBuf>,
    /// Domain to copy from; an owner's key opens any
    #[arg(long, env = "KIST_FROM_DOMAIN", value_name = "NAME")]
    pub from_domain: Option<String>,
}

#[derive(Subcommand)]
pub enum CatalogWhat {
    /// Make the catalog anew from the repository
    Rebuild,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
    }
}
