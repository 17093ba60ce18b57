//! Which snapshot is meant. Where several sources fit, none is guessed: never the wrong volume.

use std::collections::BTreeMap;

use crate::format::commit::{Root, RootKind};
use crate::format::id::{SourceId, hex};
use crate::format::summary::{Source, Summary};
use crate::job::{Error, Result};
use crate::repo::{self, Repository, Snapshot, Snapshots};
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

/// A snapshot with its summary; none if its names can't be read with this key.
#[derive(Clone, Debug)]
pub struct Described {
    pub snapshot: Snapshot,
    pub summary: Option<Summary>,
}

/// All snapshots that fit, oldest first, and what could not be read.
pub async fn list(repo: &Repository, filter: &Filter) -> Result<(Vec<Described>, Vec<repo::Error>)> {
    let mut snapshots = Snapshots::load(repo).await?;
    let mut problems = std::mem::take(&mut snapshots.problems);
    let mut fits = Vec::new();
    for snapshot in snapshots.all {
        let summary = repo::summary(repo, &snapshot).unwrap_or_else(|error| {
            problems.push(error);
            None
        });
        let described = Described { snapshot, summary };
        if filter.fits(&described) {
            fits.push(described);
        }
    }
    Ok((fits, problems))
}

impl Filter {
    fn fits(&self, found: &Described) -> bool {
        let commit = &found.snapshot.commit;
        let summary = found.summary.as_ref();
        let host = |wanted: &String| match summary.map(|summary| &summary.source) {
            Some(Source::Files { host, .. }) => host == wanted,
            _ => false,
        };
        self.at.is_none_or(|at| commit.time <= at && commit.complete)
            && self.host.as_ref().is_none_or(host)
            && self.source.as_ref().is_none_or(|wanted| hex(&commit.source.0).starts_with(wanted))
            && self.tag.as_ref().is_none_or(|tag| summary.is_some_and(|summary| summary.tags.contains(tag)))
    }
}

/// The one snapshot that is meant.
pub async fn find(repo: &Repository, which: &Which, filter: &Filter) -> Result<Described> {
    let (mut fits, problems) = list(repo, filter).await?;
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
            fits.retain(|found| found.snapshot.name().starts_with(prefix));
            if fits.len() > 1 {
                let fits = fits.iter().map(|found| found.snapshot.name()).collect();
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
        let id = found.snapshot.commit.source;
        let what = found.summary.as_ref().map_or_else(|| "(not readable)".into(), |s| s.source.to_string());
        (id, format!("  --source {}  {what}", &hex(&id.0)[..8]))
    };
    found.iter().map(line).collect()
}

/// The tree of files of a snapshot.
pub fn files_root(found: &Described) -> Result<Root> {
    let roots = &found.snapshot.commit.roots;
    let files = roots.iter().find(|root| root.kind == RootKind::Files);
    files.copied().ok_or_else(|| Error::NoFiles { snapshot: found.snapshot.name() })
}
