//! What is done with a damaged repository, and what must hold of it.

use std::collections::BTreeSet;

use kist::format::id::SessionId;
use kist::format::object;
use kist::job::forget;
use kist::job::repair::Request;
use kist::repo::{self, Reading, Snapshots};
use kist::store::Store;

use crate::matrix::objects::Object;
use crate::matrix::past::{Made, NotWhole, Past};
use crate::repair::{all, repair_with};
use crate::scene::{Checked, backup, chain, check_as, now};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    List,
    /// Every snapshot, by a reader.
    Restore,
    /// By a writer.
    Backup,
    Forget,
    Prune,
    CheckStructure,
    CheckData,
    Repair,
    /// And what is lost is given up.
    RepairAndCut,
}

pub const VERBS: [Verb; 9] = [
    Verb::List,
    Verb::Restore,
    Verb::Backup,
    Verb::Forget,
    Verb::Prune,
    Verb::CheckStructure,
    Verb::CheckData,
    Verb::Repair,
    Verb::RepairAndCut,
];

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing panics, nothing hangs.
    Ends,
    /// What is given is what was backed up; what is not is named.
    True,
    /// A list that lacks something says so.
    Listed,
    /// A backup that says that it is complete is whole.
    Complete,
    /// A check of all data tells of the damage.
    Told,
    /// What does not need the object is restored.
    GoesOn,
    /// After a repair a check finds nothing but what the object alone had, and what does not need it is restored.
    Repaired,
    /// When the object is back in place, everything is whole, and a check finds nothing.
    NotWorse,
    /// Or, if not: a repair makes it so.
    Mendable,
}

/// What a verb has done.
#[derive(Default)]
pub struct Acted {
    pub said: String,
    pub is_refused: bool,
    pub breaches: Vec<(Rule, String)>,
    made: Option<Made>,
    /// Snapshots that were forgotten or given up.
    forgot: BTreeSet<SessionId>,
}

/// The snapshot that is forgotten: it has a row in the checkpoint.
const GOING: &str = "bank 2";
/// The one that may not be.
const HELD: &str = "bank 1, held";

impl Acted {
    fn said(said: impl Into<String>) -> Self {
        Self { said: said.into(), ..Default::default() }
    }

    pub fn breach(&mut self, rule: Rule, why: impl Into<String>) {
        self.breaches.push((rule, why.into()));
    }
}

/// Does it. What can't be done says why.
pub async fn act(past: &Past, object: &Object, verb: Verb, store: Store) -> Acted {
    let acted = match verb {
        Verb::List => list(past, object, store).await,
        Verb::Restore => restore(past, object, store).await,
        Verb::Backup => back_up(past, store).await,
        Verb::Forget => forget_one(past, store).await,
        Verb::Prune => prune(past, store).await,
        Verb::CheckStructure => check(past, store, None).await.map(|found| Acted::said(told(&found))),
        Verb::CheckData => check_data(past, store).await,
        Verb::Repair => repair(past, object, store, false).await,
        Verb::RepairAndCut => repair(past, object, store, true).await,
    };
    acted.unwrap_or_else(|refused| {
        let mut acted = Acted { is_refused: true, ..Acted::said(format!("refused: {refused}")) };
        if verb == Verb::Restore && object.needed_by.len() < past.there.len() {
            acted.breach(Rule::GoesOn, refused);
        }
        acted
    })
}

type Doing = Result<Acted, String>;

fn why(error: impl std::error::Error) -> String {
    chain(&error)
}

async fn list(past: &Past, object: &Object, store: Store) -> Doing {
    let reader = past.as_reader(store).await.map_err(why)?;
    let listed = Snapshots::load(&reader).await.map_err(why)?;
    let problems: Vec<String> = listed.problems.iter().map(|problem| chain(problem)).collect();
    let mut acted = Acted::said(format!("{} listed, {problems:?}", listed.all.len()));
    let ids: BTreeSet<SessionId> = listed.all.iter().map(|snapshot| snapshot.id).collect();
    if !ids.is_subset(&past.known()) {
        acted.breach(Rule::True, format!("{ids:?} has what was never there, or is gone"));
    }
    for (place, made) in past.there.iter().enumerate().filter(|(_, made)| !ids.contains(&made.id)) {
        let name = made.id.snapshot_name();
        if !object.needed_by.contains(&place) {
            acted.breach(Rule::GoesOn, format!("{name} is not listed, {problems:?}"));
        }
        if problems.is_empty() {
            acted.breach(Rule::Listed, format!("{name} is missing in the list"));
        }
    }
    Ok(acted)
}

async fn restore(past: &Past, object: &Object, store: Store) -> Doing {
    let mut acted = Acted::default();
    let told = restore_others(past, object, &store, Rule::GoesOn, &mut acted).await?;
    let (lost, need) = (told.len(), object.needed_by.len());
    acted.said = format!("{lost} not whole, {need} need it; {:?}", BTreeSet::from_iter(told));
    Ok(acted)
}

/// Restores all; what does not need the object has to be whole by the rule. Gives what keeps snapshots from being so.
async fn restore_others(
    past: &Past,
    object: &Object,
    store: &Store,
    rule: Rule,
    acted: &mut Acted,
) -> Result<Vec<String>, String> {
    // Each is named by its id.
    let reader = past.as_reader(store.clone()).await.map_err(why)?.going_on();
    let mut told = Vec::new();
    for (place, made) in past.there.iter().enumerate() {
        match past.restore(&reader, made).await {
            Ok(()) => {}
            Err(lost @ NotWhole::False(_)) => acted.breach(Rule::True, format!("{}: {lost}", made.id)),
            Err(lost) => {
                told.push(lost.to_string());
                if !object.needed_by.contains(&place) {
                    acted.breach(rule, format!("{}: {lost}", made.id));
                }
            }
        }
    }
    Ok(told)
}

async fn back_up(past: &Past, store: Store) -> Doing {
    let shop = past.as_shop(store.clone()).await.map_err(why)?;
    let done = backup(&shop, &past.next.source).await.map_err(why)?;
    let made = Made { id: done.snapshot.id, ..past.next.clone() };
    let mut acted = Acted::said(format!("complete: {}", done.snapshot.commit.complete));
    if !done.snapshot.commit.complete {
        acted.breach(Rule::Complete, format!("{:?}", done.summary.missing));
    }
    let reader = past.as_reader(store).await.map_err(why)?;
    match past.restore(&reader, &made).await {
        Ok(()) => acted.said += ", whole",
        Err(lost @ NotWhole::False(_)) => acted.breach(Rule::True, lost.to_string()),
        Err(lost) => acted.breach(Rule::Complete, lost.to_string()),
    }
    acted.made = Some(made);
    Ok(acted)
}

async fn forget_one(past: &Past, store: Store) -> Doing {
    let owner = past.owner(store).await.map_err(why)?;
    let id = past.id(GOING);
    let what = forget::What::Named(vec![id.snapshot_name()]);
    let plan = forget::plan(&owner, &what, false).await.map_err(why)?;
    forget::carry_out(&owner, &plan).await.map_err(why)?;
    Ok(Acted { forgot: [id].into(), ..Acted::said("forgotten") })
}

async fn prune(past: &Past, store: Store) -> Doing {
    let owner = past.owner(store).await.map_err(why)?;
    let pruned = repo::prune(&owner, now(), &|_| {}).await.map_err(why)?;
    let (packs, fenced) = (pruned.swept_packs, pruned.fenced);
    Ok(Acted::said(format!("{packs} packs swept, {fenced} fenced, left: {:?}", pruned.left)))
}

async fn check(past: &Past, store: Store, reading: Option<Reading>) -> Result<Checked, String> {
    let owner = past.owner(store).await.map_err(why)?;
    check_as(&owner, reading).await.map_err(why)
}

fn told(checked: &Checked) -> String {
    let findings: Vec<String> = checked.findings.iter().map(|finding| chain(finding)).collect();
    format!("{} findings, {} touched; {findings:?}", findings.len(), checked.touched.len())
}

/// An error tells of the damage too.
async fn check_data(past: &Past, store: Store) -> Doing {
    let checked = check(past, store, Some(Reading::default())).await?;
    let mut acted = Acted::said(told(&checked));
    if checked.findings.is_empty() {
        acted.breach(Rule::Told, "nothing is found");
    }
    Ok(acted)
}

/// With what is in the repository alone.
async fn repair(past: &Past, object: &Object, store: Store, cut: bool) -> Doing {
    let owner = past.owner(store.clone()).await.map_err(why)?;
    let (outcome, told) = repair_with(&owner, Request { cut, ..all() }).await.map_err(why)?;
    let lost = outcome.lost.len();
    let mut acted = Acted::said(format!("sound: {}, {lost} not whole, {told:?}", outcome.was_sound));
    if cut {
        let needed_by = object.needed_by.iter().map(|place| past.there[*place].id);
        acted.forgot = needed_by.filter(|id| *id != past.id(HELD)).collect();
    }
    let after = check(past, store.clone(), Some(Reading::default())).await?;
    let held = past.id(HELD).snapshot_name();
    let may_stay = |name: &String| {
        let place = past.there.iter().position(|made| made.id.snapshot_name() == *name);
        let needs_it = place.is_some_and(|place| object.needed_by.contains(&place));
        needs_it && (!cut || *name == held)
    };
    let touched = &after.touched;
    // What is lost for good is told again, and commits are not given up unasked.
    let is_left = |kind: &str| match kind {
        "missing" | "node" => {
            !touched.is_empty() && touched.iter().all(|touched| may_stay(&touched.snapshot))
        }
        "object" | "gap" | "log" => !cut && !outcome.refused.is_empty(),
        _ => false,
    };
    if !after.findings.iter().all(|finding| is_left(finding.kind())) {
        acted.breach(Rule::Repaired, self::told(&after));
    }
    restore_others(past, object, &store, Rule::Repaired, &mut acted).await?;
    Ok(acted)
}

/// Looks at a repository in which nothing is damaged any more.
pub async fn look(past: &Past, store: &Store, acted: &mut Acted) {
    let wrong = not_whole(past, store, acted).await;
    if wrong.is_empty() {
        return;
    }
    let mended = match past.owner(store.clone()).await {
        Ok(owner) => match repair_with(&owner, all()).await {
            Ok(_) => not_whole(past, store, acted).await,
            Err(error) => vec![format!("a repair: {error}")],
        },
        Err(error) => vec![why(error)],
    };
    match mended.is_empty() {
        true => acted.breach(Rule::NotWorse, format!("until a repair: {wrong:?}")),
        false => acted.breach(Rule::Mendable, format!("{mended:?}, before the repair {wrong:?}")),
    }
}

/// What is not as it should be.
async fn not_whole(past: &Past, store: &Store, acted: &mut Acted) -> Vec<String> {
    let mut wrong = Vec::new();
    match check(past, store.clone(), Some(Reading::default())).await {
        Err(said) => wrong.push(format!("a check: {said}")),
        Ok(checked) => {
            wrong.extend(checked.findings.iter().map(|found| format!("a check: {}", chain(found))));
            wrong.extend(checked.touched.iter().map(|touched| format!("a check: {touched:?}")));
        }
    }
    let reader = match past.as_reader(store.clone()).await {
        Ok(reader) => reader,
        Err(error) => return vec![why(error)],
    };
    let there = past.there.iter().filter(|made| !acted.forgot.contains(&made.id));
    let wanted: Vec<Made> = there.cloned().chain(acted.made.clone()).collect();
    for made in wanted {
        match past.restore(&reader, &made).await {
            Ok(()) => {}
            Err(lost @ NotWhole::False(_)) => acted.breach(Rule::True, format!("{}: {lost}", made.id)),
            Err(lost) => wrong.push(format!("{}: {lost}", made.id)),
        }
    }
    for key in past.fenced.iter().flat_map(|id| [object::session_key(*id), object::commit_key(*id)]) {
        if store.size(&key).await.is_err() {
            wrong.push(format!("{key} stays for ever, and is gone"));
        }
    }
    wrong
}
