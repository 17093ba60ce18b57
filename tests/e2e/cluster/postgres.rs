//! The PostgreSQL image: Debian's packages in a root made by mmdebstrap.
//!
//! The root is made once and kept in the cache, under the hash of the recipe. mmdebstrap
//! runs in namespaces of its own that die with it, so a killed run leaves no mounts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::cluster::error::{Error, Result};
use crate::cluster::oci::{self, Start};
use crate::cluster::{image, tools};

pub const POSTGRES_IMAGE: &str = "kist.test/postgres:15";
/// The user and group `postgres` in the image: for `runAsUser` and `fsGroup`.
pub const POSTGRES_UID: i64 = 999;
/// Where the image has initdb, postgres, pg_amcheck and the others.
pub const POSTGRES_BIN: &str = "/usr/lib/postgresql/15/bin";

const SUITE: &str = "bookworm";
const PACKAGES: &str = "postgresql,postgresql-contrib";
/// Runs when the base system is unpacked and PostgreSQL is not: fixes the user's id, and
/// keeps the package from making a database of its own.
const HOOK: &str = r#"set -e
mkdir -p "$1/etc/postgresql-common"
echo "create_main_cluster = false" > "$1/etc/postgresql-common/createcluster.conf"
echo "postgres:x:999:" >> "$1/etc/group"
echo "postgres:x:999:999:PostgreSQL:/var/lib/postgresql:/bin/bash" >> "$1/etc/passwd"
echo "postgres:*:19000:0:99999:7:::" >> "$1/etc/shadow""#;
/// Manuals, and the compiler for queries with what belongs to it: a third of the image.
const LEFT_OUT: [&str; 6] = [
    "/usr/share/man/*",
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/usr/lib/*/libLLVM*",
    "/usr/lib/postgresql/*/lib/bitcode/*",
    "/usr/lib/postgresql/*/lib/llvmjit*",
];

/// The archive of the PostgreSQL image. The first call on a machine takes most of a minute.
pub fn postgres() -> Result<PathBuf> {
    let recipe = format!("{} {SUITE} {PACKAGES} {HOOK} {LEFT_OUT:?} {POSTGRES_IMAGE}", oci::FORM);
    let key: String = Sha256::digest(recipe).iter().take(8).map(|b| format!("{b:02x}")).collect();
    image::cached(&format!("postgres-{key}.tar"), |work| {
        let root = work.join("root.tar");
        make_root(work, &root)?;
        let archive = work.join("image.tar");
        let start = Start { entrypoint: &[], command: &["/bin/bash"] };
        oci::wrap(&root, POSTGRES_IMAGE, &start, &archive)?;
        fs::remove_file(&root).map_err(Error::io("remove", &root))?;
        Ok(archive)
    })
}

fn make_root(work: &Path, root: &Path) -> Result<()> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["mmdebstrap", "--quiet", "--mode=root", "--variant=apt"]);
    command.arg(format!("--include={PACKAGES}"));
    command.arg(format!("--essential-hook={HOOK}"));
    for path in LEFT_OUT {
        command.arg(format!("--dpkgopt=path-exclude={path}"));
    }
    command.arg(SUITE).arg(root).env("TMPDIR", work);
    tools::run(&mut command).map(drop)
}
