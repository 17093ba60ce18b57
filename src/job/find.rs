//! Which snapshot is meant. Where several sources fit, none is guessed: never the wrong volume.

use std::collections::BTreeMap;

use crate::catalog::{Catalog, SnapshotRow};
use crate::format::commit::{Root, RootKind};
use crate::format::id::{SessionId, SourceId, hex};
use crate::format::summary::Source;
use crate::job::{Error, Result};
use crate::repo::{self, Repository, Resolved, Snapshot, Snapshots};
use crate::world::Time;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    Latest,
    /// The beginning of a snapshot's name.
    Prefix(String),
}

impl Which {
    pub fn parse(text: &str) -> Self {
        match text {
            "latest" => Which::Latest,
            other => Which::Prefix(other.to_owned()),
        }
    }
}

/// What narrows the choice.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// At or before this time, and complete.
    pub at: Option<Time>,
    pub host: Option<String>,
    /// The beginning of the source's id.
    pub source: Option<String>,
    pub tag: Option<String>,
}

/// A snapshot as it is chosen by; from the catalog or from its commit.
#[derive(Clone, Debug)]
pub struct Described {
    pub id: SessionId,
    pub time: Time,
    pub complete: bool,
    pub source: SourceId,
    /// None if its names can't be read with this key.
    pub info: Option<Info>,
}

/// What a summary says that snapshots are chosen by.
#[derive(Clone, Debug)]
pub struct Info {
    pub source: Source,
    pub tags: Vec<String>,
    pub files: u64,
    pub bytes: u64,
}

impl Described {
    /// The name that people see and type.
    pub fn name(&self) -> String {
        self.id.snapshot_name()
    }

    fn of(repo: &Repository, snapshot: &Snapshot, problems: &mut Vec<repo::Error>) -> Self {
        let summary = repo::summary(repo, snapshot).unwrap_or_else(|error| {
            problems.push(error);
            None
        });
        let info = summary.map(|summary| Info {
            source: summary.source,
            tags: summary.tags,
            files: summary.counts.files,
            bytes: summary.counts.bytes,
        });
        let commit = &snapshot.commit;
        let (time, complete, source) = (commit.time, commit.complete, commit.source);
        Self { id: snapshot.id, time, complete, source, info }
    }

    fn from_row(row: SnapshotRow) -> Option<Self> {
        let source = serde_json::from_str(&row.source_text).ok()?;
        let info = Some(Info { source, tags: row.tags, files: row.files, bytes: row.bytes });
        Some(Self { id: row.id, time: row.time, complete: row.complete, source: row.source, info })
    }
}

/// All snapshots that fit, oldest first, and what could not be read. What there is, the store says, by one
/// listing; what the catalog knows of them is not fetched.
pub async fn list(
    repo: &Repository,
    catalog: Option<&Catalog>,
    filter: &Filter,
) -> Result<(Vec<Described>, Vec<repo::Error>)> {
    let mut found = Vec::new();
    let mut unknown = Vec::new();
    let resolved = Resolved::load(repo).await?;
    for id in resolved.ids() {
        // A catalog that fails costs time, not the answer.
        let row = catalog.and_then(|catalog| catalog.snapshot(id).ok().flatten());
        match row.and_then(Described::from_row) {
            Some(known) => found.push(known),
            None => unknown.push(id),
        }
    }
    let snapshots = Snapshots::load_some(repo, &unknown).await?;
    let mut problems = snapshots.problems;
    let seen = catalog.and_then(|catalog| catalog.snapshots().ok()).unwrap_or_default();
    problems.extend(seen.iter().filter(|row| resolved.is_lost(row.id)).map(|row| {
        let name = row.id.snapshot_name();
        repo::Error::Log { what: format!("snapshot {name}, which this machine has seen, is missing") }
    }));
    found.extend(snapshots.all.iter().map(|snapshot| Described::of(repo, snapshot, &mut problems)));
    found.retain(|described| filter.fits(described));
    found.sort_by_key(|described| (described.time, described.id));
    Ok((found, problems))
}

impl Filter {
    fn fits(&self, found: &Described) -> bool {
        let info = found.info.as_ref();
        let host = |wanted: &String| match info.map(|info| &info.source) {
            Some(Source::Files { host, .. }) => host == wanted,
            _ => false,
        };
        self.at.is_none_or(|at| found.time <= at && found.complete)
            && self.host.as_ref().is_none_or(host)
            && self.source.as_ref().is_none_or(|wanted| hex(&found.source.0).starts_with(wanted))
            && self.tag.as_ref().is_none_or(|tag| info.is_some_and(|info| info.tags.contains(tag)))
    }
}

/// The one snapshot that is meant.
pub async fn find(
    repo: &Repository,
    catalog: Option<&Catalog>,
    which: &Which,
    filter: &Filter,
) -> Result<Described> {
    let (fits, problems) = list(repo, catalog, filter).await?;
    choose(which, filter, fits, problems)
}

/// The one snapshot that is meant among those that fit.
pub fn choose(
    which: &Which,
    filter: &Filter,
    mut fits: Vec<Described>,
    mut problems: Vec<repo::Error>,
) -> Result<Described> {
    let is_alarm = |problem: &repo::Error| matches!(problem, repo::Error::Log { .. });
    if *which == Which::Latest
        && let Some(at) = problems.iter().position(is_alarm)
    {
        // What was hidden may be what is meant.
        return Err(problems.swap_remove(at).into());
    }
    for problem in &problems {
        // It may be the newest one: what is taken instead is not what was meant, perhaps.
        tracing::warn!(error = repo::chain(problem), "a snapshot can't be read, and is passed over");
    }
    if fits.is_empty() && problems.is_empty() && *which == Which::Latest {
        let nothing_asked = filter.host.is_none() && filter.source.is_none() && filter.tag.is_none();
        return Err(match (filter.at, nothing_asked) {
            (None, true) => Error::NoSnapshots,
            (Some(_), true) => {
                Error::NoSuchSnapshot { wanted: "the time (complete, at or before it)".into() }
            }
            _ => Error::NoSuchSource { wanted: "what was asked for".into() },
        });
    }
    match which {
        Which::Prefix(prefix) => {
            fits.retain(|found| found.name().starts_with(prefix));
            if fits.len() > 1 {
                let fits = fits.iter().map(|found| found.name()).collect();
                return Err(Error::AmbiguousSnapshot { wanted: prefix.clone(), fits });
            }
        }
        Which::Latest => {
            let sources = sources(&fits);
            if sources.len() > 1 {
                return Err(Error::SeveralSources { sources: sources.into_values().collect() });
            }
        }
    }
    let wanted = match which {
        Which::Latest => "latest",
        Which::Prefix(prefix) => prefix,
    };
    match (fits.pop(), problems.into_iter().next()) {
        (Some(found), _) => Ok(found),
        (None, Some(problem)) => Err(problem.into()),
        (None, None) => Err(Error::NoSuchSnapshot { wanted: wanted.to_owned() }),
    }
}

/// A line for each source.
fn sources(found: &[Described]) -> BTreeMap<SourceId, String> {
    let line = |found: &Described| {
        let id = found.source;
        let what =
            found.info.as_ref().map_or_else(|| "(not readable)".into(), |info| info.source.to_string());
        (id, format!("  --source {}  {what}", &hex(&id.0)[..8]))
    };
    found.iter().map(line).collect()
}

/// The snapshot itself, from its commit.
pub async fn load(repo: &Repository, found: &Described) -> Result<Snapshot> {
    let mut loaded = Snapshots::load_some(repo, &[found.id]).await?;
    match (loaded.all.pop(), loaded.problems.pop()) {
        (Some(snapshot), _) => Ok(snapshot),
        (None, Some(problem)) => Err(problem.into()),
        (None, None) => Err(Error::NoSuchSnapshot { wanted: found.name() }),
    }
}

/// Which tree of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// The only one of a snapshot of files.
    #[default]
    Files,
    /// A volume of a snapshot of a cluster: `namespace/claim`.
    Volume(String),
    /// Its manifests.
    Manifests,
}

/// The tree that is meant. A volume is found by what the summary says of it, never by its place.
pub fn root_of(repo: &Repository, snapshot: &Snapshot, part: &Part) -> Result<Root> {
    let roots = &snapshot.commit.roots;
    let of_kind = |kind: RootKind| roots.iter().find(|root| root.kind == kind).copied();
    let summary = || repo::summary(repo, snapshot).ok().flatten();
    match part {
        Part::Files => of_kind(RootKind::Files).ok_or_else(|| Error::NoFiles {
            snapshot: snapshot.name(),
            volumes: summary().and_then(|summary| summary.cluster).map_or_else(Vec::new, |cluster| {
                cluster.volumes.iter().map(|volume| format!("{}/{}", volume.namespace, volume.name)).collect()
            }),
        }),
        Part::Manifests => {
            of_kind(RootKind::Manifests).ok_or_else(|| Error::NotOfCluster { snapshot: snapshot.name() })
        }
        Part::Volume(wanted) => {
            let none = || Error::NoVolume { volume: wanted.clone(), snapshot: snapshot.name() };
            let summary = summary().ok_or_else(none)?;
            let Source::Cluster { cluster, .. } = &summary.source else { return Err(none()) };
            let volumes = summary.cluster.iter().flat_map(|cluster| &cluster.volumes);
            let named =
                volumes.into_iter().find(|volume| format!("{}/{}", volume.namespace, volume.name) == *wanted);
            let volume = named.ok_or_else(none)?;
            let source = Source::volume(cluster, &volume.namespace, &volume.name, &volume.uid);
            let source = repo.keys.ids()?.source_id(&source);
            let is_it = |root: &&Root| root.kind == RootKind::Volume && root.source == source;
            roots.iter().find(is_it).copied().ok_or_else(none)
        }
    }
}
