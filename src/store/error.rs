//! What can go wrong between kist and a store, by meaning.
//!
//! Every failure of the backend passes through [`classify`], which keeps the innermost
//! reason and drops the rest: the backend's own messages repeat each other, and carry
//! URLs and whole reply bodies. Invariant: no credential is in any message, source or
//! `Debug` output.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use object_store::client::HttpError;

/// The result of an operation on a store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Reads an object or a part of it.
    Get,
    /// Asks for an object's size.
    Size,
    /// Writes an object under a name that is never used twice.
    Put,
    /// Writes an object if its key is free.
    Create,
    /// Lists a folder.
    List,
    /// Removes an object.
    Delete,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verb::Get => "get",
            Verb::Size => "size of",
            Verb::Put => "put",
            Verb::Create => "create",
            Verb::List => "list",
            Verb::Delete => "delete",
        })
    }
}

/// What was being done, to which key, in which store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// The operation.
    pub verb: Verb,
    /// The key, or the folder that was listed.
    pub key: String,
    /// The store's name, without credentials.
    pub store: Arc<str>,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = if self.key.is_empty() { "everything" } else { &self.key };
        write!(f, "{} {key} in {}", self.verb, self.store)
    }
}

/// The reason beneath an [`Error`]: what the system or the server answered.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// A failed operation on a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no object under this key.
    #[error("{at}: no such object")]
    Missing { at: At },
    /// The folder or bucket itself is missing, or no longer the one that was opened.
    #[error("{at}: the store itself is not there")]
    Gone { at: At, source: Cause },
    /// The credentials are wrong, or do not allow it.
    #[error("{at}: denied")]
    Denied { at: At, source: Cause },
    /// The object may not be deleted, or not yet: a policy, a retention or a hold keeps it.
    #[error("{at}: the store keeps it")]
    Retained { at: At, source: Cause },
    /// There is no space left, or a quota is used up.
    #[error("{at}: the store is full")]
    Full { at: At, source: Cause },
    /// The object ends before the range that was asked for.
    #[error("{at}: the object ends too early: expected {expected} bytes, found {found}")]
    Truncated { at: At, expected: u64, found: u64 },
    /// The disk, or what lies on it under this key, does not let the object be read.
    #[error("{at}: the object can't be read")]
    Unreadable { at: At, source: Cause },
    /// The object is larger than any of its kind may be.
    #[error("{at}: the object has {found} bytes, the limit is {limit}")]
    TooLarge { at: At, limit: u64, found: u64 },
    /// The store did not answer, or said that it can't now; retries are used up.
    #[error("{at}: the store does not answer")]
    Transient { at: At, source: Cause },
    /// The store does not know this operation.
    #[error("{at}: not supported by this store")]
    Unsupported { at: At, source: Cause },
    /// Keys consist of `a-z 0-9 -`, in segments parted by `/`.
    #[error("{at}: not a key of kist's")]
    BadKey { at: At },
    /// The store can't be opened as it is written.
    #[error("open {url}: {reason}")]
    Invalid { url: String, reason: String },
    /// The store's folder can't be opened or made.
    #[error("open {url}: {what}")]
    Folder { url: String, what: &'static str, source: io::Error },
    /// Anything else.
    #[error("{at}: failed")]
    Other { at: At, source: Cause },
}

/// What a failure means to the caller: whether to retry, and which exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// No such object.
    Missing,
    /// Not allowed.
    Denied,
    /// Kept by the store, for now or for ever. Only a delete ends so: it may work later.
    Retained,
    /// No space.
    Full,
    /// May work later.
    Transient,
    /// The object is not as it was written, or can't be read any more.
    Corrupt,
    /// The store is named or used wrongly.
    Usage,
    /// Anything else.
    Other,
}

impl Error {
    /// Tells what the failure means.
    pub fn class(&self) -> Class {
        match self {
            Error::Missing { .. } => Class::Missing,
            Error::Denied { .. } => Class::Denied,
            Error::Retained { .. } => Class::Retained,
            Error::Full { .. } => Class::Full,
            Error::Transient { .. } => Class::Transient,
            Error::Truncated { .. } | Error::Unreadable { .. } | Error::TooLarge { .. } => Class::Corrupt,
            // Not Missing: a missing bucket must not be taken for an absent object.
            Error::Gone { .. } | Error::Unsupported { .. } | Error::BadKey { .. } | Error::Invalid { .. } => {
                Class::Usage
            }
            Error::Folder { source, .. } => match by_io_kind(source) {
                Some(Class::Denied) => Class::Denied,
                Some(Class::Full) => Class::Full,
                _ => Class::Usage,
            },
            Error::Other { .. } => Class::Other,
        }
    }

    /// The key of the object, if it was about one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Error::Invalid { .. } | Error::Folder { .. } => None,
            Error::Missing { at }
            | Error::Gone { at, .. }
            | Error::Denied { at, .. }
            | Error::Retained { at, .. }
            | Error::Full { at, .. }
            | Error::Truncated { at, .. }
            | Error::Unreadable { at, .. }
            | Error::TooLarge { at, .. }
            | Error::Transient { at, .. }
            | Error::Unsupported { at, .. }
            | Error::BadKey { at }
            | Error::Other { at, .. } => (at.verb != Verb::List).then_some(at.key.as_str()),
        }
    }

    /// Whether the store works, and it is the object that is not there or not as it was written.
    pub fn is_damage(&self) -> bool {
        matches!(self.class(), Class::Missing | Class::Corrupt)
    }
}

/// A server's refusal: status, and code and message of the reply.
#[derive(Debug)]
struct Reply {
    status: u16,
    code: String,
    message: String,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", self.status)?;
        for part in [&self.code, &self.message] {
            if !part.is_empty() {
                write!(f, ": {part}")?;
            }
        }
        Ok(())
    }
}

impl StdError for Reply {}

/// Says that a local store's folder is no longer the one that was opened.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.0)]
pub(super) struct RootGone(pub(super) String);

/// Says that the job's store can't read the object.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.0)]
pub(super) struct Unreadable(pub(super) String);

/// Turns a backend's error into ours.
pub(super) fn classify(at: At, error: object_store::Error) -> Error {
    use object_store::Error as Backend;
    let links = chain(&error);
    if let Some(gone) = links.iter().find_map(|e| e.downcast_ref::<RootGone>()) {
        let source = RootGone(gone.0.clone()).into();
        return Error::Gone { at, source };
    }
    if let Some(reply) = links.iter().find_map(|e| reply(&e.to_string())) {
        return by_reply(at, reply);
    }
    let cause = innermost(&links);
    let is_kept = at.verb == Verb::Delete && !is_read_only(&links);
    let http = links.iter().any(|e| e.is::<HttpError>());
    let system = links.iter().find_map(|e| e.downcast_ref::<io::Error>());
    let class = system.and_then(by_io_kind);
    let is_told = links.iter().any(|e| e.is::<Unreadable>());
    let is_unreadable = at.verb == Verb::Get && (is_told || system.is_some_and(is_of_the_disk));
    match (&error, class) {
        (Backend::NotFound { .. }, _) => match at.verb {
            Verb::Put | Verb::Create | Verb::List => Error::Gone { at, source: cause },
            Verb::Get | Verb::Size | Verb::Delete => Error::Missing { at },
        },
        (Backend::PermissionDenied { .. }, _) if is_kept => Error::Retained { at, source: cause },
        (Backend::PermissionDenied { .. } | Backend::Unauthenticated { .. }, _) => {
            Error::Denied { at, source: cause }
        }
        (Backend::NotImplemented { .. } | Backend::NotSupported { .. }, _) => {
            Error::Unsupported { at, source: cause }
        }
        _ if http => Error::Transient { at, source: cause },
        _ if is_unreadable => Error::Unreadable { at, source: cause },
        (_, Some(Class::Denied)) if is_kept => Error::Retained { at, source: cause },
        (_, Some(Class::Denied)) => Error::Denied { at, source: cause },
        (_, Some(Class::Full)) => Error::Full { at, source: cause },
        (_, Some(Class::Transient)) => Error::Transient { at, source: cause },
        _ => Error::Other { at, source: cause },
    }
}

fn chain<'a>(error: &'a (dyn StdError + 'static)) -> Vec<&'a (dyn StdError + 'static)> {
    let mut links = Vec::new();
    let mut next = Some(error);
    while let Some(link) = next {
        links.push(link);
        next = link.source();
    }
    links
}

/// The last link says what happened; those before it repeat it.
fn innermost(links: &[&(dyn StdError + 'static)]) -> Cause {
    let last = links.last().expect("a chain holds at least the error that it starts with");
    match last.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code).into(),
        None => last.to_string().into(),
    }
}

/// Why a client could not be made.
pub(super) fn reason(error: &object_store::Error) -> String {
    innermost(&chain(error)).to_string()
}

fn is_read_only(links: &[&(dyn StdError + 'static)]) -> bool {
    let mut io = links.iter().filter_map(|e| e.downcast_ref::<io::Error>());
    io.any(|e| e.kind() == ErrorKind::ReadOnlyFilesystem)
}

fn by_io_kind(error: &io::Error) -> Option<Class> {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Some(Class::Denied),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(Class::Full),
        ErrorKind::TimedOut
        | ErrorKind::Interrupted
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::ConnectionRefused
        | ErrorKind::NotConnected
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::StaleNetworkFileHandle => Some(Class::Transient),
        _ => None,
    }
}

/// Whether others beside it may be read all the same: EIO, ENOTDIR, EISDIR, ELOOP, ENODATA (a disk's medium error), and EBADE,
/// EBADMSG and EUCLEAN, which file systems give where a checksum of theirs is wrong. Linux numbers, which are the same on every architecture that kist is built for.
fn is_of_the_disk(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(5 | 20 | 21 | 40 | 52 | 61 | 74 | 117))
}

/// Refusals of the credentials and not of what was asked; a delete that ends so was not even looked at.
const STRANGER: [&str; 10] = [
    "AuthenticationFailed",
    "AuthorizationFailure",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidSecurity",
    "InvalidToken",
    "NotSignedUp",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
];

fn by_reply(at: At, reply: Reply) -> Error {
    // Codes before statuses: quotas are reported as 403 by some servers, as 507 by others.
    let full = ["QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"];
    let status = reply.status;
    let no_bucket = ["NoSuchBucket", "ContainerNotFound"].contains(&reply.code.as_str());
    let is_full = status == 507 || full.contains(&reply.code.as_str());
    // Where versions are not kept, object lock refuses with a 400 that only its text tells apart.
    let is_locked = status == 400 && reply.message.contains("WORM");
    // Azure's word for a blob under a retention or a hold; in a batch it comes without the code.
    let is_held = ["", "BlobImmutableDueToPolicy"].contains(&reply.code.as_str());
    let is_known = !STRANGER.contains(&reply.code.as_str());
    let is_late = reply.code == "RequestTimeout";
    let source: Cause = reply.into();
    match (status, at.verb) {
        _ if is_full => Error::Full { at, source },
        _ if no_bucket => Error::Gone { at, source },
        (404, Verb::Get | Verb::Size | Verb::Delete) => Error::Missing { at },
        (404, _) => Error::Gone { at, source },
        (403, Verb::Delete) if is_known => Error::Retained { at, source },
        (409, Verb::Delete) if is_held => Error::Retained { at, source },
        (_, Verb::Delete) if is_locked => Error::Retained { at, source },
        _ if is_locked => Error::Denied { at, source },
        (401 | 403, _) => Error::Denied { at, source },
        // AWS says so of tokens that have expired.
        (400, _) if !is_known => Error::Denied { at, source },
        _ if is_late => Error::Transient { at, source },
        (405 | 501, _) => Error::Unsupported { at, source },
        (408 | 429 | 500.., _) => Error::Transient { at, source },
        _ => Error::Other { at, source },
    }
}

/// The status of a server's refusal.
pub(super) fn status(error: &object_store::Error) -> Option<u16> {
    chain(error).iter().find_map(|e| reply(&e.to_string())).map(|reply| reply.status)
}

/// Reads status and body out of the messages in which `object_store` gives them: its
/// error type is private. `tests/store` holds this to what servers really answer.
fn reply(text: &str) -> Option<Reply> {
    if let Some(rest) = text.strip_prefix("Bulk delete request failed for key ") {
        // Azure deletes in batches, even one: the part's own status stands at the end.
        let (what, status) = rest.strip_suffix(')')?.rsplit_once(" (code: ")?;
        let (_, message) = what.split_once(": ")?;
        let message = message.chars().take(200).collect();
        return Some(Reply { status: status.parse().ok()?, code: String::new(), message });
    }
    let rest = text.strip_prefix("Server returned non-2xx status code: ")?;
    let status = rest.get(..3)?.parse().ok()?;
    Some(Reply { status, code: element(rest, "Code"), message: element(rest, "Message") })
}

/// The text of an XML element, cut to a length that fits a message.
fn element(body: &str, name: &str) -> String {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let inner = body.split_once(&open).and_then(|(_, rest)| rest.split_once(&close));
    inner.map_or_else(String::new, |(text, _)| text.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(verb: Verb) -> At {
        At { verb, key: "packs/aa/b".into(), store: "s3://bucket".into() }
    }

    fn generic(source: impl Into<Cause>) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: source.into() }
    }

    fn answered(status: u16, code: &str) -> object_store::Error {
        generic(format!(
            "Server returned non-2xx status code: {status} Words: <Error><Code>{code}</Code>\
             <Message>because</Message><AWSAccessKeyId>planted</AWSAccessKeyId></Error>"
        ))
    }

    #[test]
    fn replies_are_classed_by_code_then_status() {
        for (status, code, class) in [
            (403, "QuotaExceeded", Class::Full),
            (507, "", Class::Full),
            (403, "SignatureDoesNotMatch", Class::Denied),
            (401, "", Class::Denied),
            (404, "NoSuchBucket", Class::Usage),
            (404, "NoSuchKey", Class::Missing),
            (503, "SlowDown", Class::Transient),
            (429, "", Class::Transient),
            (408, "", Class::Transient),
            (501, "NotImplemented", Class::Usage),
            (400, "BadDigest", Class::Other),
            (400, "ExpiredToken", Class::Denied),
            (400, "RequestTimeout", Class::Transient),
        ] {
            let error = classify(at(Verb::Get), answered(status, code));
            assert_eq!(error.class(), class, "{status} {code}: {error}");
        }
    }

    #[test]
    fn a_delete_that_the_store_refuses_is_told_from_one_that_it_did_not_look_at() {
        let worm = "InvalidRequest</Code><Message>Object is WORM protected</Message><Code>";
        let azure = "Bulk delete request failed for key a/b: This is immutable: policy (code: 409)";
        let (eacces, erofs) = (libc_code::EACCES, libc_code::EROFS);
        let system = |code| generic(io::Error::from_raw_os_error(code));
        type Make<'a> = &'a dyn Fn() -> object_store::Error;
        let rows: [(Make<'_>, Class, Class); 9] = [
            (&|| answered(403, "AccessDenied"), Class::Retained, Class::Denied),
            (&|| answered(403, ""), Class::Retained, Class::Denied),
            (&|| answered(403, "SignatureDoesNotMatch"), Class::Denied, Class::Denied),
            (&|| answered(401, ""), Class::Denied, Class::Denied),
            (&|| answered(400, worm), Class::Retained, Class::Denied),
            (&|| answered(400, "InvalidRequest"), Class::Other, Class::Other),
            (&|| generic(azure), Class::Retained, Class::Other),
            (&|| system(eacces), Class::Retained, Class::Denied),
            (&|| system(erofs), Class::Denied, Class::Denied),
        ];
        for (make, deleted, put) in rows {
            assert_eq!(classify(at(Verb::Delete), make()).class(), deleted, "{}", make());
            assert_eq!(classify(at(Verb::Put), make()).class(), put, "{}", make());
        }
    }

    proptest::proptest! {
        /// The text is the server's to choose; it is no fuzz target because `object_store` stands before it.
        #[test]
        fn whatever_a_server_answers_is_read_and_shown_cut(
            status in "[0-9]{0,4}", body in "(<Code>|</Code>|<Message>|</Message>|[(]code: |[)]|: |\\PC{0,300}){0,8}",
            part: bool,
        ) {
            let text = match part {
                true => format!("Bulk delete request failed for key {body}{status})"),
                false => format!("Server returned non-2xx status code: {status} {body}"),
            };
            if let Some(reply) = reply(&text) {
                assert!(reply.code.chars().count() <= 200 && reply.message.chars().count() <= 200);
            }
            for verb in [Verb::Get, Verb::Delete] {
                assert!(classify(at(verb), generic(text.clone())).key() == Some("packs/aa/b"));
            }
        }
    }

    #[test]
    fn system_errors_are_classed_by_kind_and_keep_their_code() {
        for (code, class) in [
            (libc_code::ENOSPC, Class::Full),
            (libc_code::EDQUOT, Class::Full),
            (libc_code::EACCES, Class::Denied),
            (libc_code::EROFS, Class::Denied),
            (libc_code::ESTALE, Class::Transient),
            (libc_code::EIO, Class::Other),
        ] {
            let system = io::Error::from_raw_os_error(code);
            let error = classify(at(Verb::Put), generic(system));
            assert_eq!(error.class(), class, "{code}");
            let source = error.source().and_then(|s| s.downcast_ref::<io::Error>());
            assert_eq!(source.and_then(io::Error::raw_os_error), Some(code));
        }
    }

    #[test]
    fn what_the_disk_can_not_read_is_damage_and_what_ails_the_machine_is_not() {
        let of = |verb, code| classify(at(verb), generic(io::Error::from_raw_os_error(code)));
        for (code, class) in [
            (libc_code::EIO, Class::Corrupt),
            (libc_code::EUCLEAN, Class::Corrupt),
            (libc_code::ENOTCONN, Class::Transient),
            (libc_code::EMFILE, Class::Other),
        ] {
            let error = of(Verb::Get, code);
            assert_eq!(error.class(), class, "{code}");
            assert_eq!(error.is_damage(), class == Class::Corrupt, "{code}");
        }
        assert_eq!(of(Verb::List, libc_code::EIO).class(), Class::Other);
    }

    #[test]
    fn a_message_says_operation_key_store_and_nothing_of_the_body() {
        let error = classify(at(Verb::Put), answered(403, "AccessDenied"));
        assert_eq!(error.to_string(), "put packs/aa/b in s3://bucket: denied");
        let cause = error.source().unwrap().to_string();
        assert_eq!(cause, "the server answered 403: AccessDenied: because");
        assert!(!format!("{error:?}").contains("planted"));
    }

    /// Linux numbers, which are the same on every architecture that kist is built for.
    mod libc_code {
        pub const EIO: i32 = 5;
        pub const EACCES: i32 = 13;
        pub const EMFILE: i32 = 24;
        pub const ENOSPC: i32 = 28;
        pub const EROFS: i32 = 30;
        pub const ENOTCONN: i32 = 107;
        pub const ESTALE: i32 = 116;
        pub const EUCLEAN: i32 = 117;
        pub const EDQUOT: i32 = 122;
    }
}
