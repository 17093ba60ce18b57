//! Whose files a volume holds: the user and groups that its consumer runs as.

/// The user and groups of a volume's consumer, as far as its pod says.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    pub uid: Option<i64>,
    pub gid: Option<i64>,
    /// Supplemental groups, fsGroup among them.
    pub groups: Vec<i64>,
}
