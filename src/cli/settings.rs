//! From arguments and environment to what the verbs need. The only reader of the environment, the
//! clock and the system's randomness.

use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use crate::catalog::Catalog;
use crate::cli::args::{Args, Choice};
use crate::cli::exit::Failure;
use crate::cli::seen::Kept;
use crate::crypto::secret::Passphrase;
use crate::format::id::{RepoId, hex};
use crate::format::keys::KeyFile;
use crate::format::task::{Direct, Hidden};
use crate::job::find::{Filter, Which};
use crate::pace::Limits;
use crate::repo::{self, Repository, Seen, Unlock};
use crate::store::{AzureKeys, AzureSettings, GcsKeys, S3Keys, S3Settings, Store, StoreSettings, StoreUrl};
use crate::world::{Clock, Random, Time, World};

/// The most that a passphrase or key file may have, in bytes.
pub const SECRET_FILE_LIMIT: u64 = 64 * 1024;

pub struct Settings {
    repo: Option<String>,
    passphrase_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    domain: Option<String>,
    catalog: Option<PathBuf>,
    no_catalog: bool,
    pub json: bool,
    pub limits: Limits,
    pub world: World,
    /// Put before the names of the store's variables, for another repository than KIST_REPO.
    prefix: &'static str,
    /// What this machine remembers of the repositories that were opened.
    seen: Arc<Mutex<Vec<Kept>>>,
}

/// Another repository than KIST_REPO, and what opens it.
pub struct Elsewhere<'a> {
    pub repo: &'a str,
    pub passphrase_file: &'a Option<PathBuf>,
    pub key_file: &'a Option<PathBuf>,
    pub domain: &'a Option<String>,
}

impl Settings {
    pub fn new(args: &Args) -> Result<Self, Failure> {
        if args.passphrase_file.is_some() && args.key_file.is_some() {
            return Err(Failure::usage("both a passphrase file and a key file are given")
                .hint("unset one of KIST_PASSPHRASE_FILE and KIST_KEY_FILE"));
        }
        Ok(Self {
            repo: args.repo.clone(),
            passphrase_file: args.passphrase_file.clone(),
            key_file: args.key_file.clone(),
            domain: args.domain.clone(),
            catalog: args.catalog.clone(),
            no_catalog: args.no_catalog,
            json: args.json,
            limits: crate::cli::pace::limits(&args.pace)?,
            world: World::new(SystemClock, SystemRandom),
            prefix: "",
            seen: Arc::default(),
        })
    }

    /// The same for another repository. It has no catalog.
    pub fn elsewhere(&self, other: Elsewhere<'_>) -> Result<Self, Failure> {
        if other.passphrase_file.is_some() && other.key_file.is_some() {
            return Err(Failure::usage(
                "both a passphrase file and a key file of the other repository are given",
            )
            .hint("give one of them; look at KIST_FROM_PASSPHRASE_FILE and KIST_FROM_KEY_FILE too"));
        }
        Ok(Self {
            repo: Some(other.repo.to_owned()),
            passphrase_file: other.passphrase_file.clone(),
            key_file: other.key_file.clone(),
            domain: other.domain.clone(),
            catalog: None,
            no_catalog: true,
            json: self.json,
            limits: self.limits,
            world: self.world.clone(),
            prefix: "KIST_FROM_",
            seen: self.seen.clone(),
        })
    }

    /// Opens the store; only `init` may make its folder.
    pub fn store(&self, create_folder: bool) -> Result<Store, Failure> {
        let url = self
            .repo
            .as_deref()
            .ok_or_else(|| Failure::usage("no repository is given").hint("set KIST_REPO, or give --repo"))?;
        let url = StoreUrl::parse(url)?;
        let upload_limit = self.limits.upload;
        let settings = StoreSettings { create_folder, upload_limit, ..store_settings(&url, self.prefix)? };
        Ok(Store::open(&url, &settings)?)
    }

    /// Opens the repository with the passphrase or key that is given.
    pub async fn open(&self) -> Result<Repository, Failure> {
        let unlock = self.unlock()?;
        self.open_with(&unlock).await
    }

    /// Opens to read a snapshot. One that is named by its id is read even where the log does not hold.
    pub async fn open_to_read(&self, which: &Which) -> Result<Repository, Failure> {
        let opened = self.open().await?;
        Ok(if *which == Which::Latest { opened } else { opened.going_on() })
    }

    pub async fn open_with(&self, unlock: &Unlock) -> Result<Repository, Failure> {
        let store = self.store(false)?;
        let opened = repo::open(store, &self.world, unlock, self.domain.as_deref()).await?;
        let (own, given, all) = (opened.catalog_id(), self.catalog.clone(), self.seen.clone());
        // Without a catalog too: that is derived, and this is not.
        let seen_of = move |id| match local_path(given.as_deref().filter(|_| id == own), id) {
            None => Seen::default(),
            Some(path) => {
                let (kept, seen) = Kept::load(path.with_extension("seen"));
                all.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
                seen
            }
        };
        Ok(opened.with_scratch(std::env::temp_dir()).remembering(seen_of))
    }

    /// Keeps what was seen of the repositories that were opened.
    pub fn remember(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(Kept::save);
    }

    /// How a mover reaches the store without us. None for a folder of this machine; and for other
    /// buckets than S3's not yet: movers go through us.
    pub fn direct(&self) -> Result<Option<Direct>, Failure> {
        let text = self.repo.as_deref().unwrap_or_default();
        let url = StoreUrl::parse(text)?;
        let StoreUrl::S3(_) = url else { return Ok(None) };
        let StoreSettings { s3: S3Settings { keys, region }, network, .. } =
            store_settings(&url, self.prefix)?;
        let Some(keys) = keys else { return Ok(None) };
        let hidden = |text: &Zeroizing<String>| Hidden(text.clone());
        let (id, secret, token) = keys.parts();
        Ok(Some(Direct {
            url: text.to_owned(),
            access_key_id: Hidden(Zeroizing::new(id.to_owned())),
            secret_access_key: hidden(secret),
            session_token: token.map(hidden),
            region,
            authorities: network.authorities_pem.and_then(|pem| String::from_utf8(pem).ok()),
        }))
    }

    /// How a pod reaches the store.
    pub fn reached_by_pods(&self) -> Result<Direct, Failure> {
        let no_keys = || {
            Failure::usage("no credentials for the bucket are given")
                .hint("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        };
        let text = self
            .repo
            .as_deref()
            .ok_or_else(|| Failure::usage("no repository is given").hint("set KIST_REPO"))?;
        match StoreUrl::parse(text)? {
            StoreUrl::S3(_) => self.direct()?.ok_or_else(no_keys),
            StoreUrl::Folder(path) => Err(Failure::usage(format!(
                "the repository is the folder {}, which no pod can reach",
                path.display()
            ))
            .hint("use one in a bucket: s3://bucket/prefix?endpoint=URL")),
            url @ (StoreUrl::Gcs(_) | StoreUrl::Azure(_)) => {
                Err(Failure::usage(format!("pods can't be given the credentials of {url} yet"))
                    .hint("use an s3:// bucket, or run `kist backup cluster` outside of the cluster"))
            }
        }
    }

    /// The text of the key file that is given.
    pub fn key_text(&self) -> Result<Zeroizing<String>, Failure> {
        let path = self.key_file.as_ref().ok_or_else(|| {
            Failure::usage("no writer's bundle is given").hint("set KIST_KEY_FILE, or give --key-file")
        })?;
        read_text(path)
    }

    /// What unlocks the repository; asks for it if need be.
    pub fn unlock(&self) -> Result<Unlock, Failure> {
        if let Some(path) = &self.key_file {
            let key = KeyFile::parse(&self.key_text()?)
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
            return Ok(Unlock::KeyFile(key));
        }
        let prompt =
            if self.prefix.is_empty() { "Passphrase: " } else { "Passphrase of the other repository: " };
        Ok(Unlock::Passphrase(self.passphrase(prompt, false)?))
    }

    /// The passphrase: from its file, or typed; twice for a new one.
    pub fn passphrase(&self, prompt: &str, new: bool) -> Result<Passphrase, Failure> {
        let given = match &self.passphrase_file {
            Some(path) => Passphrase::new(read_secret(path)?.to_vec()),
            None => {
                let first = ask(prompt)?;
                if new && ask("Again: ")?.expose() != first.expose() {
                    return Err(Failure::usage("the two passphrases differ"));
                }
                first
            }
        };
        match given.is_empty() {
            true => Err(Failure::usage("the passphrase is empty")),
            false => Ok(given),
        }
    }

    /// The catalog, if there is one that can be used; questions are answered without it too.
    pub fn catalog(&self, id: RepoId) -> Option<Catalog> {
        let path = self.catalog_path(id).filter(|path| path.exists())?;
        Catalog::open(&path, id).map_err(|error| tracing::info!(%error, "done without the catalog")).ok()
    }

    /// Where the catalog of a repository is; none if it is done without.
    pub fn catalog_path(&self, id: RepoId) -> Option<PathBuf> {
        if self.no_catalog { None } else { local_path(self.catalog.as_deref(), id) }
    }
}

/// Where this machine keeps a repository's catalog: the path that is given, or one by its id.
fn local_path(given: Option<&Path>, id: RepoId) -> Option<PathBuf> {
    let default = || {
        let cache = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty());
        let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
        let cache = cache.map(PathBuf::from).or_else(home)?;
        Some(cache.join("kist").join(format!("{}.sqlite", hex(&id.0))))
    };
    given.map(Path::to_owned).or_else(default)
}

/// The kubeconfigs to use: the one that is given, those of KUBECONFIG, or the usual one if it is there.
pub fn kubeconfigs(given: Option<PathBuf>) -> Vec<PathBuf> {
    if let Some(given) = given {
        return vec![given];
    }
    if let Some(listed) = std::env::var_os("KUBECONFIG").filter(|listed| !listed.is_empty()) {
        return std::env::split_paths(&listed).filter(|path| path.exists()).collect();
    }
    let usual = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
    usual.into_iter().filter(|path| path.exists()).collect()
}

/// A length of time such as `90s` or `10m`.
pub fn duration(text: &str) -> Result<Duration, Failure> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|parsed| Duration::try_from(parsed).ok());
    parsed
        .filter(|parsed| !parsed.is_zero())
        .ok_or_else(|| Failure::usage(format!("{text:?} is not a length of time")).hint("write 90s, 10m, 2h"))
}

/// What the environment says of the store that is meant, and of no other. With a prefix: what is not set so is taken
/// from the variables without.
fn store_settings(url: &StoreUrl, prefix: &str) -> Result<StoreSettings, Failure> {
    const KEYS: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
    let given = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let own = |name: &str| given(&format!("{prefix}{}", name.strip_prefix("KIST_").unwrap_or(name)));
    let own_keys = !prefix.is_empty() && own(KEYS[0]).is_some();
    let var = |name: &str| match prefix.is_empty() {
        true => given(name),
        // Another's secret or token must not be joined to this id.
        false => own(name).or_else(|| given(name).filter(|_| !(own_keys && KEYS.contains(&name)))),
    };
    let secret = |name: &str| var(name).map(Zeroizing::new);
    let mut settings = StoreSettings::default();
    match url {
        StoreUrl::Folder(_) => return Ok(settings),
        StoreUrl::S3(_) => {
            let keys = var("AWS_ACCESS_KEY_ID").zip(secret("AWS_SECRET_ACCESS_KEY"));
            let keys = keys.map(|(id, key)| S3Keys::new(id, key, secret("AWS_SESSION_TOKEN")));
            let region = var("AWS_REGION").or_else(|| var("AWS_DEFAULT_REGION"));
            settings.s3 = S3Settings { keys, region };
        }
        StoreUrl::Gcs(_) => {
            let token = secret("GOOGLE_OAUTH_ACCESS_TOKEN").map(GcsKeys::Token);
            let file = var("GOOGLE_APPLICATION_CREDENTIALS");
            settings.gcs.keys = match (token, file) {
                (Some(token), _) => Some(token),
                (None, Some(path)) => Some(GcsKeys::ServiceAccount(read_text(Path::new(&path))?)),
                (None, None) => None,
            };
        }
        StoreUrl::Azure(_) => {
            let key = secret("AZURE_STORAGE_KEY").map(AzureKeys::Account);
            let keys = key.or_else(|| secret("AZURE_STORAGE_SAS_TOKEN").map(AzureKeys::Sas));
            settings.azure = AzureSettings { account: var("AZURE_STORAGE_ACCOUNT"), keys };
        }
    }
    if let Some(path) = var("KIST_CA_FILE") {
        let failed = |error| Failure::usage(format!("KIST_CA_FILE: {path} can't be read: {error}"));
        settings.network.authorities_pem = Some(std::fs::read(&path).map_err(failed)?);
    }
    Ok(settings)
}

fn read_text(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let bytes = read_secret(path)?;
    let text =
        std::str::from_utf8(&bytes).map_err(|_| Failure::usage(format!("{} is no text", path.display())))?;
    Ok(Zeroizing::new(text.to_owned()))
}

pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: std::io::Error| Failure::usage(format!("{} can't be read: {error}", path.display()));
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > SECRET_FILE_LIMIT {
        return Err(Failure::usage(format!("{} is larger than {SECRET_FILE_LIMIT} bytes", path.display())));
    }
    Ok(Zeroizing::new(std::fs::read(path).map_err(failed)?))
}

/// Asks on the terminal, without showing what is typed.
fn ask(prompt: &str) -> Result<Passphrase, Failure> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::usage("neither a passphrase nor a key is given")
            .hint("set KIST_PASSPHRASE_FILE or KIST_KEY_FILE"));
    }
    let mut err = std::io::stderr();
    let _ = write!(err, "{prompt}").and_then(|()| err.flush());
    let shown = tcgetattr(&stdin).ok();
    if let Some(shown) = &shown {
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        let _ = tcsetattr(&stdin, OptionalActions::Flush, &hidden);
    }
    let mut line = Zeroizing::new(Vec::new());
    let read = stdin.lock().read_until(b'\n', &mut line);
    if let Some(shown) = &shown {
        let _ = tcsetattr(&stdin, OptionalActions::Flush, shown);
    }
    let _ = writeln!(err);
    read.map_err(|error| Failure::other(format!("the passphrase can't be read: {error}")))?;
    Ok(Passphrase::new(line.to_vec()))
}

/// This host's name.
pub fn host_name() -> String {
    String::from_utf8_lossy(rustix::system::uname().nodename().to_bytes()).into_owned()
}

/// A path as given, made absolute without following links; `..` goes by what is written.
pub fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    if path.as_os_str().as_bytes().is_empty() {
        return Err(Failure::usage("a path is empty"));
    }
    let path =
        std::path::absolute(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(clean.pop()),
            part => clean.push(part),
        }
    }
    Ok(clean)
}

/// `SNAP[:PATH]`.
pub fn snapshot_and_path(text: &str) -> (Which, Option<&str>) {
    match text.split_once(':') {
        Some((snapshot, path)) => (Which::parse(snapshot), Some(path)),
        None => (Which::parse(text), None),
    }
}

impl Choice {
    pub fn filter(&self) -> Result<Filter, Failure> {
        let at = self.at.as_deref().map(parse_time).transpose()?;
        Ok(Filter { at, host: self.host.clone(), source: self.source.clone(), tag: self.tag.clone() })
    }
}

/// A time with an offset, or a local one; a date means its end.
fn parse_time(text: &str) -> Result<Time, Failure> {
    use jiff::{Timestamp, civil, tz::TimeZone};
    let wrong = || {
        Failure::usage(format!("{text:?} is not a time"))
            .hint("write 2026-09-01T12:00Z, 2026-09-01T12:00 (local time), or 2026-09-01 (its end)")
    };
    let nanos = |time: Timestamp| i64::try_from(time.as_nanosecond()).map(Time).map_err(|_| wrong());
    let local = |time: civil::DateTime| TimeZone::system().to_timestamp(time);
    if let Ok(time) = text.parse::<Timestamp>() {
        return nanos(time);
    }
    // A date alone parses as a date and time too, so it comes first.
    if text.len() == 10
        && let Ok(date) = text.parse::<civil::Date>()
    {
        return nanos(local(date.at(23, 59, 59, 999_999_999)).map_err(|_| wrong())?);
    }
    let time = text.parse::<civil::DateTime>().map_err(|_| wrong())?;
    nanos(local(time).map_err(|_| wrong())?)
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => Time(nanos(since)),
            Err(before) => Time(-nanos(before.duration())),
        }
    }
}

struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, out: &mut [u8]) {
        getrandom::fill(out).expect("without randomness nothing can be sealed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_an_offset_mean_that_instant() {
        assert_eq!(parse_time("1970-01-01T00:00:01Z").unwrap(), Time(1_000_000_000));
        assert_eq!(parse_time("1970-01-01T01:00:00+01:00").unwrap(), Time(0));
        assert!(parse_time("yesterday").is_err());
    }

    #[test]
    fn a_path_is_made_absolute_as_it_is_written() {
        assert_eq!(absolute(Path::new("/a/./b/../c/")).unwrap(), Path::new("/a/c"));
        assert!(absolute(Path::new("x")).unwrap().is_absolute());
        assert!(absolute(Path::new("")).is_err());
    }

    #[test]
    fn the_path_comes_behind_the_first_colon() {
        assert_eq!(snapshot_and_path("latest:/a:b"), (Which::Latest, Some("/a:b")));
        assert_eq!(snapshot_and_path("12ab"), (Which::Prefix("12ab".into()), None));
    }
}
