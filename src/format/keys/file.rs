//! The file that a key's holder keeps (`KIST_KEY_FILE`): where its slot is and what opens it.
//!
//! Spec: chapter 3. One line of text that has a check against typing errors.

use zeroize::Zeroizing;

use crate::crypto::hash;
use crate::crypto::secret::Key;
use crate::format::Error;
use crate::format::codec::Reader;
use crate::format::id::{RepoId, SlotId, hex, unhex};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    pub repo: RepoId,
    pub slot: SlotId,
    pub unlock: Key,
}

const WHAT: &str = "key file";
const MARK: &str = "kist-key-1:";

impl KeyFile {
    /// One line, after a comment that says what it is. Secret.
    pub fn to_text(&self, comment: &str) -> Zeroizing<String> {
        let body = self.body();
        let check = hash::plain(&*body);
        let line = Zeroizing::new(hex(&*body));
        Zeroizing::new(format!("# {comment}\n{MARK}{}{}\n", *line, hex(&check[..4])))
    }

    pub fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |found: &str| Error::Invalid { what: WHAT, field: "contents", found: found.into() };
        let line = text
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty() && !line.starts_with('#'))
            .ok_or_else(|| invalid("no key in it"))?;
        let line = line.strip_prefix(MARK).ok_or_else(|| invalid("not a kist key"))?;
        let bytes = Zeroizing::new(unhex(line).ok_or_else(|| invalid("not hex"))?);
        let mut input = Reader::new(WHAT, &bytes);
        let key = Self::read(&mut input)?;
        let check = input.array::<4>()?;
        input.end()?;
        if check != hash::plain(&*key.body())[..4] {
            return Err(invalid("mistyped: its check does not fit"));
        }
        Ok(key)
    }

    pub(super) fn body(&self) -> Zeroizing<[u8; 64]> {
        let mut body = Zeroizing::new([0; 64]);
        body[..16].copy_from_slice(&self.repo.0);
        body[16..32].copy_from_slice(&self.slot.0);
        body[32..].copy_from_slice(self.unlock.expose());
        body
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self, Error> {
        let (repo, slot) = (RepoId::read(input)?, SlotId::read(input)?);
        Ok(Self { repo, slot, unlock: Key::new(input.array()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_file_is_noticed() {
        let key = KeyFile { repo: RepoId([1; 16]), slot: SlotId([2; 16]), unlock: Key::new([3; 32]) };
        let text = key.to_text("writer shop");
        assert_eq!(KeyFile::parse(&text).unwrap(), key);
        let typo = text.replacen("0303", "0304", 1);
        assert!(KeyFile::parse(&typo).unwrap_err().to_string().contains("mistyped"));
        assert!(KeyFile::parse("# nothing\n").is_err());
    }
}
