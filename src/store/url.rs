//! Where a repository lies, as a person writes it: a path, `file://`, `s3://`, `gs://` or `az://`.
//!
//! Parsing is strict, so that a slip is an error and not a folder of a strange name.
//! Invariant: what a person may have put in by mistake as a secret (`user:pass@`, an
//! unknown parameter's value) is in no error message; credentials are handed in apart.

use std::fmt;
use std::path::{Path, PathBuf};

use url::Url;

use crate::store::error::{Error, Result};

/// The place of a store; `Display` writes it so that it can be parsed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// A folder on this machine.
    Folder(PathBuf),
    /// A bucket of S3 or of a server that speaks its language, or a part of one.
    S3(BucketUrl),
    /// A bucket of Google Cloud Storage, or a part of one.
    Gcs(BucketUrl),
    /// A container of Azure's blob storage, or a part of one.
    Azure(BucketUrl),
}

/// A bucket (Azure: a container), or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketUrl {
    scheme: Scheme,
    bucket: String,
    prefix: String,
    parameters: Parameters,
}

/// What a URL of a bucket begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    S3,
    Gs,
    Az,
}

impl Scheme {
    fn text(self) -> &'static str {
        match self {
            Scheme::S3 => "s3",
            Scheme::Gs => "gs",
            Scheme::Az => "az",
        }
    }

    /// The parameters that mean something there.
    fn parameters(self) -> &'static [&'static str] {
        match self {
            Scheme::S3 => &["endpoint", "region", "path_style", "checksum"],
            Scheme::Gs => &["endpoint"],
            Scheme::Az => &["account", "endpoint", "path_style"],
        }
    }
}

/// What stands behind the question mark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Parameters {
    account: Option<String>,
    endpoint: Option<Url>,
    region: Option<String>,
    path_style: Option<bool>,
    checksum: Option<bool>,
}

impl BucketUrl {
    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The part of the bucket; empty for all of it.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The region, if the URL names one.
    pub fn region(&self) -> Option<&str> {
        self.parameters.region.as_deref()
    }

    /// The storage account, if the URL names one.
    pub fn account(&self) -> Option<&str> {
        self.parameters.account.as_deref()
    }

    /// Tells whether the bucket (Azure: the account) goes into the path and not into the host's name.
    pub(super) fn path_style(&self) -> bool {
        // A dot in the bucket's name would not match the certificate of `*.s3.…`.
        let dotted = self.scheme == Scheme::S3 && self.bucket.contains('.');
        self.parameters.path_style.unwrap_or(self.parameters.endpoint.is_some() || dotted)
    }

    /// Tells whether each write shall carry a checksum, which S3 asks for where object lock is on.
    pub(super) fn checksum(&self) -> bool {
        self.parameters.checksum.unwrap_or(self.parameters.endpoint.is_none())
    }

    /// Tells whether the endpoint is spoken to without TLS.
    pub(super) fn plain_http(&self) -> bool {
        self.parameters.endpoint.as_ref().is_some_and(|e| e.scheme() == "http")
    }

    /// The address to send requests to, with the bucket in the host if so wished.
    pub(super) fn address(&self) -> Option<String> {
        let in_host = if self.path_style() { "" } else { &format!("{}.", self.bucket) };
        self.server(in_host)
    }

    /// The address of a storage account at the endpoint.
    pub(super) fn account_address(&self, account: &str) -> Option<String> {
        if self.path_style() {
            return self.server("").map(|server| format!("{server}/{account}"));
        }
        self.server(&format!("{account}."))
    }

    fn server(&self, in_host: &str) -> Option<String> {
        let endpoint = self.parameters.endpoint.as_ref()?;
        let host = endpoint.host_str().expect("checked when parsed");
        let port = endpoint.port().map_or_else(String::new, |port| format!(":{port}"));
        Some(format!("{}://{in_host}{host}{port}", endpoint.scheme()))
    }

    /// The short name for messages: bucket and prefix.
    pub(super) fn name(&self) -> String {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        format!("{}://{}{slash}{}", self.scheme.text(), self.bucket, self.prefix)
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parameters { account, endpoint, region, path_style, checksum } = &self.parameters;
        let truth = |value: &Option<bool>| value.map(|value| value.to_string());
        let endpoint = endpoint.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned());
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in [
            ("account", account.clone()),
            ("endpoint", endpoint),
            ("region", region.clone()),
            ("path_style", truth(path_style)),
            ("checksum", truth(checksum)),
        ] {
            query.extend_pairs(value.map(|value| (name, value)));
        }
        let query = query.finish();
        let mark = if query.is_empty() { "" } else { "?" };
        write!(f, "{}{mark}{query}", self.name())
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self {
            StoreUrl::Folder(path) => path,
            StoreUrl::S3(url) | StoreUrl::Gcs(url) | StoreUrl::Azure(url) => return url.fmt(f),
        };
        let text = path.display().to_string();
        // A path like `/a://b`, which would be taken for a URL of another kind.
        match text.contains("://").then(|| Url::from_file_path(path)) {
            Some(Ok(url)) => write!(f, "{url}"),
            _ => f.write_str(&text),
        }
    }
}

impl StoreUrl {
    /// Parses what a person wrote.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(invalid("an empty name", "a path or a URL is needed"));
        }
        let Some((scheme, _)) = text.split_once("://") else {
            return folder(text);
        };
        let shown = format!("{scheme}://…");
        let kind = match scheme {
            "file" => None,
            "s3" => Some(Scheme::S3),
            "gs" => Some(Scheme::Gs),
            "az" => Some(Scheme::Az),
            _ => {
                let known = "use a path, file://, s3://, gs:// or az://";
                return Err(invalid(&shown, &format!("unknown kind of store: {known}")));
            }
        };
        let url = Url::parse(text).map_err(|e| invalid(&shown, &format!("not a URL: {e}")))?;
        if has_login(&url) {
            return Err(invalid(&shown, "credentials do not belong into the URL"));
        }
        if url.fragment().is_some() {
            return Err(invalid(&shown, "a # has no meaning here"));
        }
        match kind {
            None => file(&url),
            Some(Scheme::S3) => bucket(Scheme::S3, &url).map(StoreUrl::S3),
            Some(Scheme::Gs) => bucket(Scheme::Gs, &url).map(StoreUrl::Gcs),
            Some(Scheme::Az) => bucket(Scheme::Az, &url).map(StoreUrl::Azure),
        }
    }
}

fn invalid(shown: &str, reason: &str) -> Error {
    Error::Invalid { url: shown.into(), reason: reason.into() }
}

fn has_login(url: &Url) -> bool {
    // `url` also takes the `@` of an empty login away, so the text is looked at too.
    let authority = url.as_str().split('/').nth(2).unwrap_or_default();
    !url.username().is_empty() || url.password().is_some() || authority.contains('@')
}

fn folder(text: &str) -> Result<StoreUrl> {
    let first = text.split('/').next().unwrap_or_default();
    if first.contains(':') {
        // `s3:bucket` and `s3:/bucket` are slips, and would become folders of that name.
        let reason = "neither a URL nor a plain path: write ./ before a path with a colon";
        return Err(invalid("a name with a colon", reason));
    }
    Ok(StoreUrl::Folder(PathBuf::from(text)))
}

fn file(url: &Url) -> Result<StoreUrl> {
    let shown = "file://…";
    if url.query().is_some() {
        return Err(invalid(shown, "a folder takes no parameters"));
    }
    let path = url.to_file_path().ok().filter(|p| p.is_absolute() && p != Path::new("/"));
    match path.as_deref().and_then(Path::to_str) {
        Some(path) => Ok(StoreUrl::Folder(PathBuf::from(path))),
        None => Err(invalid(shown, "write file:///path, with three slashes")),
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-".contains(c)
}

fn bucket(scheme: Scheme, url: &Url) -> Result<BucketUrl> {
    let shown = format!("{}://…", scheme.text());
    let bucket = url.host_str().unwrap_or_default();
    if !(3..=255).contains(&bucket.len()) || !bucket.chars().all(is_plain) || url.port().is_some() {
        let reason =
            format!("a bucket's name is needed after {}://: 3 letters or more, a-z 0-9 . _ -", scheme.text());
        return Err(invalid(&shown, &reason));
    }
    let prefix = url.path().trim_matches('/');
    let sound = |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(is_plain);
    if !prefix.is_empty() && !prefix.split('/').all(sound) {
        let reason = "the path in the bucket may hold letters, digits, . _ - and single slashes";
        return Err(invalid(&shown, reason));
    }
    let parameters = Parameters::default();
    let mut place = BucketUrl { scheme, bucket: bucket.into(), prefix: prefix.into(), parameters };
    place.parameters = parameters_of(&place.name(), scheme, url)?;
    Ok(place)
}

fn parameters_of(shown: &str, scheme: Scheme, url: &Url) -> Result<Parameters> {
    let mut found = Parameters::default();
    let wrong = |what: &str| invalid(shown, what);
    for (name, value) in url.query_pairs() {
        if !scheme.parameters().contains(&&*name) {
            let name: String = name.chars().filter(|c| is_plain(*c)).take(40).collect();
            let known = scheme.parameters().join(", ");
            return Err(wrong(&format!("unknown parameter {name}: there are {known}")));
        }
        let truth = || match &*value {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(wrong(&format!("{name}: true or false"))),
        };
        let word = || {
            let sound = value.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
            match sound && (1..=64).contains(&value.len()) {
                true => Ok(value.to_string()),
                false => Err(wrong(&format!("{name}: letters, digits, _ and - are allowed"))),
            }
        };
        let again = match &*name {
            "account" => found.account.replace(word()?).is_some(),
            "endpoint" => found.endpoint.replace(endpoint(shown, &value)?).is_some(),
            "region" => found.region.replace(word()?).is_some(),
            "path_style" => found.path_style.replace(truth()?).is_some(),
            _ => found.checksum.replace(truth()?).is_some(),
        };
        if again {
            return Err(wrong(&format!("parameter {name} is given twice")));
        }
    }
    Ok(found)
}

fn endpoint(shown: &str, value: &str) -> Result<Url> {
    let wrong = |reason: &str| invalid(shown, &format!("endpoint: {reason}"));
    let url = Url::parse(value).map_err(|e| wrong(&format!("not a URL: {e}")))?;
    if has_login(&url) {
        return Err(wrong("credentials do not belong into the URL"));
    }
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() || !bare {
        return Err(wrong("write http://host:port or https://host"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_urls_are_parsed_and_written_back() {
        for (text, written) in [
            ("/srv/backup", "/srv/backup"),
            ("relative/dir", "relative/dir"),
            ("./with:colon", "./with:colon"),
            ("file:///srv/my%20backup", "/srv/my backup"),
            ("file://localhost/srv", "/srv"),
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://bucket/a/b-c/?region=eu-west-1", "s3://bucket/a/b-c?region=eu-west-1"),
            ("s3://bucket?checksum=true", "s3://bucket?checksum=true"),
            ("gs://bucket/a", "gs://bucket/a"),
            ("gs://bucket?endpoint=http://h:1", "gs://bucket?endpoint=http%3A%2F%2Fh%3A1"),
            ("az://boxes/a?account=acc", "az://boxes/a?account=acc"),
            (
                "az://boxes?path_style=false&endpoint=https://h&account=acc",
                "az://boxes?account=acc&endpoint=https%3A%2F%2Fh&path_style=false",
            ),
            (
                "s3://bkt?endpoint=http://127.0.0.1:7070&region=r&path_style=false",
                "s3://bkt?endpoint=http%3A%2F%2F127.0.0.1%3A7070&region=r&path_style=false",
            ),
        ] {
            let url = StoreUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), written, "{text}");
            assert_eq!(StoreUrl::parse(written).unwrap(), url, "{text}");
        }
    }

    /// `file:///srv/kistfile:///x` was shown as a path that was then refused as a URL.
    #[test]
    fn a_folder_with_the_marks_of_a_url_in_its_name_is_shown_as_a_url() {
        let url = StoreUrl::parse("file:///srv/kistfile:///x").unwrap();
        assert_eq!(url, StoreUrl::Folder("/srv/kistfile:/x".into()));
        assert_eq!(StoreUrl::parse(&url.to_string()).unwrap(), url);
    }

    #[test]
    fn bad_urls_are_refused_with_the_reason_and_without_secrets() {
        for (text, reason) in [
            ("", "a path or a URL is needed"),
            ("gs://planted:planted@bucket", "credentials do not belong"),
            ("gs://bucket?region=planted", "unknown parameter region: there are endpoint"),
            ("az://bucket?sas=planted", "unknown parameter sas"),
            ("az://bucket?account=planted.", "account: letters"),
            ("az://ab", "bucket's name is needed after az://"),
            ("http://planted:planted@host/", "unknown kind of store"),
            ("s3:bucket/planted", "write ./ before"),
            ("s3:/bucket/planted", "write ./ before"),
            ("s3://planted:planted@bucket", "credentials do not belong"),
            ("s3://planted@bucket", "credentials do not belong"),
            ("s3://PLANTED:planted/bucket", "not a URL"),
            ("s3://", "bucket's name"),
            ("s3://ab", "bucket's name"),
            ("s3://bucket:80", "bucket's name"),
            ("s3://bucket/a//b", "single slashes"),
            ("s3://bucket/a%20b", "single slashes"),
            ("s3://bucket#x", "#"),
            ("s3://bucket?secret_access_key=planted", "unknown parameter secret_access_key"),
            ("s3://bucket?region=a&region=b", "given twice"),
            ("s3://bucket?region=a%0ab", "region"),
            ("s3://bucket?path_style=planted", "true or false"),
            ("s3://bucket?endpoint=planted", "endpoint: not a URL"),
            ("s3://bucket?endpoint=http://planted:planted@h", "credentials do not belong"),
            ("s3://bucket?endpoint=ftp://host", "write http://"),
            ("s3://bucket?endpoint=http://host/path", "write http://"),
            ("file://host/path", "three slashes"),
            ("file:///", "three slashes"),
            ("file:///srv?x=planted", "no parameters"),
        ] {
            let error = StoreUrl::parse(text).unwrap_err();
            let message = error.to_string();
            assert!(message.contains(reason), "{text}: {message}");
            assert!(!format!("{message}{error:?}").to_lowercase().contains("planted"), "{message}");
        }
    }

    #[test]
    fn addressing_follows_endpoint_bucket_and_wish() {
        for (text, path_style, address) in [
            ("s3://bucket?region=r", false, None),
            ("s3://dotted.bucket?region=r", true, None),
            ("s3://bucket?endpoint=https://h", true, Some("https://h")),
            ("s3://bucket?endpoint=http://h:1&path_style=false", false, Some("http://bucket.h:1")),
            ("s3://bucket?endpoint=http://[::1]:1", true, Some("http://[::1]:1")),
        ] {
            let StoreUrl::S3(s3) = StoreUrl::parse(text).unwrap() else { panic!("{text}") };
            assert_eq!(s3.path_style(), path_style, "{text}");
            assert_eq!(s3.address().as_deref(), address, "{text}");
        }
        for (text, address) in [
            ("az://boxes?account=a", None),
            ("az://boxes?endpoint=http://127.0.0.1:1", Some("http://127.0.0.1:1/acc")),
            ("az://boxes?endpoint=https://blob.h&path_style=false", Some("https://acc.blob.h")),
        ] {
            let StoreUrl::Azure(azure) = StoreUrl::parse(text).unwrap() else { panic!("{text}") };
            assert_eq!(azure.account_address("acc").as_deref(), address, "{text}");
        }
    }

    #[test]
    fn amazon_is_sent_checksums_and_others_only_if_so_wished() {
        for (text, checksum) in [
            ("s3://bucket?region=r", true),
            ("s3://bucket?region=r&checksum=false", false),
            ("s3://bucket?endpoint=http://h", false),
            ("s3://bucket?endpoint=http://h&checksum=true", true),
        ] {
            let StoreUrl::S3(s3) = StoreUrl::parse(text).unwrap() else { panic!("{text}") };
            assert_eq!(s3.checksum(), checksum, "{text}");
        }
    }
}
