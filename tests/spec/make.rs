//! Makes every vector from fixed inputs: what is sound by encoding, what is defective by hand.

mod gc;
mod keys;
mod link;
mod nodes;
mod packs;
mod slots;
mod snapshots;
mod values;

use kist::format::object;
use serde_json::{Map, Value, json};

use crate::check::check;
use crate::material::{Material, draw};
use crate::vector::{Encoded, Outcome, Vector};

/// Every vector there is.
pub fn all() -> Vec<Vector> {
    let material = Material::new();
    let mut out = values::all(&material);
    out.extend(keys::all(&material));
    out.extend(slots::all(&material));
    out.extend(packs::all(&material));
    out.extend(nodes::all());
    out.extend(snapshots::all(&material));
    out.extend(gc::all(&material));
    out.extend(link::all());
    out
}

/// The vectors of one folder and form.
struct Group {
    folder: &'static str,
    form: &'static str,
    out: Vec<Vector>,
}

impl Group {
    fn new(folder: &'static str, form: &'static str) -> Self {
        Self { folder, form, out: Vec::new() }
    }

    /// One that holds; its fields are what the check finds.
    fn ok(&mut self, name: &str, what: &str, given: Value, encoded: Encoded) {
        let mut vector = self.vector(name, what, given, encoded);
        let checked = check(&vector).unwrap_or_else(|e| panic!("{}: {e}", vector.name));
        vector.outcome = Outcome::Fields(checked.fields);
        self.out.push(vector);
    }

    /// One that is refused with an error of this class.
    fn bad(&mut self, name: &str, class: &str, what: &str, given: Value, encoded: Encoded) {
        let mut vector = self.vector(name, what, given, encoded);
        vector.outcome = Outcome::Error(class.into());
        self.out.push(vector);
    }

    fn vector(&self, name: &str, what: &str, given: Value, encoded: Encoded) -> Vector {
        let given = match given {
            Value::Object(given) => given,
            Value::Null => Map::new(),
            other => panic!("{name}: given must be an object, not {other}"),
        };
        let (name, form) = (format!("{}/{name}", self.folder), self.form.to_owned());
        Vector { name, what: what.into(), form, given, encoded, outcome: Outcome::Error(String::new()) }
    }
}

/// `given` with one field set.
fn with(given: &Value, field: &str, value: impl Into<Value>) -> Value {
    let mut given = given.clone();
    given[field] = value.into();
    given
}

fn bytes(bytes: Vec<u8>) -> Encoded {
    Encoded::Bytes(bytes)
}

/// Bytes with one changed.
fn flipped(bytes: &[u8], at: usize) -> Encoded {
    let mut out = bytes.to_vec();
    out[at] ^= 1;
    Encoded::Bytes(out)
}

fn cut(bytes: &[u8], by: usize) -> Encoded {
    Encoded::Bytes(bytes[..bytes.len() - by].to_vec())
}

/// Seals what may be no object at all, as the object at a key.
fn sealed(m: &Material, name: &str, key: &str, plain: Vec<u8>) -> Vec<u8> {
    object::seal_object(&m.structure, draw(name).bytes(), m.repo, key, plain)
}

/// Seals a plaintext as it is, without padding of its own.
fn sealed_unpadded(m: &Material, name: &str, key: &str, plain: &[u8]) -> Vec<u8> {
    let context = [b"kist object\x01\0".as_slice(), &m.repo.0, key.as_bytes()].concat();
    kist::crypto::seal::seal(&m.structure, draw(name).bytes(), &context, plain)
}

/// What every sealed object's vector gives.
fn place(m: &Material) -> Value {
    json!({
        "structure": kist::format::id::hex(m.structure.expose()),
        "repository": m.repo.to_string(),
        "session": m.session.to_string(),
    })
}
