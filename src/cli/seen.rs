//! What this machine remembers of a repository's log: one line in a file beside the catalog.
//!
//! A store that shows less than that shows an old copy, and whoever holds only the store can't know it. The file says
//! no secret, is never in the way (a machine that can't keep it does without), and outlives the catalog.

use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::format::id::{hex, unhex};
use crate::repo::{Seen, View};

/// The file, and what is to be kept in it.
pub struct Kept {
    path: PathBuf,
    was: View,
    seen: Seen,
}

impl Kept {
    pub fn load(path: PathBuf) -> (Self, Seen) {
        let was = std::fs::read_to_string(&path).ok().and_then(|text| parse(&text)).unwrap_or_default();
        let seen = Seen::new(was);
        (Self { path, was, seen: seen.clone() }, seen)
    }

    /// Writes what was seen beyond it. Another process may have seen still more: that stands, unless the history began
    /// anew.
    pub fn save(&self) {
        let view = self.seen.view();
        let (now, _) = Self::load(self.path.clone());
        if view.slot <= self.was.slot.max(now.was.slot) && !self.seen.is_anew() {
            return;
        }
        if let Err(error) = replace(&self.path, &format!("{} {}\n", view.slot, hex(&view.head))) {
            tracing::info!(%error, path = %self.path.display(), "what was seen of the log is not remembered");
        }
    }
}

fn parse(text: &str) -> Option<View> {
    let (slot, head) = text.trim_end().split_once(' ')?;
    Some(View { slot: slot.parse().ok()?, head: unhex(head)?.try_into().ok()? })
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let new = path.with_extension(format!("seen-{}", std::process::id()));
    let mut file = std::fs::File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_kept_and_never_less() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("below").join("a.seen");
        let view = |slot| View { slot, head: [slot as u8; 32] };
        for (slot, expected) in [(3, 3), (7, 7), (5, 7)] {
            let kept = Kept { path: path.clone(), was: View::default(), seen: Seen::new(view(slot)) };
            kept.save();
            assert_eq!(Kept::load(path.clone()).1.view(), view(expected));
        }
        std::fs::write(&path, "7 7777").unwrap();
        assert_eq!(Kept::load(path).1.view(), View::default());
    }
}
