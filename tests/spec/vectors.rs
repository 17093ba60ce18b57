//! Every vector is checked, and is what the code makes today from the same inputs.

use std::collections::BTreeSet;
use std::sync::Once;

use crate::check::check;
use crate::make;
use crate::vector::{Outcome, Vector, class, load_all};

#[test]
fn every_vector_decodes_to_its_fields_and_encodes_to_its_bytes_or_is_refused_as_stated() {
    write_missing();
    let vectors = load_all();
    assert!(!vectors.is_empty());
    for vector in &vectors {
        match (check(vector), &vector.outcome) {
            (Ok(checked), Outcome::Fields(fields)) => {
                assert_eq!(&checked.fields, fields, "{}: fields", vector.name);
                assert_eq!(checked.encoded, vector.encoded, "{}: encoded again", vector.name);
            }
            (Err(error), Outcome::Error(stated)) => {
                assert_eq!(class(&error), stated, "{}: {error}", vector.name);
            }
            (Ok(_), Outcome::Error(stated)) => panic!("{}: accepted, not {stated}", vector.name),
            (Err(error), Outcome::Fields(_)) => panic!("{}: refused: {error}", vector.name),
        }
    }
}

#[test]
fn the_vectors_are_what_is_made_from_the_same_inputs() {
    write_missing();
    let (stored, made) = (load_all(), make::all());
    let names = |all: &[Vector]| all.iter().map(|v| v.name.clone()).collect::<BTreeSet<_>>();
    assert_eq!(names(&made).len(), made.len(), "a name is used twice");
    assert_eq!(names(&stored), names(&made));
    for made in made {
        let stored = stored.iter().find(|stored| stored.name == made.name).expect("the names are equal");
        assert!(*stored == made, "{}: stored\n{}\nmade\n{}", made.name, stored.to_text(), made.to_text());
    }
}

#[test]
fn every_form_has_a_vector_that_holds() {
    write_missing();
    let fine = |form: &str| {
        let holds = |v: &Vector| v.form == form && matches!(v.outcome, Outcome::Fields(_));
        make::all().iter().any(holds)
    };
    for form in crate::check::FORMS {
        assert!(fine(form), "{form}");
    }
}

/// With `KIST_VECTORS=write`: writes the vectors that are not there, once.
pub fn write_missing() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if std::env::var_os("KIST_VECTORS").is_some_and(|value| value == "write") {
            make::all().iter().for_each(|v| crate::corpus::write_new(&v.path(), v.to_text().as_bytes()));
        }
    });
}
