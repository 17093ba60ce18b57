//! Copying for a repair: what is lost here, from a copy elsewhere; and what is left here, without what is lost.

use std::sync::Arc;

use crate::format::commit::{Root, RootKind};
use crate::format::id::hex;
use crate::format::summary::CopiedFrom;
use crate::job::backup::anew_if_fenced;
use crate::job::copy::{Chosen, Copying, Request};
use crate::job::find::Filter;
use crate::job::{Error, Result};
use crate::progress::Progress;
use crate::repo::{self, Index, Reader, Repository, Snapshot, Snapshots, WriterSettings, end_copying};

impl Copying {
    /// Looks at another repository that may have what this one has lost; nothing is chosen.
    pub async fn from_other(source: &Repository, target: &Repository, kist: String) -> Result<Self> {
        Ok(Self::plan(source, target, request(kist, target)).await?.0)
    }

    /// To make snapshots of one repository anew in it.
    pub async fn within(repo: &Repository, kist: String) -> Result<Self> {
        repo.keys.check_reads_data()?;
        let snapshots = Snapshots::load(repo).await?;
        let mut copying = Self {
            source: repo.clone(),
            target: repo.clone(),
            request: request(kist, repo),
            reader: Arc::new(Reader::new(repo, Arc::new(Index::load(repo).await?))),
            there: Snapshots::default(),
            before: snapshots,
            copies: Vec::new(),
        };
        copying.copies = copying.find_copies();
        Ok(copying)
    }

    /// What one has made of a snapshot of the same repository, without what was lost of it.
    pub fn made_of(&self, snapshot: &Snapshot) -> Option<String> {
        let (here, name) = (hex(&self.target.config.repo.0), snapshot.name());
        let is_of = |from: &CopiedFrom| from.repository == here && from.snapshot == name;
        self.copies.iter().find(|copy| is_of(&copy.from)).map(|copy| copy.id.snapshot_name())
    }

    /// The snapshots of the other repository that say they are a whole copy of this one, or what this is a copy of.
    pub fn twins_of(&self, ours: &Snapshot) -> Vec<Snapshot> {
        let (here, there) = (hex(&self.target.config.repo.0), hex(&self.source.config.repo.0));
        let from = repo::summary(&self.target, ours).ok().flatten().and_then(|summary| summary.copied_from);
        let is_first = |theirs: &&Snapshot| {
            from.as_ref().is_some_and(|from| from.repository == there && from.snapshot == theirs.name())
        };
        // Whether it says so truly shows when its trees come out as ours were.
        let is_copy =
            |from: CopiedFrom| from.repository == here && from.snapshot == ours.name() && from.lost == 0;
        let says_so = |theirs: &&Snapshot| {
            let summary = repo::summary(&self.source, theirs).ok().flatten();
            summary.and_then(|summary| summary.copied_from).is_some_and(is_copy)
        };
        self.there.all.iter().filter(|theirs| is_first(theirs) || says_so(theirs)).cloned().collect()
    }

    /// Makes the records of our snapshot anew from theirs, with the keys of its writer. What comes out has the same ids
    /// if it is the same, so nothing false can come in. True if our trees came out again.
    pub async fn heal(
        &mut self,
        theirs: &Snapshot,
        ours: &Snapshot,
        progress: Arc<dyn Progress>,
    ) -> Result<bool> {
        let made = anew_if_fenced(async || self.heal_once(theirs, ours, progress.clone()).await).await?;
        let mut roots = ours.commit.roots.clone();
        roots.sort_by_key(|root| (root.kind == RootKind::Volume, root.source));
        Ok(made == roots)
    }

    async fn heal_once(
        &mut self,
        theirs: &Snapshot,
        ours: &Snapshot,
        progress: Arc<dyn Progress>,
    ) -> Result<Vec<Root>> {
        let (made, (session, _), _) = self.make(theirs, Some(ours), progress).await?;
        end_copying(&self.target, session).await?;
        Ok(made.roots)
    }
}

fn request(kist: String, target: &Repository) -> Request {
    Request {
        chosen: Chosen::These(Vec::new()),
        filter: Filter::default(),
        again: false,
        writer: WriterSettings::limited(target.store.upload_limit()),
        kist,
    }
}

/// Whether a snapshot can't be copied because all of it is lost, or what it says of itself is.
pub fn is_lost(error: &Error) -> bool {
    match error {
        Error::Repo(error) => error.is_damage(),
        Error::Miscounted { .. } | Error::NoVolume { .. } | Error::Unreadable { .. } => true,
        _ => false,
    }
}
