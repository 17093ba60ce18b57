//! Repairing: a plan from what a check has found, and its steps, each of which leaves nothing worse than it was.
//!
//! Records that are whole are taken out of packs that are not, and out of packs that no index names any more; packs
//! that are damaged are said to be so in the gc log, so that the next backup uploads again what was in them; and a
//! history that can't be read any more begins anew behind what can. Nothing is deleted: that is for a prune.

mod records;

use std::collections::BTreeSet;

use crate::format::id::{PackId, SessionId};
use crate::format::limits;
use crate::format::log::Action;
use crate::progress::Progress;
use crate::repo::check::{Examined, examine};
use crate::repo::gc::{Renewed, renew};
use crate::repo::index::Slot;
use crate::repo::{
    Appended, Error, Log, PruneSettings, Reading, Repository, Result, Snapshot, Told, Touched, chain,
};

/// How often packs are said to be damaged anew because somebody else has written to the log.
const ATTEMPTS: usize = 32;

/// What a repair would do.
#[derive(Debug, Default)]
pub struct RepairPlan {
    /// Why the history can't be read at all. What else is damaged shows only when it begins anew.
    pub closed: Option<String>,
    /// What of the history can't be used: it begins anew behind that.
    pub unusable: Vec<String>,
    /// Packs that are damaged or missing; what is whole in them is copied.
    pub damaged: BTreeSet<PackId>,
    /// Packs that no index names, if something is missing that may lie in them; and their bytes.
    pub unnamed: BTreeSet<PackId>,
    pub unnamed_bytes: u64,
    /// Nothing was found, and nothing is lost. If not, there may still be nothing to do about it.
    pub is_clean: bool,
}

/// What a repair did.
#[derive(Debug, Default)]
pub struct Repaired {
    /// Packs that are in the index again.
    pub named: u64,
    /// Records that were copied out of damaged packs.
    pub copied: u64,
    /// Packs that are said to be damaged now.
    pub damaged: u64,
    /// What could not be read of the history, and is left behind.
    pub lost: Vec<String>,
    /// Snapshots whose commits are gone.
    pub given_up: Vec<SessionId>,
    /// What would have to be given up for the history to begin anew, which was not asked for.
    pub refused: Vec<String>,
    pub fenced: u64,
    /// So many backups are still at work: to be repaired again when they have ended.
    pub waiting: Option<u64>,
}

/// A plan, and what it was made from.
pub struct Planned {
    pub plan: RepairPlan,
    examined: Option<Examined>,
}

/// What is not whole after all.
pub struct Losses {
    /// Snapshots that need what is lost, oldest first.
    pub snapshots: Vec<Snapshot>,
    pub touched: u64,
}

impl RepairPlan {
    pub fn is_empty(&self) -> bool {
        self.closed.is_none()
            && self.unusable.is_empty()
            && self.damaged.is_empty()
            && self.unnamed.is_empty()
    }
}

impl Repaired {
    fn renewed(&mut self, renewed: Renewed) {
        self.lost.extend(renewed.lost);
        self.given_up.extend(renewed.given_up);
        self.refused.extend(renewed.refused);
        self.fenced += renewed.fenced;
        self.waiting = renewed.waiting;
    }
}

/// Checks, and plans. What is found is told as it is found.
pub async fn plan_repair(
    repo: &Repository,
    reading: Option<Reading>,
    tell: &(dyn Fn(Told) + Sync),
    progress: &dyn Progress,
) -> Result<Planned> {
    repo.keys.owner_keys()?;
    match examine(repo, reading, tell, progress).await {
        Ok(Examined { refused: Some(error), .. }) => Err(error),
        Ok(examined) => Ok(Planned { plan: plan(&examined), examined: Some(examined) }),
        Err(error) if error.is_damage() => {
            let plan = RepairPlan { closed: Some(chain(&error)), ..Default::default() };
            Ok(Planned { plan, examined: None })
        }
        Err(error) => Err(error),
    }
}

fn plan(examined: &Examined) -> RepairPlan {
    let Examined { report, damage, reader, listed, log, .. } = examined;
    let mut plan = RepairPlan {
        unusable: examined.unusable.clone(),
        damaged: damage.found.iter().copied().chain(put_back(examined)).collect(),
        is_clean: report.findings + report.touched == 0,
        ..Default::default()
    };
    if report.touched > 0 || !plan.unusable.is_empty() {
        let is_unnamed = |id: &PackId| !reader.index().packs().contains(*id) && !log.is_barred(*id);
        for (id, found) in listed.iter().filter(|(id, _)| is_unnamed(id)) {
            plan.unnamed.insert(*id);
            plan.unnamed_bytes += found.size;
        }
    }
    plan
}

/// Packs that were said to be damaged, are whole, and hold what no other has. The log's word stays for ever, and nobody
/// refers to what is in them: it has to be copied.
fn put_back(examined: &Examined) -> BTreeSet<PackId> {
    let Examined { damage, reader, .. } = examined;
    let (index, mut found) = (reader.index(), BTreeSet::new());
    if damage.put_back.is_empty() {
        return found;
    }
    let bad = index.numbers_of(&damage.known.iter().chain(&damage.packs).copied().collect());
    let whole = index.numbers_of(&damage.put_back);
    let mut packs = Vec::new();
    for (_, slots) in index.slots_of_all() {
        packs.clear();
        packs.extend(slots.map(Slot::pack));
        if packs.iter().all(|pack| bad.contains(*pack)) {
            let whole = packs.iter().filter(|pack| whole.contains(**pack));
            found.extend(whole.map(|pack| index.packs().get(*pack).id));
        }
    }
    found
}

/// Does what was planned. What can't be read of the history is given up only if that was asked for. If it ends early,
/// another repair goes on with it.
pub async fn repair(
    repo: &Repository,
    planned: Planned,
    (how, gives_up): (&PruneSettings, bool),
    progress: &dyn Progress,
) -> Result<Repaired> {
    let mut done = Repaired::default();
    let Planned { plan, examined } = planned;
    let Some(examined) = examined else {
        done.renewed(begin_anew(repo, how, gives_up).await?);
        return Ok(done);
    };
    if !plan.damaged.is_empty() || !plan.unnamed.is_empty() {
        let made = records::mend(repo, &examined, &plan, progress).await?;
        (done.named, done.copied) = (made.named, made.copied);
        // What was not looked into is not to be passed over by the next.
        if progress.is_cancelled() {
            return Ok(done);
        }
    }
    done.damaged = say_damaged(repo, &plan.damaged).await?;
    if !plan.unusable.is_empty() {
        done.renewed(begin_anew(repo, how, gives_up).await?);
    }
    Ok(done)
}

async fn begin_anew(repo: &Repository, how: &PruneSettings, gives_up: bool) -> Result<Renewed> {
    let renewed = renew(repo, how, gives_up).await?;
    if renewed.waiting.is_none() && renewed.refused.is_empty() {
        // What this machine has seen may be what is left behind.
        repo.seen.begin_anew();
    }
    Ok(renewed)
}

/// Says in the gc log that packs are damaged. Gives how many were not known to be.
async fn say_damaged(repo: &Repository, packs: &BTreeSet<PackId>) -> Result<u64> {
    let mut log = Log::load(repo).await?;
    let mut said = 0;
    for _ in 0..ATTEMPTS {
        let is_new = |pack: &PackId| !log.damaged.contains(pack) && !log.swept.contains(pack);
        let packs: Vec<PackId> = packs.iter().copied().filter(is_new).take(limits::LOG_IDS).collect();
        let count = packs.len() as u64;
        if count == 0 {
            return Ok(said);
        }
        if let Appended::Mine(_) = log.append(repo, Action::Damaged { packs }).await? {
            said += count;
        }
    }
    Err(Error::Moving)
}

/// What snapshots need and nobody has. What is lost is told.
pub async fn losses(
    repo: &Repository,
    tell: &(dyn Fn(Touched) + Sync),
    progress: &dyn Progress,
) -> Result<Losses> {
    let touched = std::sync::Mutex::new(BTreeSet::new());
    let told = |told: Told| {
        if let Told::Touched(lost) = told {
            touched.lock().expect("no holder of this lock panics").insert(lost.snapshot.clone());
            tell(lost);
        }
    };
    let Examined { snapshots, report, .. } = examine(repo, None, &told, progress).await?;
    let touched = touched.into_inner().expect("no holder of this lock panics");
    let mut snapshots = snapshots.all;
    snapshots.retain(|snapshot| touched.contains(&snapshot.name()));
    Ok(Losses { snapshots, touched: report.touched })
}
