//! What `kist install` puts into a cluster: a CronJob that backs it up, and the least rights for it.
//!
//! Pure, up to [`apply`]. `rights` says what the account may do, `cron` what runs, `schedule` when. Invariants:
//! nothing but the Secret holds a secret; whatever a former installation of the same name had, and this one
//! has not, is taken away again, rights above all.

mod apply;
mod cron;
mod rights;
mod schedule;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::cluster::discover::EXCLUDED;
use crate::cluster::{Error, KIST, MANAGED_BY, Result};
use crate::crypto::hash;
use crate::format::id::RepoId;
use crate::format::task::Direct;

pub use apply::{Applied, apply};
pub use schedule::Schedule;

/// Label with the installation that an object belongs to.
const INSTANCE: &str = "app.kubernetes.io/instance";
/// In place of what is not shown.
const CONCEALED: &str = "(not shown: --show-secrets shows it)";
/// A CronJob's name may have 52 letters; five are ours.
const NAME_LETTERS: usize = 47;
const LABEL_LETTERS: usize = 63;

/// An installation. It has secrets in it, so it can't be shown.
pub struct Install {
    /// Its objects are called `kist-NAME`.
    pub name: String,
    /// Where kist itself lives.
    pub namespace: String,
    pub create_namespace: bool,
    /// What is backed up; empty: the whole cluster.
    pub backed_up: BTreeSet<String>,
    /// Whether it may run commands in other pods than its own movers.
    pub hooks: bool,
    /// Whether an admission policy holds the pods that it creates to what movers are.
    pub policy: bool,
    /// The writer's bundle, as its file has it.
    pub bundle: Zeroizing<String>,
    pub store: Direct,
    pub run: Run,
    /// The kist that installs.
    pub version: String,
}

/// When and how backups run.
pub struct Run {
    pub schedule: Schedule,
    pub time_zone: Option<String>,
    /// How late a backup may still start.
    pub starting_deadline: Duration,
    /// How long it may take.
    pub active_deadline: Duration,
    pub successful_history: u32,
    pub failed_history: u32,
    /// What [`spread`] gives; none: every backup starts on the minute.
    pub delay: Option<Duration>,
    pub image: String,
    pub pull_secrets: Vec<String>,
    /// What else stands behind `kist backup cluster`.
    pub arguments: Vec<String>,
}

impl Install {
    /// What all of its objects in its own namespace are called.
    fn own_name(&self) -> String {
        format!("kist-{}", self.name)
    }

    /// What objects of the whole cluster and of other namespaces are called: a namespace's name has no dot.
    fn wide_name(&self) -> String {
        format!("{}.{}", self.namespace, self.own_name())
    }

    fn account(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.own_name())
    }

    fn labels(&self) -> Value {
        json!({
            "app.kubernetes.io/name": KIST,
            "app.kubernetes.io/version": self.version,
            INSTANCE: self.wide_name(),
            MANAGED_BY: KIST,
        })
    }

    /// The metadata of an object, of the whole cluster if it has no namespace.
    fn metadata(&self, namespace: Option<&str>, name: &str) -> Value {
        let mut metadata = json!({ "name": name, "labels": self.labels() });
        if let Some(namespace) = namespace {
            metadata["namespace"] = json!(namespace);
        }
        metadata
    }

    fn check(&self) -> Result<()> {
        let wrong = |what: &str, text: &str| Err(Error::Unfit { what: format!("{what} {text:?}") });
        if !is_label(&self.name) || self.name.len() > NAME_LETTERS {
            return wrong("the name", &self.name);
        }
        if let Some(namespace) =
            std::iter::once(&self.namespace).chain(&self.backed_up).find(|name| !is_label(name))
        {
            return wrong("the namespace", namespace);
        }
        if self.wide_name().len() > LABEL_LETTERS {
            return Err(Error::Unfit {
                what: format!("{:?}, of more than {LABEL_LETTERS} letters,", self.wide_name()),
            });
        }
        Ok(())
    }
}

/// As Kubernetes has names of namespaces.
fn is_label(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    !text.is_empty()
        && text.len() <= LABEL_LETTERS
        && text.bytes().all(plain)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// All objects, in the order in which they are to be made: what holds the account back comes before what
/// lets it do something, and the CronJob last.
pub fn objects(install: &Install) -> Result<Vec<Value>> {
    install.check()?;
    let mut objects = Vec::new();
    if install.create_namespace {
        let metadata = install.metadata(None, &install.namespace);
        objects.push(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata }));
    }
    let name = install.own_name();
    objects.push(json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": install.metadata(Some(&install.namespace), &name),
        // The one pod that needs its token asks for it.
        "automountServiceAccountToken": false,
    }));
    if install.policy {
        objects.extend(rights::policy(install));
    }
    objects.extend(rights::rights(install));
    objects.push(secret(install));
    objects.push(cron::cron_job(install));
    Ok(objects)
}

fn secret(install: &Install) -> Value {
    let mut metadata = install.metadata(Some(&install.namespace), &install.own_name());
    // The key to a repository does not belong into it: whoever may read one backup could write others.
    metadata["labels"][EXCLUDED] = json!("true");
    let values: Map<String, Value> =
        cron::secrets(install).into_iter().map(|(key, text)| (key.to_owned(), text.into())).collect();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "stringData": values,
    })
}

/// Puts a mark in place of everything secret.
pub fn conceal(objects: &mut [Value]) {
    let values = objects.iter_mut().filter_map(|object| object.get_mut("stringData")?.as_object_mut());
    for value in values.flat_map(|values| values.values_mut()) {
        *value = CONCEALED.into();
    }
}

/// How long backups of this cluster wait before they start: as good as random over clusters, and always the
/// same for one, so that a hundred of them don't meet their store in the same second.
///
/// The run waits, and the schedule stays as its user wrote it: a schedule can be moved by whole minutes only,
/// and not every schedule can. Never more than half of the starting deadline.
pub fn spread(repo: RepoId, cluster_uid: &str, name: &str, starting_deadline: Duration) -> Duration {
    let digest = hash::plain(format!("kist install\n{repo}\n{cluster_uid}\n{name}").as_bytes());
    let number = u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"));
    Duration::from_secs(number % (starting_deadline.as_secs() / 2 + 1))
}
