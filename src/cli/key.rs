//! `kist key`: add, list, remove, rotate; the recovery page; and how key files are written.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::args::{self, KeyAdd, KeyRecover, KeyRecovery, KeyRotate, KeyWhat};
use crate::cli::exit::{Exit, Failure};
use crate::cli::render;
use crate::cli::settings::{SECRET_FILE_LIMIT, Settings, read_secret};
use crate::crypto::kdf::Params;
use crate::crypto::secret::Passphrase;
use crate::format::entry::escape;
use crate::format::keys::{KeyFile, Role, Trust};
use crate::format::object::domain_folder;
use crate::repo::{self, KeyInfo, NewKey, Repository, chain};

pub async fn run(settings: &Settings, what: KeyWhat) -> Result<Exit, Failure> {
    match what {
        KeyWhat::Add(args) => add(settings, args).await,
        KeyWhat::List => list(settings).await,
        KeyWhat::Remove { key } => remove(settings, &key).await,
        KeyWhat::Rotate(KeyRotate { key: Some(key), out: Some(out), .. }) => {
            rotate(settings, &key, &out).await
        }
        KeyWhat::Rotate(_) => rotate_owner(settings).await,
        KeyWhat::Recovery(args) => recovery(settings, args).await,
        KeyWhat::Recover(args) => recover(settings, &args),
    }
}

impl From<args::Role> for Role {
    fn from(role: args::Role) -> Self {
        match role {
            args::Role::Owner => Role::Owner,
            args::Role::Writer => Role::Writer,
            args::Role::Maintainer => Role::Maintainer,
            args::Role::Reader => Role::Reader,
        }
    }
}

async fn add(settings: &Settings, args: KeyAdd) -> Result<Exit, Failure> {
    let role = Role::from(args.role);
    if role != Role::Writer && args.trust == args::Trust::Shared {
        return Err(Failure::usage("--trust is a writer's"));
    }
    let Some(out) = &args.out else { return add_passphrase(settings, &args, role).await };
    check_free(out)?;
    let opened = settings.open().await?;
    let trust = match args.trust {
        args::Trust::Own => Trust::Own,
        args::Trust::Shared => Trust::Shared,
    };
    let new = NewKey { trust, ..NewKey::of(role, &args.name) };
    let key = repo::add_key(&opened, &new).await?;
    write_key(out, &key.to_text(&comment(&opened, role, &args.name)))?;
    if settings.json {
        let domain = if role == Role::Owner { None } else { Some(opened.keys.domain_name()) };
        let fields = json!({
            "role": role.to_string(), "name": args.name, "id": key.slot.to_string(), "domain": domain,
        });
        render::object("key", fields);
        return Ok(Exit::Complete);
    }
    render::line(&format!("wrote the key of {role} {} to {}", args.name, out.display()));
    render::line(match role {
        Role::Owner => "it can do everything: keep it off line",
        Role::Writer => "it can add backups and read the names of its own, not their contents",
        Role::Maintainer => "it can forget, prune and check; it opens no name and no content",
        Role::Reader => "it can read everything in its domain, and adds nothing",
    });
    Ok(Exit::Complete)
}

async fn add_passphrase(settings: &Settings, args: &KeyAdd, role: Role) -> Result<Exit, Failure> {
    let Some(file) = &args.new_passphrase_file else { unreachable!("clap asks for one of the two") };
    if role != Role::Owner {
        return Err(Failure::usage(format!("a {role} has a key file, and no passphrase")));
    }
    let passphrase = Passphrase::new(read_secret(file)?.to_vec());
    if passphrase.is_empty() {
        return Err(Failure::usage("the new passphrase is empty"));
    }
    let opened = settings.open().await?;
    let slot = repo::add_passphrase(&opened, &args.name, &passphrase, Params::DEFAULT).await?;
    if settings.json {
        let fields = json!({
            "role": role.to_string(), "name": args.name, "id": slot.to_string(), "domain": null,
        });
        render::object("key", fields);
    } else {
        render::line(&format!(
            "{} is a passphrase of the owner's now, beside those that there are",
            args.name
        ));
    }
    Ok(Exit::Complete)
}

fn comment(opened: &Repository, role: Role, name: &str) -> String {
    format!("kist: {role} {name:?} of repository {}", opened.config.repo)
}

async fn list(settings: &Settings) -> Result<Exit, Failure> {
    let opened = settings.open().await?;
    let listed = repo::list_keys(&opened).await?;
    for key in &listed.keys {
        show(settings, key);
    }
    for (id, error) in &listed.unreadable {
        let message = format!("keys/{id}: {}", chain(error));
        match settings.json {
            true => render::object("finding", json!({ "message": message })),
            false => render::line(&message),
        }
    }
    Ok(if listed.unreadable.is_empty() { Exit::Complete } else { Exit::Damaged })
}

fn show(settings: &Settings, key: &KeyInfo) {
    let is_owner = key.role == Role::Owner;
    let name = escape(key.name.as_bytes());
    if settings.json {
        let fields = json!({
            "role": key.role.to_string(), "name": key.name, "id": key.slot.to_string(),
            "key": key.key.to_string(), "serial": key.serial,
            "domain": if is_owner { None } else { Some(key.domain.name()) },
            "folder": if is_owner { None } else { domain_folder(key.domain.id()) },
            "created": render::time(key.created), "passphrase": key.by_passphrase,
            "trust": if key.role == Role::Writer { Some(key.trust.to_string()) } else { None },
            "revoked": key.is_revoked, "old": key.is_old,
        });
        return render::object("key", fields);
    }
    let domain = if is_owner { "all domains" } else { key.domain.name() };
    let id = &key.slot.to_string()[..8];
    let mut line = format!("{id}  {:<10}  {name:<20}  {domain:<12}  {}", key.role, render::time(key.created));
    if key.by_passphrase {
        line.push_str("  passphrase");
    }
    if let Some(folder) = domain_folder(key.domain.id()).filter(|_| !is_owner) {
        line.push_str(&format!("  in {folder}/"));
    }
    if key.trust == Trust::Shared {
        line.push_str("  trusts its domain");
    }
    if key.serial > 0 {
        line.push_str(&format!("  rotated {} times", key.serial));
    }
    if key.is_revoked {
        line.push_str("  revoked: the store has its slot still, or again; remove it");
    }
    if key.is_old {
        line.push_str("  not of the newest epoch: `kist key rotate --owner`, unless the slot was put back");
    }
    render::line(&line);
}

async fn remove(settings: &Settings, which: &str) -> Result<Exit, Failure> {
    let opened = settings.open().await?;
    for slot in repo::list_keys(&opened).await?.slots(which)? {
        repo::remove_key(&opened, slot).await?;
        match settings.json {
            true => render::object("removed", json!({ "id": slot.to_string() })),
            false => render::line(&format!("removed {slot}: what opened it opens nothing any more")),
        }
    }
    if !settings.json {
        render::line(
            "whoever has opened it before may have kept what was in it: see `kist key rotate --help`",
        );
    }
    Ok(Exit::Complete)
}

async fn rotate(settings: &Settings, which: &str, out: &Path) -> Result<Exit, Failure> {
    check_free(out)?;
    let opened = settings.open().await?;
    let rotated = repo::rotate_key(&opened, which).await?;
    let info = &rotated.info;
    // Written and durable before the old one goes: until then that one opens.
    write_key(out, &rotated.key.to_text(&comment(&opened, info.role, &info.name)))?;
    for slot in &rotated.replaced {
        repo::remove_key(&opened, *slot).await?;
    }
    if settings.json {
        show(settings, info);
    } else {
        let name = escape(info.name.as_bytes());
        render::line(&format!("wrote the new key of {} {name} to {}", info.role, out.display()));
        render::line("the old file opens nothing any more: put the new one in its place");
    }
    Ok(Exit::Complete)
}

async fn rotate_owner(settings: &Settings) -> Result<Exit, Failure> {
    let opened = settings.open().await?;
    let slots = repo::rotate_owner(&opened).await?;
    if settings.json {
        render::object("rotated", json!({ "slots": slots }));
    } else {
        render::line(&format!("sealed {slots} slots again: all keys and passphrases stay as they are"));
        render::line("backups that begin from now on can't be read with what was known before");
    }
    Ok(Exit::Complete)
}

async fn recovery(settings: &Settings, args: KeyRecovery) -> Result<Exit, Failure> {
    check_free(&args.out)?;
    let opened = settings.open().await?;
    let key = repo::add_key(&opened, &NewKey::of(Role::Owner, &args.name)).await?;
    write_key(&args.out, &page(&opened, &key, &args.name))?;
    if settings.json {
        render::object("recovery", json!({ "name": args.name, "id": key.slot.to_string() }));
    } else {
        render::line(&format!("wrote the page to {}: print it, then delete the file", args.out.display()));
        render::line("whoever has the page can do everything: lock it away, not beside the backups");
    }
    Ok(Exit::Complete)
}

/// What a person prints. No line but those of the key begins with a number.
fn page(opened: &Repository, key: &KeyFile, name: &str) -> Zeroizing<String> {
    let (repository, store) = (opened.config.repo, opened.top.to_string());
    let made = render::time(opened.world.now());
    let kit = key.to_kit();
    Zeroizing::new(format!(
        "kist recovery page

Repository:  {repository}
Store:       {store}
Made:        {made}
Key:         {name} ({slot})

Whoever has this page reads every backup in the repository, and can delete it.
Lock it away; not where the backups are.

{lines}
To get the repository back, on any machine that has kist:
 - Type the eight lines with their numbers into a file. Capitals or not, spaces
   or not; O is read as 0, and I and L as 1. A mistake is named by its line.
 - kist key recover --from FILE --out owner.key
 - Set KIST_REPO to the store, KIST_KEY_FILE to owner.key; then: kist snapshots

To make the page worthless: kist key remove {name}
",
        slot = key.slot,
        lines = *kit,
    ))
}

fn recover(settings: &Settings, args: &KeyRecover) -> Result<Exit, Failure> {
    check_free(&args.out)?;
    let typed = match args.from.as_os_str() == "-" {
        true => {
            let mut typed = Zeroizing::new(Vec::new());
            let read = std::io::stdin().lock().take(SECRET_FILE_LIMIT).read_to_end(&mut typed);
            read.map_err(|error| Failure::other(format!("the standard input can't be read: {error}")))?;
            typed
        }
        false => read_secret(&args.from)?,
    };
    let text = Zeroizing::new(String::from_utf8_lossy(&typed).into_owned());
    let key = KeyFile::from_kit(&text).map_err(|error| {
        Failure::usage(error.to_string()).hint("look at that line of the page and type it again")
    })?;
    write_key(&args.out, &key.to_text(&format!("kist: recovered owner of repository {}", key.repo)))?;
    if settings.json {
        let fields = json!({ "repository": key.repo.to_string(), "id": key.slot.to_string() });
        render::object("recovered", fields);
    } else {
        render::line(&format!("wrote the owner's key of repository {} to {}", key.repo, args.out.display()));
    }
    Ok(Exit::Complete)
}

/// A key file is never overwritten: looked at before anything is made.
pub fn check_free(path: &Path) -> Result<(), Failure> {
    match path.symlink_metadata() {
        Ok(_) => Err(Failure::usage(format!("{} exists already; it was left as it is", path.display()))),
        Err(_) => Ok(()),
    }
}

/// Writes a new file that only its owner can read, and makes it durable.
pub fn write_key(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        // Its name, too: the slot that opened before goes next.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    write()
        .map_err(|error| Failure::other(format!("the key can't be written to {}: {error}", path.display())))
}
