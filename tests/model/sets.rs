//! Small sets: of chunks, of sessions, of packs. A pack has the number of the session that made it.

pub type Set = u8;

pub fn one(member: u8) -> Set {
    1 << member
}

pub fn has(set: Set, member: u8) -> bool {
    set & one(member) != 0
}

pub fn members(set: Set) -> impl Iterator<Item = u8> {
    (0..8).filter(move |member| has(set, *member))
}

/// The members of `set` that `keep` wants.
pub fn only(set: Set, keep: impl Fn(u8) -> bool) -> Set {
    members(set).filter(|member| keep(*member)).fold(0, |all, member| all | one(member))
}

/// What `of` has for the members of `set`, together.
pub fn together(set: Set, of: &[Set]) -> Set {
    members(set).fold(0, |all, member| all | of[usize::from(member)])
}

/// Every subset of `set`, the empty one first.
pub fn subsets(set: Set) -> impl Iterator<Item = Set> {
    (0..=Set::MAX).filter(move |some| some & !set == 0)
}
