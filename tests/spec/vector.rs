//! A vector: one file of `format-spec/vectors/`, see `format-spec/README.md`.

use std::path::{Path, PathBuf};

use kist::format::Error;
use kist::format::id::{hex, unhex};
use serde_json::{Map, Value, json};

#[derive(Clone, Debug, PartialEq)]
pub struct Vector {
    /// Path below `vectors/`, without the ending.
    pub name: String,
    pub what: String,
    pub form: String,
    pub given: Map<String, Value>,
    pub encoded: Encoded,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Encoded {
    /// Nothing: the vector is of a computation.
    None,
    Bytes(Vec<u8>),
    Text(String),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Fields(Value),
    /// The class of the refusal.
    Error(String),
}

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("format-spec/vectors")
}

/// The class of an error, as the spec's README names it.
pub fn class(error: &Error) -> &'static str {
    match error {
        Error::Short { .. } => "short",
        Error::LeftOver { .. } => "left-over",
        Error::TooMuch { .. } => "too-much",
        Error::Invalid { .. } => "invalid",
        Error::Version { .. } => "version",
        Error::Features { .. } => "features",
        Error::Magic { .. } => "magic",
        Error::Crypto { .. } => "crypto",
        _ => panic!("a class that README does not name: {error}"),
    }
}

impl Vector {
    pub fn bytes(&self) -> &[u8] {
        match &self.encoded {
            Encoded::Bytes(bytes) => bytes,
            other => panic!("{}: bytes expected, found {other:?}", self.name),
        }
    }

    /// A given text.
    pub fn text(&self, field: &str) -> &str {
        let found = self.given.get(field).and_then(Value::as_str);
        found.unwrap_or_else(|| panic!("{}: given.{field} must be a text", self.name))
    }

    /// Given bytes.
    pub fn hex<const N: usize>(&self, field: &str) -> [u8; N] {
        let bytes = unhex(self.text(field)).unwrap_or_else(|| panic!("{}: given.{field}: hex", self.name));
        bytes.try_into().unwrap_or_else(|_| panic!("{}: given.{field}: {N} bytes", self.name))
    }

    pub fn number(&self, field: &str) -> u64 {
        let found = self.given.get(field).and_then(Value::as_u64);
        found.unwrap_or_else(|| panic!("{}: given.{field} must be a number", self.name))
    }

    pub fn to_text(&self) -> String {
        let mut out = Map::new();
        out.insert("what".into(), json!(self.what));
        out.insert("form".into(), json!(self.form));
        out.insert("given".into(), Value::Object(self.given.clone()));
        match &self.encoded {
            Encoded::None => {}
            Encoded::Bytes(bytes) => drop(out.insert("bytes".into(), json!(hex(bytes)))),
            Encoded::Text(text) => drop(out.insert("text".into(), json!(text))),
        }
        match &self.outcome {
            Outcome::Fields(fields) => out.insert("fields".into(), fields.clone()),
            Outcome::Error(class) => out.insert("error".into(), json!(class)),
        };
        serde_json::to_string_pretty(&Value::Object(out)).expect("JSON of plain values") + "\n"
    }

    pub fn parse(name: &str, text: &str) -> Self {
        let mut all: Map<String, Value> =
            serde_json::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut text_of = |field: &str| match all.remove(field) {
            Some(Value::String(text)) => Some(text),
            None => None,
            other => panic!("{name}: {field} is {other:?}"),
        };
        let (what, form) = (text_of("what").expect("what"), text_of("form").expect("form"));
        let encoded = match (text_of("bytes"), text_of("text")) {
            (None, None) => Encoded::None,
            (Some(hex), None) => Encoded::Bytes(unhex(&hex).unwrap_or_else(|| panic!("{name}: bytes"))),
            (None, Some(text)) => Encoded::Text(text),
            _ => panic!("{name}: bytes and text"),
        };
        let outcome = match (all.remove("fields"), all.remove("error")) {
            (Some(fields), None) => Outcome::Fields(fields),
            (None, Some(Value::String(class))) => Outcome::Error(class),
            _ => panic!("{name}: fields or error, one of them"),
        };
        let Some(Value::Object(given)) = all.remove("given") else { panic!("{name}: given") };
        assert!(all.is_empty(), "{name}: unknown fields {all:?}");
        Self { name: name.into(), what, form, given, encoded, outcome }
    }

    pub fn path(&self) -> PathBuf {
        folder().join(format!("{}.json", self.name))
    }
}

/// Every vector in the folder, by name.
pub fn load_all() -> Vec<Vector> {
    let mut out = Vec::new();
    for folder in std::fs::read_dir(folder()).expect("format-spec/vectors is there") {
        let folder = folder.expect("a folder's entry").path();
        let group = folder.file_name().expect("a name").to_string_lossy().into_owned();
        for file in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let file = file.expect("a file's entry").path();
            assert_eq!(file.extension().and_then(|e| e.to_str()), Some("json"), "{}", file.display());
            let name = format!("{group}/{}", file.file_stem().expect("a name").to_string_lossy());
            out.push(Vector::parse(&name, &std::fs::read_to_string(&file).expect("a readable file")));
        }
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    out
}
