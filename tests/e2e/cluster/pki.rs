//! The keys and identities of a cluster: a CA, the API server's certificate, its client
//! certificate for kubelet, the key that signs service account tokens, and a token for
//! each component with a kubeconfig around it. All new for each cluster, gone with it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cluster::error::{Error, Result};
use crate::cluster::slot::Slot;
use crate::cluster::{network, tools};

/// The components and their identities: file name, user, groups.
const IDENTITIES: [(&str, &str, &str); 4] = [
    ("admin", "admin", "system:masters"),
    ("controller-manager", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("proxy", "system:kube-proxy", ""),
];

/// The folder of a cluster's keys, filled.
pub struct Pki {
    dir: PathBuf,
}

impl Pki {
    /// Makes all keys, certificates, tokens and kubeconfigs of the cluster in a slot.
    pub fn make(slot: &Slot, node_name: &str) -> Result<Pki> {
        let pki = Pki { dir: slot.dir().join("pki") };
        fs::DirBuilder::new().mode(0o700).create(&pki.dir).map_err(Error::io("make the folder", &pki.dir))?;
        pki.authority()?;
        let names = format!(
            "subjectAltName=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,\
             DNS:kubernetes.default.svc,IP:127.0.0.1,IP:{},IP:{}",
            network::first_service_ip(slot.index),
            slot.node_ip()
        );
        pki.certificate("apiserver", "/CN=kube-apiserver", &names)?;
        pki.certificate(
            "kubelet-client",
            "/O=system:masters/CN=kube-apiserver-kubelet-client",
            "extendedKeyUsage=clientAuth",
        )?;
        pki.service_account_key()?;
        pki.identities(&format!("https://{}:6443", slot.node_ip()), node_name)?;
        Ok(pki)
    }

    /// The path of one file, as text for a flag.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// The kubeconfig of a component: `admin`, `controller-manager`, `scheduler`, `proxy`,
    /// `node`.
    pub fn kubeconfig(&self, who: &str) -> PathBuf {
        self.dir.join(format!("{who}.conf"))
    }

    fn authority(&self) -> Result<()> {
        self.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
            "-days",
            "3650",
            "-subj",
            "/CN=kist-lab",
        ])
    }

    fn certificate(&self, name: &str, subject: &str, extension: &str) -> Result<()> {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
        self.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            &key,
            "-out",
            &certificate,
            "-days",
            "3650",
            "-subj",
            subject,
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-addext",
            extension,
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
    }

    fn service_account_key(&self) -> Result<()> {
        self.openssl(&[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-out",
            "sa.key",
        ])?;
        self.openssl(&["pkey", "-in", "sa.key", "-pubout", "-out", "sa.pub"])
    }

    fn identities(&self, server: &str, node_name: &str) -> Result<()> {
        let path = self.dir.join("ca.crt");
        let authority = fs::read(&path).map_err(Error::io("read", &path))?;
        let authority = k8s_openapi::ByteString(authority); // base64, as a kubeconfig has it
        let node = format!("system:node:{node_name}");
        let mut tokens = String::new();
        let all = IDENTITIES.into_iter().chain([("node", node.as_str(), "system:nodes")]);
        for (who, user, groups) in all {
            let token = tools::random_hex(32)?;
            tokens += &format!("{token},{user},{who},\"{groups}\"\n");
            let config = serde_json::json!({
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{ "name": "lab", "cluster": {
                    "server": server, "certificate-authority-data": authority,
                } }],
                "users": [{ "name": who, "user": { "token": token } }],
                "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": who } }],
                "current-context": "lab",
            });
            write_secret(&self.kubeconfig(who), &config.to_string())?;
        }
        write_secret(&self.dir.join("tokens.csv"), &tokens)
    }

    fn openssl(&self, args: &[&str]) -> Result<()> {
        tools::run(Command::new("openssl").args(args).current_dir(&self.dir)).map(drop)
    }
}

/// Writes a file that only root may read.
pub fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut file = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::io("create", path))?;
    file.write_all(text.as_bytes()).map_err(Error::io("write", path))
}
