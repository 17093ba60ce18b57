//! Where a repository lies, as a person writes it: a path, `file://` or `s3://`.
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
    /// A bucket, or a part of one.
    S3(S3Url),
}

/// A bucket, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Url {
    bucket: String,
    prefix: String,
    endpoint: Option<Url>,
    region: Option<String>,
    path_style: Option<bool>,
}

impl S3Url {
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
        self.region.as_deref()
    }

    /// Tells whether the bucket goes into the path and not into the host's name.
    pub(super) fn path_style(&self) -> bool {
        // A dot in the bucket's name would not match the certificate of `*.s3.…`.
        self.path_style.unwrap_or(self.endpoint.is_some() || self.bucket.contains('.'))
    }

    /// Tells whether the endpoint is spoken to without TLS.
    pub(super) fn plain_http(&self) -> bool {
        self.endpoint.as_ref().is_some_and(|e| e.scheme() == "http")
    }

    /// The address to send requests to, with the bucket in the host if so wished.
    pub(super) fn address(&self) -> Option<String> {
        let endpoint = self.endpoint.as_ref()?;
        let host = endpoint.host_str().expect("checked when parsed");
        let port = endpoint.port().map_or_else(String::new, |port| format!(":{port}"));
        let bucket = if self.path_style() { "" } else { &format!("{}.", self.bucket) };
        Some(format!("{}://{bucket}{host}{port}", endpoint.scheme()))
    }

    /// The short name for messages: bucket and prefix.
    pub(super) fn name(&self) -> String {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        format!("s3://{}{slash}{}", self.bucket, self.prefix)
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s3 = match self {
            StoreUrl::Folder(path) => {
                let text = path.display().to_string();
                // A path like `/a://b`, which would be taken for a URL of another kind.
                return match text.contains("://").then(|| Url::from_file_path(path)) {
                    Some(Ok(url)) => write!(f, "{url}"),
                    _ => f.write_str(&text),
                };
            }
            StoreUrl::S3(s3) => s3,
        };
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if let Some(endpoint) = &s3.endpoint {
            query.append_pair("endpoint", endpoint.as_str().trim_end_matches('/'));
        }
        if let Some(region) = &s3.region {
            query.append_pair("region", region);
        }
        if let Some(style) = s3.path_style {
            query.append_pair("path_style", if style { "true" } else { "false" });
        }
        let query = query.finish();
        let mark = if query.is_empty() { "" } else { "?" };
        write!(f, "{}{mark}{query}", s3.name())
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
        let url = match scheme {
            "s3" | "file" => Url::parse(text),
            "gs" | "az" => return Err(invalid(&shown, "this kind of store is not there yet")),
            _ => {
                return Err(invalid(&shown, "unknown kind of store: use a path, file:// or s3://"));
            }
        };
        let url = url.map_err(|e| invalid(&shown, &format!("not a URL: {e}")))?;
        if has_login(&url) {
            return Err(invalid(&shown, "credentials do not belong into the URL"));
        }
        if url.fragment().is_some() {
            return Err(invalid(&shown, "a # has no meaning here"));
        }
        if scheme == "file" { file(&url) } else { s3(&url).map(StoreUrl::S3) }
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

fn s3(url: &Url) -> Result<S3Url> {
    let shown = "s3://…";
    let bucket = url.host_str().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !(3..=255).contains(&bucket.len()) || !bucket.chars().all(plain) || url.port().is_some() {
        let reason = "a bucket's name is needed after s3://: 3 letters or more, a-z 0-9 . _ -";
        return Err(invalid(shown, reason));
    }
    let prefix = url.path().trim_matches('/');
    let sound = |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(plain);
    if !prefix.is_empty() && !prefix.split('/').all(sound) {
        let reason = "the path in the bucket may hold letters, digits, . _ - and single slashes";
        return Err(invalid(shown, reason));
    }
    let mut s3 = S3Url {
        bucket: bucket.into(),
        prefix: prefix.into(),
        endpoint: None,
        region: None,
        path_style: None,
    };
    for (name, value) in url.query_pairs() {
        let again = match &*name {
            "endpoint" => s3.endpoint.replace(endpoint(&value)?).is_some(),
            "region" => s3.region.replace(region(&value)?).is_some(),
            "path_style" => s3.path_style.replace(truth(&value)?).is_some(),
            _ => {
                let name: String = name.chars().filter(|c| plain(*c)).take(40).collect();
                let known = "endpoint, region, path_style";
                return Err(invalid(&s3.name(), &format!("unknown parameter {name}: there are {known}")));
            }
        };
        if again {
            return Err(invalid(&s3.name(), &format!("parameter {name} is given twice")));
        }
    }
    Ok(s3)
}

fn endpoint(value: &str) -> Result<Url> {
    let wrong = |reason: &str| invalid("s3://…", &format!("endpoint: {reason}"));
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

fn region(value: &str) -> Result<String> {
    let sound = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if value.is_empty() || value.len() > 64 || !value.chars().all(sound) {
        return Err(invalid("s3://…", "region: letters, digits, _ and - are allowed"));
    }
    Ok(value.into())
}

fn truth(value: &str) -> Result<bool> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(invalid("s3://…", "path_style: true or false")),
    }
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
            ("gs://bucket", "not there yet"),
            ("az://bucket", "not there yet"),
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
    }
}
