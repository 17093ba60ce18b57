//! The scenes: who takes part, each small enough to be searched to the end.

use crate::config::{Config, Proposal, Task};
use crate::log::Entry;
use crate::store::Store;

pub const A: u8 = 1;
pub const B: u8 = 2;

/// Two snapshots, each with a pack of its own.
fn two_packs() -> Store {
    Store::default().with_snapshot(A, A).with_snapshot(B, B)
}

/// The same, and the second snapshot is forgotten.
fn one_forgotten() -> Store {
    let mut store = two_packs();
    store.log.push(Entry::Forget(1));
    store
}

pub fn writers() -> Config {
    Config {
        writers: vec![vec![Task::Snapshot(A)], vec![Task::Snapshot(A)]],
        collectors: 2,
        forgettable: 1,
        forgets: 1,
        sessions: 6,
        ..Config::new("two writers, two collectors, one plan", two_packs())
    }
}

pub fn plans() -> Config {
    Config {
        writers: vec![vec![Task::Snapshot(A)]],
        collectors: 2,
        plans: 2,
        forgettable: 0b111,
        forgets: 2,
        ..Config::new("one writer, two collectors, two plans", two_packs())
    }
}

pub fn copies() -> Config {
    Config {
        collectors: 2,
        plans: 2,
        proposal: Proposal::Any,
        settle: true,
        ..Config::new("two copies, two plans", Store::default().with_snapshot(A, A).with_snapshot(A, A))
    }
}

pub fn repack() -> Config {
    Config {
        writers: vec![vec![Task::Repack(B)], vec![Task::Snapshot(A)]],
        plans: 2,
        forgettable: 1,
        forgets: 1,
        sessions: 5,
        settle: true,
        ..Config::new(
            "a repack, a writer, two plans",
            Store::default().with_snapshot(A, A | B).with_snapshot(B, 0),
        )
    }
}

pub fn recall() -> Config {
    Config {
        writers: vec![vec![Task::Snapshot(A)]],
        collectors: 2,
        forgettable: 0b111,
        forgets: 2,
        recalls: 1,
        ..Config::new("forgotten and recalled", two_packs())
    }
}

pub fn reader() -> Config {
    Config {
        writers: vec![vec![Task::Snapshot(A), Task::Snapshot(A)]],
        reader: true,
        plans: 2,
        forgettable: 0b100,
        forgets: 2,
        sessions: 4,
        ..Config::new("a reader", one_forgotten())
    }
}

pub fn reader_paged() -> Config {
    Config {
        writers: vec![vec![Task::Snapshot(A), Task::Snapshot(A)]],
        reader: true,
        plans: 1,
        paged: true,
        ..Config::new("a reader, lists that take time", one_forgotten())
    }
}

pub fn reader_copies() -> Config {
    let store = Store::default().with_snapshot(A, A).with_snapshot(A, A).with_snapshot(A, A);
    Config {
        reader: true,
        plans: 2,
        proposal: Proposal::Any,
        settle: true,
        ..Config::new("a reader of three copies", store)
    }
}

pub fn any() -> Config {
    Config {
        writers: vec![vec![Task::Snapshot(A | B)]],
        collectors: 2,
        forgettable: 0b111,
        forgets: 1,
        sessions: 4,
        proposal: Proposal::Any,
        ..Config::new("a plan of any packs", two_packs())
    }
}

pub fn doubt() -> Config {
    Config {
        writers: vec![vec![Task::Snapshot(A)]],
        collectors: 2,
        plans: 2,
        doubt: true,
        forgettable: 0b111,
        forgets: 2,
        ..Config::new("a commit without an answer", Store::default().with_snapshot(A, A))
    }
}

pub fn runs() -> Config {
    Config {
        writers: vec![vec![Task::Snapshot(B), Task::Snapshot(A)]],
        plans: 2,
        forgettable: 0b1,
        forgets: 1,
        sessions: 5,
        settle: true,
        ..Config::new("a writer with a cache, twice", two_packs())
    }
}

pub fn paged() -> Config {
    Config {
        writers: vec![vec![Task::Snapshot(A)], vec![Task::Snapshot(A)]],
        plans: 1,
        sessions: 5,
        paged: true,
        forgettable: 0b1,
        forgets: 1,
        settle: true,
        ..Config::new("lists that take time", two_packs())
    }
}

pub fn paged_late() -> Config {
    Config { paged: true, plans: 2, name: "late deltas, lists that take time", ..late() }
}

pub fn echo() -> Config {
    Config { doubt: false, echoes: 1, name: "requests that arrive twice", ..doubt() }
}

pub fn late() -> Config {
    Config {
        writers: vec![vec![Task::Repack(A)]],
        collectors: 2,
        plans: 3,
        proposal: Proposal::GreedyBothWays,
        settle: true,
        ..Config::new("late deltas", one_forgotten())
    }
}

pub fn any_twice() -> Config {
    Config {
        writers: vec![vec![Task::Snapshot(A)]],
        collectors: 2,
        plans: 2,
        proposal: Proposal::Any,
        ..Config::new("two plans of any packs", one_forgotten())
    }
}

pub fn damaged() -> Config {
    Config {
        writers: vec![vec![Task::Snapshot(A)]],
        plans: 2,
        damage: true,
        forgettable: 0b1,
        forgets: 1,
        proposal: Proposal::GreedyBothWays,
        settle: true,
        ..Config::new("a pack is damaged", Store::default().with_snapshot(A, A).with_snapshot(A, A))
    }
}

pub fn damaged_upload() -> Config {
    Config { name: "what was uploaded is damaged", start: Store::default().with_snapshot(B, B), ..damaged() }
}

pub fn anew() -> Config {
    Config {
        writers: vec![vec![Task::Snapshot(A)]],
        collectors: 2,
        renews: 1,
        settle: true,
        ..Config::new("the history begins anew", one_forgotten())
    }
}

pub fn anew_of_two() -> Config {
    Config {
        writers: vec![vec![Task::Snapshot(A)], vec![Task::Snapshot(A)]],
        settle: false,
        name: "the history begins anew, two writers",
        ..anew()
    }
}

/// Larger ones, for a machine that has time: millions of states each.
pub fn deep() -> Vec<Config> {
    let one_writer = vec![vec![Task::Snapshot(A)]];
    let two_writers = vec![vec![Task::Snapshot(A)], vec![Task::Snapshot(A)]];
    let plans = Config { plans: 2, forgettable: 1, forgets: 2, ..Config::new("", one_forgotten()) };
    vec![
        Config { plans: 4, name: "late deltas, four plans", ..late() },
        Config {
            writers: one_writer.clone(),
            reader: true,
            paged: true,
            name: "a reader, slow lists",
            ..plans.clone()
        },
        Config {
            writers: one_writer,
            collectors: 2,
            paged: true,
            settle: true,
            name: "two plans, slow lists",
            ..plans.clone()
        },
        Config { writers: two_writers, sessions: 6, settle: true, name: "two writers, two plans", ..plans },
        Config { plans: 2, name: "recalls, two plans", ..recall() },
        Config { collectors: 2, name: "a pack is damaged, two collectors", ..damaged() },
        anew_of_two(),
        Config {
            plans: 2,
            renews: 2,
            settle: false,
            name: "the history begins anew twice, two plans",
            ..anew()
        },
        Config {
            writers: vec![vec![Task::Repack(A)], vec![Task::Snapshot(A)]],
            settle: false,
            name: "the history begins anew, late deltas",
            ..anew()
        },
    ]
}
