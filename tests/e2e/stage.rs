//! Two clusters and an S3 server, as the scenarios and the demo need them, and repositories on them.
//!
//! Costly, so there is one for all scenarios: each works in namespaces and repositories of its own.

use std::path::{Path, PathBuf};

use crate::cluster::error::{Error, Result};
use crate::cluster::objectstore::ObjectStore;
use crate::cluster::{Cluster, Spec, image, postgres};
use crate::kist::Kist;

pub const BUCKET: &str = "kist";

/// What is up. Dropping it takes all down.
pub struct Stage {
    pub first: Cluster,
    pub second: Cluster,
    pub store: ObjectStore,
    /// Keys, catalogs, local repositories.
    pub scratch: tempfile::TempDir,
    program: PathBuf,
}

/// A repository with its two keys: the owner's, and a writer's bundle.
pub struct Repo {
    pub owner: Kist,
    pub writer: Kist,
}

impl Stage {
    /// Brings all up side by side, with the image of this program in both clusters.
    pub async fn start(program: &Path) -> Result<Stage> {
        let scratch = tempfile::tempdir().map_err(Error::io("make a folder", "scratch".as_ref()))?;
        let images = [image::kist(program)?, image::busybox()?, postgres::postgres()?];
        let spec = |name| images.iter().fold(Spec::new(name), |spec, image| spec.image(image.clone()));
        let (first, second, store) = futures::try_join!(
            Cluster::start(spec("first")),
            Cluster::start(spec("second")),
            ObjectStore::start("scenario", BUCKET),
        )?;
        Ok(Stage { first, second, store, scratch, program: program.to_owned() })
    }

    /// Takes all down and says whether all went.
    pub async fn down(self) -> Result<()> {
        futures::try_join!(self.first.down(), self.second.down(), self.store.down()).map(drop)
    }

    /// The binary, with the credentials of the S3 server and the first cluster's kubeconfig.
    pub fn kist(&self) -> Kist {
        let kist = Kist::new(&self.program, self.scratch.path()).at(self.first.kubeconfig());
        self.store.credentials().into_iter().fold(kist, |kist, (name, value)| kist.env(name, value))
    }

    /// Makes a repository in the bucket.
    pub async fn s3_repository(&self, name: &str) -> Repo {
        self.repository(name, self.store.repo_url(BUCKET, name)).await
    }

    /// Makes a repository in a folder, which no pod can reach.
    pub async fn local_repository(&self, name: &str) -> Repo {
        let url = self.scratch.path().join(name).display().to_string();
        self.repository(name, url).await
    }

    async fn repository(&self, name: &str, url: String) -> Repo {
        let kist = self.kist().env("KIST_REPO", &url);
        let [owner, writer] =
            ["owner", "writer"].map(|role| self.scratch.path().join(format!("{name}-{role}.key")));
        kist.json(&format!("init --new-key-file {}", owner.display()), 0).await;
        let [owner_kist, writer_kist] =
            [&owner, &writer].map(|key| kist.clone().env("KIST_KEY_FILE", key.display().to_string()));
        let add = format!("key add --role writer --name {name} --out {}", writer.display());
        owner_kist.json(&add, 0).await;
        Repo { owner: owner_kist, writer: writer_kist }
    }
}
