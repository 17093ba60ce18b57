//! `kist init`

use serde_json::json;

use crate::cli::args::Init as Args;
use crate::cli::exit::{Exit, Failure};
use crate::cli::key::{check_free, write_key};
use crate::cli::render;
use crate::cli::settings::{Elsewhere, Settings};
use crate::crypto::kdf::Params;
use crate::format::config::Chunker;
use crate::repo::{self, Degrade, Init, LikeKeys};

pub async fn run(settings: &Settings, args: Args) -> Result<Exit, Failure> {
    let passphrase = match &args.new_key_file {
        Some(path) => {
            check_free(path)?;
            None
        }
        None => Some(settings.passphrase("New passphrase: ", true)?),
    };
    let like = match &args.like {
        Some(repo) => Some(like(settings, repo, &args).await?),
        None => None,
    };
    let store = settings.store(true)?;
    let init = Init {
        passphrase,
        cost: Params::DEFAULT,
        chunker: Chunker::DEFAULT,
        degrade: if args.single_writer { Degrade::SingleWriter } else { Degrade::Refuse },
        like,
    };
    let (made, key_file) = repo::init(store, &settings.world, init).await?;
    if let (Some(path), Some(key)) = (&args.new_key_file, &key_file) {
        write_key(path, &key.to_text(&format!("kist: owner of repository {}", made.config.repo)))?;
    }
    if settings.json {
        let fields = json!({
            "repository": made.config.repo.to_string(),
            "store": made.store.to_string(),
            "singleWriter": made.config.single_writer(),
        });
        render::object("init", fields);
        return Ok(Exit::Complete);
    }
    render::line(&format!("made repository {} at {}", made.config.repo, made.store));
    if made.config.single_writer() {
        render::line("this store can't create exclusively: never run two writers at a time");
    }
    render::line(
        "whoever loses the owner's passphrase or key file loses everything in it: keep a copy elsewhere",
    );
    Ok(Exit::Complete)
}

/// What the new repository takes over from another one, of the domain that its owner opens by default.
async fn like(settings: &Settings, repo: &str, args: &Args) -> Result<LikeKeys, Failure> {
    let (passphrase_file, key_file) = (&args.like_passphrase_file, &args.like_key_file);
    let other = Elsewhere { repo, passphrase_file, key_file, domain: &None };
    let opened = settings.elsewhere(other)?.open().await?;
    Ok(opened.keys.like_keys(opened.config.chunker)?)
}
