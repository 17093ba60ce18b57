//! What a mover may ask of its job's store: the least that its task needs.
//!
//! Pure: a key and an operation in, yes or no out.

use crate::format::id::{PackId, SessionId};
use crate::format::object;
use crate::format::relay::{Operation, Request};

/// What is read to write to a repository or to restore from it; all of it sealed but `config`.
const READABLE: [&str; 8] = [
    object::CONFIG,
    object::PACKS,
    object::INDEX,
    object::SESSIONS,
    object::COMMITS,
    object::GC_LOG,
    object::CHECKPOINTS,
    object::GENERATIONS,
];

/// What a mover may do with the store.
#[derive(Clone, Debug)]
pub struct May(Task);

#[derive(Clone, Debug)]
enum Task {
    Backup { session: SessionId, lane: u32 },
    Restore,
    Below(String),
}

impl May {
    /// Reads, and adds packs and the index deltas of one lane.
    pub fn backup(session: SessionId, lane: u32) -> Self {
        Self(Task::Backup { session, lane })
    }

    /// Reads.
    pub fn restore() -> Self {
        Self(Task::Restore)
    }

    /// Reads and adds anything in one folder; for the laws of a store.
    pub fn below(folder: &str) -> Self {
        Self(Task::Below(folder.to_owned()))
    }

    /// Whether this is allowed. Creating on condition and deleting never are.
    pub(super) fn allows(&self, request: &Request) -> bool {
        let key = request.key.as_str();
        match request.operation {
            Operation::Get { .. } | Operation::Range { .. } | Operation::Size => self.may_read(key),
            Operation::List { .. } => self.may_read(key.trim_end_matches('/')),
            Operation::Put(_) => self.may_put(key),
            Operation::Create(_) | Operation::Delete => false,
        }
    }

    fn may_read(&self, key: &str) -> bool {
        match &self.0 {
            Task::Backup { .. } | Task::Restore => READABLE.iter().any(|folder| is_within(key, folder)),
            Task::Below(folder) => is_within(key, folder),
        }
    }

    fn may_put(&self, key: &str) -> bool {
        match &self.0 {
            Task::Backup { session, lane } => is_pack(key) || is_delta(key, *session, *lane),
            Task::Restore => false,
            Task::Below(folder) => is_within(key, folder),
        }
    }
}

fn is_within(key: &str, folder: &str) -> bool {
    key.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_pack(key: &str) -> bool {
    let id = key.rsplit('/').next().and_then(PackId::parse);
    id.is_some_and(|id| object::pack_key(id) == key)
}

fn is_delta(key: &str, session: SessionId, lane: u32) -> bool {
    let number = key.rsplit('-').next().and_then(|number| number.parse().ok());
    number.is_some_and(|number| object::index_key(session, lane, number) == key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const SESSION: SessionId = SessionId([1; 16]);

    fn allows(may: &May, operation: &Operation, key: &str) -> bool {
        may.allows(&Request { key: key.into(), operation: operation.clone() })
    }

    #[test]
    fn a_mover_reads_what_it_needs_and_no_more() {
        let get = Operation::Get { limit: 1 };
        let (range, list) = (Operation::Range { start: 0, len: 1 }, Operation::List { from: 0 });
        for may in [May::backup(SESSION, 3), May::restore()] {
            let sealed =
                "packs/aa/bb index/aa/0-0 index sessions/aa commits/aa gc/1 checkpoints/1 generations/1-a/0";
            for key in sealed.split(' ').chain(["config"]) {
                assert!(allows(&may, &get, key) && allows(&may, &range, key), "{key}");
                assert!(allows(&may, &Operation::Size, key) && allows(&may, &list, key), "{key}");
            }
            for key in ["keys/aa", "checks/1", "configs", "packsaa", "pack", "probe/a", "..", "keys/packs/a"]
            {
                assert!(!allows(&may, &get, key) && !allows(&may, &range, key), "{key}");
                assert!(!allows(&may, &Operation::Size, key) && !allows(&may, &list, key), "{key}");
            }
            assert!(allows(&may, &list, "packs/") && !allows(&may, &list, "") && !allows(&may, &list, "/"));
        }
    }

    #[test]
    fn a_mover_puts_packs_and_deltas_of_its_own_lane_only() {
        let put = Operation::Put(Bytes::new());
        let pack = object::pack_key(PackId([7; 16]));
        let delta = object::index_key(SESSION, 3, 12);
        let may = May::backup(SESSION, 3);
        assert!(allows(&may, &put, &pack) && allows(&may, &put, &delta));
        assert!(!allows(&May::restore(), &put, &pack) && !allows(&May::restore(), &put, &delta));
        for key in [
            "config".to_owned(),
            format!("keys/{SESSION}"),
            object::session_key(SESSION),
            object::commit_key(SESSION),
            "gc/1".into(),
            format!("packs/08/{SESSION}"),
            format!("packs/{SESSION}"),
            "packs/07/x".into(),
            pack.to_uppercase(),
            object::index_key(SESSION, 4, 12),
            object::index_key(SessionId([2; 16]), 3, 12),
            format!("index/{SESSION}/3-012"),
            format!("index/{SESSION}/3-"),
            format!("index/{SESSION}/3--1"),
            format!("index/{SESSION}/3-+1"),
            format!("index/{SESSION}/3-4294967296"),
            "index/gen-1".into(),
        ] {
            assert!(!allows(&may, &put, &key), "{key}");
        }
    }

    #[test]
    fn nothing_is_created_on_condition_or_deleted() {
        for may in [May::backup(SESSION, 3), May::restore(), May::below("a")] {
            for key in ["config".to_owned(), object::pack_key(PackId([7; 16])), "a/b".into()] {
                assert!(!allows(&may, &Operation::Create(Bytes::new()), &key));
                assert!(!allows(&may, &Operation::Delete, &key));
            }
        }
    }
}
