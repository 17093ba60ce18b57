//! The `image` command of the Makefile: writes kist's image, without Docker and without a registry.
//!
//!     ship PROGRAM TARGET
//!
//! The image is the one that the tests run (`cluster/image.rs`), under the name `kist:VERSION`.

#[allow(dead_code, reason = "this command uses of the harness only what makes images")]
mod cluster;

use std::path::Path;
use std::process::ExitCode;

use crate::cluster::error::{Error, Result};
use crate::cluster::image;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(Path::new).collect();
    let outcome = match args[..] {
        [program, target] => ship(program, target),
        _ => Err(Error::Other("usage: ship PROGRAM TARGET".into())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.chain());
            ExitCode::FAILURE
        }
    }
}

fn ship(program: &Path, target: &Path) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let has_authorities = image::ship_kist(program, &format!("localhost/kist:{version}"), target)?;
    let target = target.display();
    println!("{target}: an OCI image layout; load it into a node, or push it to a registry of your own:");
    println!("  ctr --namespace k8s.io image import {target}");
    println!("  skopeo copy oci-archive:{target} docker://REGISTRY/kist:{version}");
    if !has_authorities {
        println!("no authorities are in it (install ca-certificates): https needs KIST_CA_FILE");
    }
    Ok(())
}
