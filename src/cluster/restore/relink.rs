//! References to owners, with the UIDs that the target gave.
//!
//! A reference with an old UID would make the garbage collector delete the object, so none is ever posted:
//! owners whose new UID is known go into the body, the rest are patched in once they are made.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::cluster::manifest::ObjectKey;
use crate::cluster::restore::Owner;

/// An object whose owners are not all linked yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub object: ObjectKey,
    pub owners: Vec<Owner>,
    /// How many are linked already.
    pub linked: usize,
}

/// Old UIDs → new ones, of what was made.
pub(super) type Uids = HashMap<String, String>;

/// The references that can be written now.
pub(super) fn known(owners: &[Owner], uids: &Uids) -> Vec<Value> {
    let with_uid = |owner: &Owner| {
        let uid = owner.new_uid.as_ref().or_else(|| uids.get(&owner.old_uid))?;
        let mut reference = owner.reference.clone();
        reference["uid"] = json!(uid);
        Some(reference)
    };
    owners.iter().filter_map(with_uid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_owners_that_are_there_are_linked() {
        let owner = |name: &str, old: &str, new: Option<&str>| Owner {
            reference: json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name, "controller": true}),
            old_uid: old.into(),
            new_uid: new.map(str::to_owned),
        };
        let owners = [owner("a", "1", None), owner("b", "2", None), owner("c", "3", Some("there"))];
        let uids = [("2".to_owned(), "new".to_owned())].into();
        let reference = |name: &str, uid: &str| json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name, "controller": true, "uid": uid});
        assert_eq!(known(&owners, &uids), [reference("b", "new"), reference("c", "there")]);
    }
}
