//! `kist catalog rebuild`

use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::render;
use crate::cli::settings::Settings;
use crate::job::record;

pub async fn rebuild(settings: &Settings) -> Result<Exit, Failure> {
    let opened = settings.open().await?;
    let path = settings
        .catalog_path(opened.catalog_id())
        .ok_or_else(|| Failure::usage("no place for a catalog").hint("set KIST_CATALOG or HOME"))?;
    let rebuilt = record::rebuild(&opened, &path).await?;
    if settings.json {
        let fields = json!({ "path": path.display().to_string(), "snapshots": rebuilt.snapshots, "unreadable": rebuilt.unreadable });
        render::object("catalog", fields);
    } else {
        render::line(&format!("{}: {} snapshots", path.display(), rebuilt.snapshots));
        if rebuilt.unreadable > 0 {
            render::line(&format!("{} snapshots can't be read with this key", rebuilt.unreadable));
        }
    }
    Ok(Exit::Complete)
}
