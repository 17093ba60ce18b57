//! Checking a repository: the structure of all of it, and, part by part, every byte and every record.
//!
//! Commits, log and index; every pack listed with its length; every node read; then, if that was asked for, packs read
//! whole. Findings are told as they come and never end the run; at the end the trees are walked once more for what is
//! lost, if something is. What was read is remembered in the repository (spec chapter 12), and packs that were found
//! to be what they should be are *verified* in the gc log (chapter 11).

mod covered;
pub(super) mod damage;
mod finding;
pub(super) mod packs;
mod remembered;
mod sessions;
mod touched;
mod trees;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use tokio::sync::Semaphore;

use crate::format::checks::{Range, place_of};
use crate::format::id::PackId;
use crate::format::log::{Action, Verified};
use crate::format::{limits, object};
use crate::progress::{Progress, Unit};
use crate::repo::check::covered::Stretch;
use crate::repo::check::damage::Damage;
use crate::repo::check::packs::Named;
use crate::repo::check::remembered::Remembered;
use crate::repo::check::touched::Ways;
use crate::repo::index::{ListedPack, PackInfo, listed_packs};
use crate::repo::{Appended, Error, Index, Log, Reader, Repository, Result, Snapshots};
use crate::world::Time;

pub use finding::{Finding, Lost, Told, Touched};

/// Packs in flight beyond one for each thread that opens records: a fetch is under way while they work.
const AHEAD: usize = 2;
/// What packs in flight may hold of memory, in KiB: with many cores there are many, and each may be of 64 MiB.
const ROOM_KIB: u32 = 96 << 10;
/// A store that refuses so many packs refuses them all.
const MOST_REFUSED: u64 = 1000;
/// How often packs are verified again because somebody else has written to the log.
const ATTEMPTS: usize = 32;

/// Which packs are read whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// So many of the 2^32 ways that the ids of packs begin, those first that were read longest ago. None: all.
    pub share: Option<u64>,
    /// Only what no check has read since then.
    pub before: Option<Time>,
}

/// What was looked at, and how it went.
#[derive(Debug, Default)]
pub struct Report {
    /// Packs that the index names, and their bytes.
    pub packs: u64,
    pub pack_bytes: u64,
    pub snapshots: u64,
    pub nodes: u64,
    /// Packs read whole, and their bytes.
    pub read_packs: u64,
    pub read_bytes: u64,
    /// Records opened and compared with their ids.
    pub records: u64,
    pub findings: u64,
    /// Files, parts of trees or snapshots that are not whole any more.
    pub touched: u64,
    /// Packs that the store refuses, so that nothing is known of them.
    pub refused: u64,
    /// Packs that are verified now, and were not before.
    pub verified: u64,
    /// Why it could not be written down what was read, or verified.
    pub unremembered: Option<Error>,
    /// It was asked to end before its end.
    pub interrupted: bool,
}

/// What a check has come to, for who goes on from there.
pub(super) struct Examined {
    pub report: Report,
    pub damage: Damage,
    /// Objects of the history that can't be used: what is in them is as if it were not there.
    pub unusable: Vec<String>,
    pub snapshots: Snapshots,
    pub reader: Arc<Reader>,
    /// Why the first pack could not be had that the store refused.
    pub refused: Option<Error>,
    /// Packs that the store lists.
    pub listed: HashMap<PackId, ListedPack>,
    pub log: Log,
}

/// Checks a repository. Everything that is found is told as it is found. Without a `reading` no pack of data is read.
pub async fn check(
    repo: &Repository,
    reading: Option<Reading>,
    tell: &(dyn Fn(Told) + Sync),
    progress: &dyn Progress,
) -> Result<Report> {
    Ok(examine(repo, reading, tell, progress).await?.report)
}

/// The same, and all that it was told by.
pub(super) async fn examine(
    repo: &Repository,
    reading: Option<Reading>,
    tell: &(dyn Fn(Told) + Sync),
    progress: &dyn Progress,
) -> Result<Examined> {
    let started = repo.world.now();
    let found = AtomicU64::new(0);
    let tell = |told: Told| {
        if matches!(told, Told::Found(_)) {
            found.fetch_add(1, Ordering::Relaxed);
        }
        tell(told);
    };
    let (report, damage, unusable, refused) = Default::default();
    let mut run = Run { repo, tell: &tell, progress, report, damage, unusable, refused };
    let mut snapshots = run.commits().await?;
    // After the commits: what these need was indexed before them.
    let (wrong, loaded) = tokio::join!(crate::repo::log::verify(repo), Index::load_with_log(repo));
    if let Some(what) = wrong? {
        run.broken(Finding::Log { what });
    }
    run.problems(std::mem::take(&mut snapshots.problems))?;
    let (mut index, log) = loaded?;
    run.problems(std::mem::take(&mut index.problems))?;
    let reader = Arc::new(Reader::new(repo, Arc::new(index)));
    let listed = run.listed(reader.index(), &log).await?;
    run.report.snapshots = snapshots.all.len() as u64;
    run.report.nodes = trees::walk(&reader, &snapshots.all, &mut run.damage, &tell, progress).await?;
    if let Some(reading) = reading {
        run.read(&reader, reading, &listed, started).await?;
    }
    run.sessions(reader.index(), &log).await?;
    let Run { mut report, mut damage, unusable, refused, .. } = run;
    if !damage.is_none() {
        report.touched = Ways::new(&reader, &mut damage, &tell).walk(&snapshots.all, progress).await?;
    }
    report.interrupted = progress.is_cancelled();
    report.findings = found.into_inner();
    Ok(Examined { report, damage, unusable, refused, snapshots, reader, listed, log })
}

struct Run<'a> {
    repo: &'a Repository,
    tell: &'a (dyn Fn(Told) + Sync),
    progress: &'a dyn Progress,
    report: Report,
    damage: Damage,
    unusable: Vec<String>,
    refused: Option<Error>,
}

/// What was read of the part that was due.
#[derive(Default)]
struct Done {
    /// The place of the first pack that was not read any more.
    end: Option<u32>,
    /// Places at which something was found, or a pack was refused.
    unread: Vec<u32>,
    verified: Vec<Verified>,
    /// Why it ended early.
    failed: Option<Error>,
}

impl Run<'_> {
    fn found(&self, finding: Finding) {
        (self.tell)(Told::Found(finding));
    }

    /// Objects of the history that can't be used. One that the store does not give may be sound.
    fn problems(&mut self, problems: Vec<Error>) -> Result<()> {
        for source in problems {
            if source.is_inconclusive() {
                return Err(source);
            }
            self.unusable.push(crate::repo::chain(&source));
            self.found(match source {
                Error::Log { what } => Finding::Log { what },
                source => Finding::of_object(source),
            });
        }
        Ok(())
    }

    fn refused(&mut self, pack: PackId, error: Error) {
        self.report.refused += 1;
        (self.tell)(Told::Refused { key: object::pack_key(pack), why: crate::repo::chain(&error) });
        self.refused.get_or_insert(error);
    }

    fn broken(&mut self, finding: Finding) {
        self.unusable.push(finding.to_string());
        self.found(finding);
    }

    async fn commits(&mut self) -> Result<Snapshots> {
        let mut snapshots = Snapshots::load(self.repo).await?;
        if !snapshots.gaps().is_empty() {
            // Two commits may come while a listing runs, and the listing show the second only.
            snapshots = Snapshots::load(self.repo).await?;
        }
        // Before the gaps: one that was not given leaves one.
        snapshots.check_given()?;
        for snapshot in snapshots.gaps() {
            self.broken(Finding::Gap { snapshot });
        }
        Ok(snapshots)
    }

    /// The keys of all that is there.
    async fn sessions(&mut self, index: &Index, log: &Log) -> Result<()> {
        let closed = sessions::look(self.repo, index, log).await?;
        closed.findings.into_iter().for_each(|finding| self.found(finding));
        closed.packs.into_iter().for_each(|pack| self.damage.whole(pack));
        self.damage.found.extend(closed.records.iter().map(|(pack, _)| *pack));
        self.damage.records.extend(closed.records);
        Ok(())
    }

    /// Every pack of the index, held against a listing: a pack was there before the delta that names it.
    async fn listed(&mut self, index: &Index, log: &Log) -> Result<HashMap<PackId, ListedPack>> {
        let listed = listed_packs(self.repo).await?;
        let mut swept = None;
        for (id, numbers) in index.packs().by_id() {
            let namings: Vec<PackInfo> = numbers.map(|number| index.packs().get(number)).collect();
            let found = listed.get(&id).map(|found| found.size);
            let fits = |pack: &&PackInfo| pack.is_in(&listed);
            self.report.packs += 1;
            self.report.pack_bytes += u64::from(namings.iter().find(fits).unwrap_or(&namings[0]).len);
            if log.damaged.contains(&id) {
                self.damage.known.insert(id);
                self.damage.packs.insert(id);
                continue;
            }
            let key = object::pack_key(id);
            let Some(found) = found else {
                // A prune may have been at work since the index was loaded.
                if swept.is_none() {
                    swept = Some(Log::load(self.repo).await?.swept);
                }
                if swept.as_ref().is_none_or(|swept| !swept.contains(&id)) {
                    self.found(Finding::PackMissing { key });
                    self.damage.whole(id);
                }
                continue;
            };
            if !namings.iter().any(|pack| fits(&pack)) {
                self.found(Finding::PackLength { key, expected: namings[0].len.into(), found });
                self.damage.whole(id);
                continue;
            }
            let false_ones = namings.iter().filter(|pack| !fits(pack));
            for origin in false_ones.map(|pack| pack.origin).collect::<BTreeSet<_>>() {
                self.found(Finding::PackNamed { key: key.clone(), origin: origin.to_string() });
            }
        }
        Ok(listed)
    }

    /// Reads the packs that are due, and writes down what was read.
    async fn read(
        &mut self,
        reader: &Arc<Reader>,
        reading: Reading,
        listed: &HashMap<PackId, ListedPack>,
        started: Time,
    ) -> Result<()> {
        let mut log = Log::load(self.repo).await?;
        let mut remembered = Remembered::load(self.repo, &log).await?;
        for problem in std::mem::take(&mut remembered.problems) {
            self.found(Finding::of_object(problem));
        }
        let opens = self.repo.keys.can_read_data();
        let ranges = if opens { &remembered.opened } else { &remembered.hashed };
        let due = covered::due(ranges, reading.share, reading.before);
        let reads_young = reading.share.is_none();
        let is_due = |id: PackId, found: &ListedPack| {
            let place = place_of(id);
            let is_young = |range: &Range| time_of(found) >= range.upto;
            covered::is_in(&due, place)
                || (reads_young && covered::range_of(ranges, place).is_some_and(is_young))
        };
        let mut packs: Vec<(PackId, usize)> = Vec::new();
        for (number, pack) in reader.index().packs().iter().enumerate() {
            // What is known to be damaged may have been put back.
            let is_due = |found| self.damage.known.contains(&pack.id) || is_due(pack.id, found);
            if listed.get(&pack.id).is_some_and(is_due) {
                packs.push((pack.id, number));
            }
        }
        let mut done = self.read_packs(reader, packs).await?;
        let news = self.damage.packs.iter().filter(|pack| !self.damage.known.contains(pack));
        done.unread.extend(news.map(|pack| place_of(*pack)));
        done.unread.sort_unstable();
        done.unread.dedup();
        let upto = listed.values().map(time_of).max().unwrap_or(Time(i64::MIN));
        let read = covered::without(&due, done.end, &done.unread);
        let unread: Vec<Stretch> = done.unread.iter().map(|place| (*place, *place)).collect();
        let young = reads_young && done.end.is_none();
        let change = |ranges: &mut Vec<Range>| {
            let old = covered::clear(ranges, &unread);
            let old = if young { covered::read_young(&old, upto) } else { old };
            *ranges = covered::read(&old, &read, started, upto);
        };
        let written = remembered.write(self.repo, &log, |state| {
            change(&mut state.hashed);
            match opens {
                true => change(&mut state.opened),
                // What has come to harm since somebody opened it is to be opened again.
                false => state.opened = covered::clear(&state.opened, &unread),
            }
        });
        self.report.unremembered = written.await.err();
        match self.verify(&mut log, done.verified).await {
            Ok(verified) => self.report.verified = verified,
            Err(error) => self.report.unremembered = self.report.unremembered.take().or(Some(error)),
        }
        done.failed.map_or(Ok(()), Err)
    }

    /// Reads packs, by their numbers; they come in the order of their ids.
    async fn read_packs(&mut self, reader: &Arc<Reader>, packs: Vec<(PackId, usize)>) -> Result<Done> {
        let index = reader.index().clone();
        let named: Vec<_> = packs.chunk_by(|a, b| a.0 == b.0).map(|same| (same[0].0, same)).collect();
        let in_flight = rayon::current_num_threads() + AHEAD;
        let room = Semaphore::new(ROOM_KIB as usize);
        let reading = named.iter().map(|(id, same)| {
            let namings: Vec<PackInfo> = same.iter().map(|(_, number)| index.packs().get(*number)).collect();
            let len = namings.iter().map(|pack| pack.len.div_ceil(1024)).max().unwrap_or(0);
            let (room, reader) = (&room, reader.clone());
            async move {
                let _held = room.acquire_many(len.clamp(1, ROOM_KIB)).await.expect("nobody closes it");
                packs::read(reader, Named { id: *id, namings }).await
            }
        });
        let mut reading = futures::stream::iter(reading).buffered(in_flight);
        let (mut done, mut doubtful) = (Done::default(), BTreeSet::new());
        for (id, _) in &named {
            if self.progress.is_cancelled() {
                done.end = Some(place_of(*id));
                break;
            }
            let read = match reading.next().await.expect("one for each") {
                Ok(read) => read,
                // Of one that is refused nothing can be said, and it says nothing of the others.
                Err(error) if !error.is_outage() && self.report.refused < MOST_REFUSED => {
                    self.refused(*id, error);
                    done.unread.push(place_of(*id));
                    continue;
                }
                Err(error) => {
                    (done.end, done.failed) = (Some(place_of(*id)), Some(error));
                    break;
                }
            };
            if !read.findings.is_empty() && self.is_swept(&read).await? {
                continue;
            }
            self.report.read_packs += 1;
            self.report.read_bytes += read.bytes;
            self.report.records += read.records;
            self.progress.advance(Unit::PackBytes, read.bytes);
            if self.damage.known.contains(id) {
                doubtful.extend(read.is_doubtful.then_some(*id));
                self.damage.read_again(*id, read);
                continue;
            }
            if !read.findings.is_empty() || read.is_doubtful {
                done.unread.push(place_of(*id));
            }
            // Its length was told when it was listed.
            let is_new = |finding: &Finding| !matches!(finding, Finding::PackLength { .. });
            read.findings.into_iter().filter(is_new).for_each(|finding| self.found(finding));
            if read.damage.packs.is_empty() {
                // What was taken for lost as a whole was looked into.
                self.damage.packs.remove(id);
            }
            doubtful.extend(read.is_doubtful.then_some(*id));
            self.damage.merge(read.damage);
            done.verified.extend(read.verified);
        }
        drop(reading);
        if !doubtful.is_empty() {
            packs::doubtful(reader, doubtful, &mut self.damage).await?;
        }
        Ok(done)
    }

    /// Whether a pack that is missing was let go by a prune since the index was loaded.
    async fn is_swept(&self, read: &packs::Read) -> Result<bool> {
        match read.findings.first() {
            Some(Finding::PackMissing { .. }) => {
                let swept = Log::load(self.repo).await?.swept;
                Ok(read.damage.packs.iter().all(|pack| swept.contains(pack)))
            }
            _ => Ok(false),
        }
    }

    /// Says in the gc log that packs were read, so that others may refer to them. Gives how many.
    async fn verify(&self, log: &mut Log, mut packs: Vec<Verified>) -> Result<u64> {
        packs.sort_unstable_by_key(|read| read.pack);
        let mut verified = 0;
        for batch in packs.chunks(limits::LOG_VERIFIED) {
            let mut attempts = 0..ATTEMPTS;
            loop {
                if attempts.next().is_none() {
                    return Err(Error::Moving);
                }
                let goes_on = |read: &&Verified| !log.is_barred(read.pack);
                let packs: Vec<Verified> = batch.iter().filter(goes_on).copied().collect();
                let count = packs.len() as u64;
                if count == 0 {
                    break;
                }
                if let Appended::Mine(_) = log.append(self.repo, Action::Verify { packs }).await? {
                    verified += count;
                    break;
                }
            }
        }
        Ok(verified)
    }
}

/// When the store has taken a pack, by its own clock.
fn time_of(found: &ListedPack) -> Time {
    Time(found.modified_unix_secs.saturating_mul(1_000_000_000))
}
