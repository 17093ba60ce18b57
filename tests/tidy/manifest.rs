//! As much of TOML as `Cargo.toml` and `deny.toml` use: sections, and keys with their values.

/// A `[name]` or `[[name]]` and what stands under it.
pub struct Section {
    pub name: String,
    pub entries: Vec<Entry>,
}

/// `key = value # comment`; a value may go over several lines.
pub struct Entry {
    pub key: String,
    pub value: String,
    pub comment: String,
    pub line: usize,
}

pub struct Manifest {
    pub sections: Vec<Section>,
}

impl Manifest {
    pub fn new(text: &str) -> Self {
        let mut sections = vec![Section { name: String::new(), entries: Vec::new() }];
        let mut depth = 0;
        for (number, line) in text.lines().enumerate() {
            let (code, comment) = without_comment(line);
            let code = code.trim();
            if depth == 0 && code.starts_with('[') {
                let name = code.trim_matches(['[', ']']).to_owned();
                sections.push(Section { name, entries: Vec::new() });
                continue;
            }
            let entries = &mut sections.last_mut().expect("there is a first section").entries;
            match code.split_once('=') {
                Some((key, value)) if depth == 0 => entries.push(Entry {
                    key: key.trim().trim_matches('"').to_owned(),
                    value: value.trim().to_owned(),
                    comment: comment.trim().to_owned(),
                    line: number + 1,
                }),
                _ => {
                    if let Some(entry) = entries.last_mut().filter(|_| depth > 0) {
                        entry.value += code;
                        entry.comment += comment.trim();
                    }
                }
            }
            depth += brackets(code);
        }
        Self { sections }
    }

    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Tests, benches, examples and binaries.
    pub fn targets(&self) -> impl Iterator<Item = &Section> {
        self.sections.iter().filter(|s| ["lib", "bin", "test", "bench", "example"].contains(&s.name.as_str()))
    }
}

impl Section {
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The value of a key that is one string.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.entry(key).and_then(|entry| entry.value.split('"').nth(1))
    }

    /// The strings in the value of a key.
    pub fn texts(&self, key: &str) -> Vec<&str> {
        self.entry(key).map_or_else(Vec::new, |entry| entry.value.split('"').skip(1).step_by(2).collect())
    }
}

fn without_comment(line: &str) -> (&str, &str) {
    let mut quoted = false;
    for (at, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '#' if !quoted => return (&line[..at], &line[at + 1..]),
            _ => {}
        }
    }
    (line, "")
}

fn brackets(code: &str) -> i32 {
    let mut quoted = false;
    let mut depth = 0;
    for c in code.chars() {
        match c {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            _ => {}
        }
    }
    depth
}

#[test]
fn sections_values_and_comments_are_read() {
    let text = "a = 1\n[dependencies]\nb = { v = \"1#\", f = [\"x\"] } # why\nc = [ # this\n  \"y\", # that\n  \"z\",\n]\n[[test]]\npath = \"p\"\n";
    let manifest = Manifest::new(text);
    let section = manifest.section("dependencies").unwrap();
    assert_eq!(section.entry("b").unwrap().comment, "why");
    assert_eq!(section.texts("c"), ["y", "z"]);
    assert_eq!((section.entry("c").unwrap().line, section.entries.len()), (4, 2));
    assert_eq!(manifest.targets().next().unwrap().text("path"), Some("p"));
}
