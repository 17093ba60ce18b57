//! A list that takes time: it sees what was there before it began, and may or may not see what comes or goes meanwhile.

use crate::config::Config;
use crate::sets::{Set, subsets};

/// How far a process is with a list; `NotBegun` also stands for done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Listing {
    #[default]
    NotBegun,
    Begun(Set),
}

impl Listing {
    /// What the step can give, of a list of which `now` is there.
    pub fn results(self, config: &Config, now: Set, out: &mut Vec<Set>) {
        match self {
            Listing::NotBegun if config.paged => out.push(0),
            Listing::NotBegun => out.push(now),
            Listing::Begun(then) => out.extend(subsets(then ^ now).map(|some| (then & now) | some)),
        }
    }

    /// Makes the step: the list's result, or `None` if it only begins.
    pub fn step(&mut self, config: &Config, now: Set, result: Set) -> Option<Set> {
        if *self == Listing::NotBegun && config.paged {
            *self = Listing::Begun(now);
            return None;
        }
        *self = Listing::NotBegun;
        Some(result)
    }
}
