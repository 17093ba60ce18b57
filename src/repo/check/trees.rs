//! The structure of every snapshot: each node read once, however many snapshots share it, and each reference looked
//! up in the index.

use std::sync::Arc;

use crate::format::id::RecordId;
use crate::progress::Progress;
use crate::repo::bits::Bits;
use crate::repo::check::damage::Damage;
use crate::repo::check::finding::{Finding, Told};
use crate::repo::levels::{self, Met};
use crate::repo::{Reader, Result, Snapshot};

/// Walks all snapshots together. Gives how many nodes there are.
pub async fn walk(
    reader: &Arc<Reader>,
    snapshots: &[Snapshot],
    damage: &mut Damage,
    tell: &(dyn Fn(Told) + Sync),
    progress: &dyn Progress,
) -> Result<u64> {
    let index = reader.index();
    let mut nodes = 0;
    let roots = snapshots.iter().flat_map(|snapshot| &snapshot.commit.roots).map(|root| root.node);
    let meet = |_: &mut Bits, met| {
        nodes += u64::from(!matches!(met, Met::Missing(_)));
        match met {
            Met::Missing(id) => missing(RecordId::Node(id), damage, tell),
            Met::Chunks(chunks) => {
                let chunks = chunks.into_iter().map(RecordId::Chunk);
                for chunk in chunks.filter(|chunk| !index.contains(chunk)) {
                    missing(chunk, damage, tell);
                }
            }
            Met::Unreadable(_, error) if !error.is_damage() => return Err(error),
            Met::Unreadable(id, source) => {
                damage.nodes.insert(id);
                tell(Told::Found(Finding::Node { id: RecordId::Node(id), source }));
            }
        }
        Ok(())
    };
    let mut seen = Bits::new(index.len());
    levels::walk(reader, roots, &mut seen, || progress.is_cancelled(), false, meet).await?;
    Ok(nodes)
}

fn missing(id: RecordId, damage: &mut Damage, tell: &(dyn Fn(Told) + Sync)) {
    if damage.missing.insert(id) {
        tell(Told::Found(Finding::Missing { id }));
    }
}
