//! What chapters 11 and 12 put into the store: entries of the gc log, checkpoints, and the parts of a generation.

use kist::format::Error;
use kist::format::checkpoint::{Checkpoint, State};
use kist::format::checks::Checks;
use kist::format::index::IndexDelta;
use kist::format::log::Entry;
use kist::format::object;
use serde_json::json;

use crate::check::Checked;
use crate::check::objects::Opened;
use crate::shapes;
use crate::vector::Vector;

pub fn log(vector: &Vector) -> Result<Checked, Error> {
    let slot = vector.number("slot");
    let opened = Opened::new(vector, object::log_key(slot))?;
    let entry = Entry::decode(&opened.plain)?;
    entry.verify(&vector.hex("owner"), opened.repo, slot)?;
    let mut fields = shapes::log_entry(&entry);
    fields["key"] = json!(opened.key);
    Ok(Checked { fields, encoded: opened.seal_again(vector, entry.encode()) })
}

pub fn checkpoint(vector: &Vector) -> Result<Checked, Error> {
    let slot = vector.number("slot");
    let opened = Opened::new(vector, object::checkpoint_key(slot))?;
    let checkpoint = Checkpoint::decode(&opened.plain)?;
    checkpoint.verify(&vector.hex("owner"), opened.repo, slot)?;
    let mut fields = shapes::checkpoint(&checkpoint);
    fields["key"] = json!(opened.key);
    Ok(Checked { fields, encoded: opened.seal_again(vector, checkpoint.encode()) })
}

pub fn checks(vector: &Vector) -> Result<Checked, Error> {
    let number = vector.number("number");
    let opened = Opened::new(vector, object::checks_key(number))?;
    let checks = Checks::decode(&opened.plain)?;
    checks.verify(&vector.hex("owner"), opened.repo, number)?;
    let mut fields = shapes::checks(&checks);
    fields["key"] = json!(opened.key);
    Ok(Checked { fields, encoded: opened.seal_again(vector, checks.encode()) })
}

/// The key of a part of a generation.
pub fn part_key(vector: &Vector) -> String {
    object::generation_key(vector.number("slot"), vector.hex("name"), vector.number("part") as usize)
}

/// A state that one part holds.
pub fn state(vector: &Vector) -> Result<Checked, Error> {
    let opened = Opened::new(vector, part_key(vector))?;
    let state = State::decode(State::piece(&opened.plain)?)?;
    let [piece] = <[_; 1]>::try_from(state.pieces()).expect("a short state is one piece");
    let fields = json!({"key": opened.key, "state": shapes::state(&state)});
    Ok(Checked { fields, encoded: opened.seal_again(vector, piece) })
}

pub fn index_part(vector: &Vector) -> Result<Checked, Error> {
    let opened = Opened::new(vector, part_key(vector))?;
    let part = IndexDelta::decode_part(&opened.plain)?;
    let packs: Vec<_> = part.packs.iter().map(shapes::index_pack).collect();
    let fields = json!({"key": opened.key, "packs": packs});
    Ok(Checked { fields, encoded: opened.seal_again(vector, part.body()) })
}
