//! As whom the processes of a container run: what decides which files they may read.
//!
//! Read from a pod's manifest by `volume`, given to a mover that may not be root.

use serde::{Deserialize, Serialize};

/// None where neither the container nor its pod says it: the image decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub uid: Option<i64>,
    pub gid: Option<i64>,
    /// Beside `gid`: `supplementalGroups` and `fsGroup`; sorted, each once.
    pub groups: Vec<i64>,
}
