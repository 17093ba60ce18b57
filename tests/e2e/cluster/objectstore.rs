//! An S3 server in a slot of its own: versitygw over a folder, with random credentials.
//!
//! It listens on the host's end of its slot's link: the host reaches it there, and so do
//! the pods of every cluster, and nothing else does. A bucket is a folder.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::error::{Error, Result};
use crate::cluster::pki::write_secret;
use crate::cluster::process::{Daemon, Network, Process};
use crate::cluster::slot::{Hold, Slot};
use crate::cluster::{signals, tools};

const PORT: u16 = 9000;
const REGION: &str = "us-east-1";
const START_LIMIT: Duration = Duration::from_secs(60);
const CONNECT_RETRY: Duration = Duration::from_millis(20);

/// A running S3 server. Dropping it takes it down, its buckets included.
pub struct ObjectStore {
    access_key: String,
    secret_key: String,
    server: Process,
    slot: Hold,
}

impl ObjectStore {
    /// Starts a server with one bucket.
    pub async fn start(name: &str, bucket: &str) -> Result<ObjectStore> {
        tools::require_store()?;
        signals::handle();
        let owned = name.to_owned();
        let slot = super::blocking(move || {
            let slot = Slot::take(&owned)?;
            slot.open()?;
            Ok(slot)
        })
        .await?;
        let access_key = tools::random_hex(10)?;
        let secret_key = tools::random_hex(20)?;
        let root = slot.dir().join("s3");
        fs::create_dir(&root).map_err(Error::io("make the folder", &root))?;
        let daemon = Daemon {
            name: "versitygw",
            program: tools::versitygw(),
            args: vec![
                "--port".into(),
                format!("{}:{PORT}", slot.host_ip()),
                "--region".into(),
                REGION.into(),
                "posix".into(),
                root.display().to_string(),
            ],
            env: vec![("ROOT_ACCESS_KEY", access_key.clone()), ("ROOT_SECRET_KEY", secret_key.clone())],
            network: Network::Host,
        };
        let server = Process::start(&slot, daemon)?;
        let store = ObjectStore { access_key, secret_key, server, slot };
        store.make_bucket(bucket)?;
        store.connected().await?;
        store.write_env(bucket)?;
        Ok(store)
    }

    /// Makes a bucket.
    pub fn make_bucket(&self, bucket: &str) -> Result<()> {
        let path = self.slot.dir().join("s3").join(bucket);
        fs::create_dir(&path).map_err(Error::io("make the bucket", &path))
    }

    /// The folder in which the server keeps a bucket's objects, one file each.
    pub fn bucket_dir(&self, bucket: &str) -> PathBuf {
        self.slot.dir().join("s3").join(bucket)
    }

    /// The server's URL, the same from the host and from pods.
    pub fn endpoint(&self) -> String {
        format!("http://{}:{PORT}", self.slot.host_ip())
    }

    /// A repository's URL, as `KIST_REPO` has it.
    pub fn repo_url(&self, bucket: &str, prefix: &str) -> String {
        let endpoint = self.endpoint();
        format!("s3://{bucket}/{prefix}?endpoint={endpoint}&region={REGION}")
    }

    /// The variables with the credentials, as S3 clients and kist read them.
    pub fn credentials(&self) -> [(&'static str, &str); 2] {
        [("AWS_ACCESS_KEY_ID", &self.access_key), ("AWS_SECRET_ACCESS_KEY", &self.secret_key)]
    }

    /// A file for a shell to read: the credentials, and `KIST_REPO` in the first bucket.
    pub fn env_file(&self) -> PathBuf {
        self.slot.dir().join("s3.env")
    }

    /// Takes the server down and says whether all went.
    pub async fn down(self) -> Result<()> {
        let slot = self.slot.share();
        super::blocking(move || slot.take_down()).await
    }

    /// Which slot it lives in: all names and addresses follow from that.
    pub fn slot(&self) -> u8 {
        self.slot.index
    }

    async fn connected(&self) -> Result<()> {
        let address = (self.slot.host_ip(), PORT);
        let connected = async {
            // The server tells nobody when it listens.
            while tokio::net::TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(CONNECT_RETRY).await;
            }
            Ok(())
        };
        self.server.during("the S3 server to listen", START_LIMIT, connected).await
    }

    fn write_env(&self, bucket: &str) -> Result<()> {
        let mut text = String::new();
        for (name, value) in self.credentials() {
            text += &format!("export {name}={value}\n");
        }
        text += &format!("export KIST_REPO='{}'\n", self.repo_url(bucket, "kist"));
        write_secret(&self.env_file(), &text)
    }
}
