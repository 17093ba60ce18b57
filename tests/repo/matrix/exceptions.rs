//! What does not hold, where, and why. An exception that is not met any more fails the test.

use crate::matrix::Cell;
use crate::matrix::objects::{DAMAGES, Damage, Kind};
use crate::matrix::verbs::{Rule, Verb};

/// Cells in which a rule does not hold.
#[derive(Debug)]
pub struct Exception {
    pub kinds: &'static [Kind],
    pub hows: &'static [Damage],
    pub verb: Verb,
    pub rule: Rule,
    pub why: &'static str,
}

impl Exception {
    pub fn covers(&self, cell: &Cell, rule: Rule) -> bool {
        self.rule == rule
            && self.kinds.contains(&cell.kind)
            && self.hows.contains(&cell.how)
            && self.verb == cell.verb
    }
}

const MISSING: &[Damage] = &[Damage::Missing];

pub const EXCEPTIONS: &[Exception] = &[
    Exception {
        kinds: &[Kind::WriterSlot],
        hows: &DAMAGES,
        verb: Verb::CheckData,
        rule: Rule::Told,
        why: "whoever opens with it is told, and `kist key list` shows it",
    },
    Exception {
        kinds: &[Kind::OlderCheckpoint, Kind::Fence],
        hows: &DAMAGES,
        verb: Verb::CheckData,
        rule: Rule::Told,
        why: "the newest checkpoint stands for it: nobody needs it",
    },
    Exception {
        kinds: &[Kind::LogHead, Kind::NewestCommit, Kind::Checks],
        hows: MISSING,
        verb: Verb::CheckData,
        rule: Rule::Told,
        why: "the newest of its kind leaves no trace, but on machines that have seen it",
    },
    Exception {
        kinds: &[Kind::NewestCommit, Kind::MiddleCommit],
        hows: MISSING,
        verb: Verb::List,
        rule: Rule::Listed,
        why: "of the newest there is no trace; of others the next one of the writer tells, to a check and a prune",
    },
    Exception {
        kinds: &[Kind::NewestCommit],
        hows: MISSING,
        verb: Verb::Prune,
        rule: Rule::Mendable,
        why: "a session without a commit is fenced, and nothing shows that there was one",
    },
    Exception {
        kinds: &[Kind::Fence],
        hows: MISSING,
        verb: Verb::Prune,
        rule: Rule::Mendable,
        why: "the session that it fenced can't be told from one whose snapshot is gone, and is deleted",
    },
    Exception {
        kinds: &[Kind::EndedSession],
        hows: &DAMAGES,
        verb: Verb::Backup,
        rule: Rule::Complete,
        why: "a writer opens nothing of what it refers to: a check tells that its keys are gone",
    },
    Exception {
        kinds: &[Kind::DataPack, Kind::NewDataPack, Kind::WastefulPack],
        hows: &[Damage::Flipped, Damage::Replaced],
        verb: Verb::Backup,
        rule: Rule::Complete,
        why: "what changed inside of a pack of the right length a writer can't see: a check tells, and then it can",
    },
    Exception {
        kinds: &[Kind::Checkpoint, Kind::StatePart],
        hows: &DAMAGES,
        verb: Verb::Restore,
        rule: Rule::GoesOn,
        why: "what only its generation names is in no index; a repair finds it again",
    },
    Exception {
        kinds: &[Kind::OpenSession],
        hows: &DAMAGES,
        verb: Verb::Repair,
        rule: Rule::NotWorse,
        why: "what can't be opened without it is taken for lost; when it is back, a repair finds it again",
    },
];
