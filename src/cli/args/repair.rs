//! Arguments of `kist repair`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

#[derive(ClapArgs)]
pub struct Repair {
    /// Show what is damaged and what would be done, and change nothing; what was read is remembered, as by a check
    #[arg(long)]
    pub dry_run: bool,
    /// Read packs whole that no check has read, or not for so long; 0d: all of them
    #[arg(long, value_name = "TIME", default_value = "7d")]
    pub older_than: String,
    /// Read no packs: what is missing is found, what has changed inside of a pack is not
    #[arg(long, conflicts_with = "older_than")]
    pub structure_only: bool,
    /// Go on without what is lost for good, and name it: snapshots whose commits can't be read, and what is missing in others,
    /// which are made anew; the old ones are forgotten
    #[arg(long)]
    pub cut: bool,
    /// Fence a backup that has shown no sign of life for so long; if it lives, it goes on by itself
    #[arg(long, value_name = "TIME", default_value = "15m")]
    pub silence: String,
    /// Wait so long for backups that are at work, where the history begins anew
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub wait: String,
    /// Repository that has copies of what is lost
    #[arg(long, env = "KIST_FROM_REPO", value_name = "URL")]
    pub from_repo: Option<String>,
    /// File with its passphrase
    #[arg(long, env = "KIST_FROM_PASSPHRASE_FILE", value_name = "FILE")]
    pub from_passphrase_file: Option<PathBuf>,
    /// File with its key; it must open contents
    #[arg(long, env = "KIST_FROM_KEY_FILE", value_name = "FILE")]
    pub from_key_file: Option<PathBuf>,
    /// Its domain; an owner's key opens any
    #[arg(long, env = "KIST_FROM_DOMAIN", value_name = "NAME")]
    pub from_domain: Option<String>,
}
