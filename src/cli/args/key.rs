//! The arguments of `kist key`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Does everything, and makes the other keys
    Owner,
    /// Adds backups; can't read contents
    Writer,
    /// Forgets, prunes and checks; sees neither names nor contents
    Maintainer,
    /// Restores its domain; adds nothing
    Reader,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Trust {
    /// Uses again what it has uploaded itself, and what a reader has verified
    Own,
    /// Uses again what any writer of its domain has uploaded
    Shared,
}

#[derive(Subcommand)]
pub enum KeyWhat {
    /// Make a key for a role, in the domain that --domain names
    Add(KeyAdd),
    /// List all keys
    List,
    /// Remove a key: its file or passphrase opens nothing any more
    Remove {
        /// Name of the key, or the beginning of its id
        #[arg(value_name = "NAME|ID")]
        key: String,
    },
    /// Make a key anew, in place of one that may be known to others
    Rotate(KeyRotate),
    /// Make a page to print: with it a person gets the repository back when all other keys are lost
    Recovery(KeyRecovery),
    /// Make a key file of a recovery page that was typed back
    Recover(KeyRecover),
}

#[derive(ClapArgs)]
pub struct KeyAdd {
    /// What its holder may do
    #[arg(long)]
    pub role: Role,
    /// Name of the key, such as the cluster's
    #[arg(long)]
    pub name: String,
    /// File to write the key to; it must not exist yet
    #[arg(long, value_name = "FILE", required_unless_present = "new_passphrase_file")]
    pub out: Option<PathBuf>,
    /// Of an owner: the file has a further passphrase, and no key file is made
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    pub new_passphrase_file: Option<PathBuf>,
    /// Of a writer: whose uploads it uses again instead of uploading the same itself
    #[arg(long, value_name = "WHOM", default_value = "own")]
    pub trust: Trust,
}

#[derive(ClapArgs)]
pub struct KeyRotate {
    /// Name of the key, or the beginning of its id
    #[arg(value_name = "NAME|ID", required_unless_present = "owner", requires = "out")]
    pub key: Option<String>,
    /// File to write the new key to; it must not exist yet
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The owner's: what is backed up from now on is sealed to a new key. All key files stay as they are
    #[arg(long, conflicts_with_all = ["key", "out"])]
    pub owner: bool,
}

#[derive(ClapArgs)]
pub struct KeyRecovery {
    /// File to write the page to; it must not exist yet
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Name of the key that the page is
    #[arg(long, value_name = "NAME", default_value = "recovery")]
    pub name: String,
}

#[derive(ClapArgs)]
pub struct KeyRecover {
    /// File with the typed page, or only its lines; `-` is the standard input
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// File to write the key to; it must not exist yet
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}
