//! Random entries of the gc log, checkpoints and states.

use std::collections::BTreeMap;

use kist::crypto::secret::Key;
use kist::crypto::sign;
use kist::format::checkpoint::{Checkpoint, Fact, Observed, REMEMBERED, Row, State};
use kist::format::checks::{Checks, Range};
use kist::format::id::{DomainId, KeyId, PackId, SessionId, SourceId};
use kist::format::keys::{Certificate, Role};
use kist::format::limits;
use kist::format::log::{Action, Entry, Hold, Scope, Verified};
use kist::world::Time;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop};
use proptest::{prop_assert, prop_assert_eq, prop_compose, prop_oneof, proptest};

use crate::props::{REPO, certificate};

fn ids<T: std::fmt::Debug>(id: fn([u8; 16]) -> T) -> impl Strategy<Value = Vec<T>> {
    btree_set(any::<[u8; 16]>(), 0..20).prop_map(move |ids| ids.into_iter().map(id).collect())
}

fn hold() -> impl Strategy<Value = Hold> {
    let scope = prop_oneof![
        Just(Scope::All),
        any::<[u8; 16]>().prop_map(Scope::Source),
        any::<[u8; 16]>().prop_map(|id| Scope::Snapshot(SessionId(id))),
    ];
    (any::<[u8; 16]>(), scope, "\\PC{0,60}").prop_map(|(id, scope, note)| Hold { id, scope, note })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        ids(PackId).prop_map(|packs| Action::Condemn { packs }),
        (any::<u64>(), ids(PackId)).prop_map(|(condemned, packs)| Action::Sweep { condemned, packs }),
        ids(SessionId).prop_map(|sessions| Action::Observe { sessions }),
        ids(SessionId).prop_map(|sessions| Action::Forget { sessions }),
        ids(SessionId).prop_map(|sessions| Action::Recall { sessions }),
        hold().prop_map(Action::Hold),
        ids(|id| id).prop_map(|holds| Action::Lift { holds }),
        ids(PackId).prop_map(|packs| {
            let packs = packs.into_iter().map(|pack| Verified { pack, digest: [pack.0[0]; 32] });
            Action::Verify { packs: packs.collect() }
        }),
        any::<([u8; 16], u32)>().prop_map(|(key, serial)| Action::Revoke { key: KeyId(key), serial }),
        ids(PackId).prop_map(|packs| Action::Damaged { packs }),
        any::<u32>().prop_map(|epoch| Action::Renew { epoch }),
    ]
}

prop_compose! {
    fn entry()(
        previous: [u8; 32], time: i64, action in action(), certificate in certificate(),
        signature in vec(any::<u8>(), 64),
    ) -> Entry {
        let signature = signature.try_into().expect("64 bytes");
        Entry { previous, time: Time(time), action, certificate, signature }
    }
}

/// Ranges that nowhere touch.
fn ranges() -> impl Strategy<Value = Vec<Range>> {
    vec(any::<(u16, i64, i64)>(), 0..20).prop_map(|mut all| {
        all.sort_unstable();
        all.dedup_by_key(|(place, ..)| *place);
        let first = |place: u16| u32::from(place) << 16;
        let range = |(place, since, upto)| Range {
            first: first(place),
            last: first(place) + 7,
            since: Time(since),
            upto: Time(upto),
        };
        all.into_iter().map(range).collect()
    })
}

prop_compose! {
    fn checks()(
        time: i64, hashed in ranges(), opened in ranges(), certificate in certificate(),
        signature in vec(any::<u8>(), 64),
    ) -> Checks {
        let signature = signature.try_into().expect("64 bytes");
        Checks { time: Time(time), hashed, opened, certificate, signature }
    }
}

prop_compose! {
    fn checkpoint()(
        entry: [u8; 32], (time, epoch, name) in any::<(i64, u32, [u8; 16])>(),
        state in vec(any::<[u8; 32]>(), 0..4), index in vec(any::<[u8; 32]>(), 0..9),
        certificate in certificate(), signature in vec(any::<u8>(), 64),
    ) -> Checkpoint {
        let signature = signature.try_into().expect("64 bytes");
        Checkpoint { entry, time: Time(time), epoch, name, state, index, certificate, signature }
    }
}

prop_compose! {
    fn row()(
        digest: [u8; 32], (key, serial, sequence, time) in any::<([u8; 16], u32, u64, i64)>(), source: [u8; 16],
        class in vec(any::<u8>(), 0..=limits::CLASS_LEN), (complete, held) in any::<(bool, bool)>(),
    ) -> Row {
        let (key, time, source) = (KeyId(key), Time(time), SourceId(source));
        Row { digest, key, serial, sequence, time, source, class, complete, held }
    }
}

prop_compose! {
    fn fact()(seen: Option<(i64, i64)>, (forgotten, gone, lifted) in any::<(bool, bool, bool)>()) -> Fact {
        let observed = |(from, to)| Observed { not_before: Time(from), not_after: Time(to) };
        Fact { observed: seen.map(observed), forgotten, gone, lifted }
    }
}

/// Commits of a few keys, of few enough sequences that some are equal.
fn remembered() -> impl Strategy<Value = BTreeMap<KeyId, Vec<(u64, [u8; 32])>>> {
    let commits = btree_set((0u64..50, any::<[u8; 32]>()), 1..=REMEMBERED);
    btree_map(any::<[u8; 16]>().prop_map(KeyId), commits.prop_map(|all| all.into_iter().collect()), 0..4)
}

prop_compose! {
    fn state()(
        (swept, damaged) in (ids(PackId), ids(PackId)),
        rows in btree_map(any::<[u8; 16]>().prop_map(SessionId), row(), 0..20),
        facts in btree_map(any::<[u8; 16]>().prop_map(SessionId), fact(), 0..20),
        remembered in remembered(), holds in vec(hold(), 0..5),
        revoked in btree_map(any::<[u8; 16]>().prop_map(KeyId), any::<u32>(), 0..5),
        // The smallest of all times stands for none.
        observed in proptest::option::of(i64::MIN + 1..),
        pending in btree_set("[a-z0-9/]{1,40}", 0..20),
    ) -> State {
        let holds = holds.into_iter().map(|hold| (hold.id, hold)).collect();
        let pending = pending.into_iter().collect();
        let last_observed = observed.map(Time);
        State { swept, damaged, rows, facts, remembered, holds, revoked, last_observed, pending }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn entries_of_the_log_come_back(entry in entry(), zeros in 0usize..600) {
        let mut bytes = entry.encode();
        bytes.resize(bytes.len() + zeros, 0);
        prop_assert_eq!(Entry::decode(&bytes).unwrap(), entry);
    }

    #[test]
    fn a_signed_entry_holds_in_its_slot_until_a_byte_changes(
        action in action(), slot: u64, other: u64, at: prop::sample::Index,
    ) {
        let (owner, maintainer) = (Key::new([4; 32]), Key::new([5; 32]));
        let role = action.authors()[0];
        let names = (role, KeyId([6; 16]), DomainId([0; 16]), 0);
        let certificate = Certificate::issue(&owner, REPO, names, sign::public(&maintainer), "gc");
        let owner = sign::public(&owner);
        let entry = Entry::sign(([7; 32], Time(8), action), (certificate, &maintainer), REPO, slot);
        prop_assert!(entry.verify(&owner, REPO, slot).is_ok());
        prop_assert!(slot == other || entry.verify(&owner, REPO, other).is_err());
        let mut bytes = entry.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1;
        if let Ok(changed) = Entry::decode(&bytes) {
            prop_assert!(changed.verify(&owner, REPO, slot).is_err());
        }
    }

    #[test]
    fn a_writer_says_nothing_in_the_log(action in action()) {
        let (owner, writer) = (Key::new([4; 32]), Key::new([5; 32]));
        let names = (Role::Writer, KeyId([6; 16]), DomainId([0; 16]), 0);
        let certificate = Certificate::issue(&owner, REPO, names, sign::public(&writer), "shop");
        let entry = Entry::sign(([7; 32], Time(8), action), (certificate, &writer), REPO, 1);
        prop_assert!(entry.verify(&sign::public(&owner), REPO, 1).is_err());
    }

    #[test]
    fn what_checks_have_read_comes_back(checks in checks(), zeros in 0usize..600) {
        let mut bytes = checks.encode();
        bytes.resize(bytes.len() + zeros, 0);
        prop_assert_eq!(Checks::decode(&bytes).unwrap(), checks);
    }

    #[test]
    fn checkpoints_come_back(checkpoint in checkpoint(), zeros in 0usize..600) {
        let mut bytes = checkpoint.encode();
        bytes.resize(bytes.len() + zeros, 0);
        prop_assert_eq!(Checkpoint::decode(&bytes).unwrap(), checkpoint);
    }

    #[test]
    fn states_come_back(state in state(), zeros in 0usize..600) {
        let bytes = state.encode();
        prop_assert_eq!(State::decode(&bytes).unwrap(), state.clone());
        let mut whole = Vec::new();
        for mut piece in state.pieces() {
            piece.resize(piece.len() + zeros, 0);
            whole.extend_from_slice(State::piece(&piece).unwrap());
        }
        prop_assert_eq!(whole, bytes);
    }

    #[test]
    fn a_changed_state_is_refused_or_is_its_own_encoding(state in state(), at: prop::sample::Index, new: u8) {
        let mut bytes = state.encode();
        let at = at.index(bytes.len());
        bytes[at] = new;
        if let Ok(other) = State::decode(&bytes) {
            prop_assert_eq!(other.encode(), bytes);
        }
    }
}
