//! What the corpora begin with: each vector as its target takes it, and texts of what has no vectors.
//!
//! `KIST_VECTORS=write` writes those that are missing.

use kist::crypto::seal;
use kist::crypto::secret::Key;
use kist::format::checkpoint::State;
use kist::format::codec::Writer;
use kist::format::frame::opening;
use kist::format::id::{PackId, RecordId, RepoId, SessionId};
use kist::format::keys::KeyName;
use kist::format::pack::{HEADER_LEN, RecordHeader, Toc, part_context};
use kist::format::{limits, object};

use crate::check::{part_key, slot_plain};
use crate::corpus::{fuzz, write_new};
use crate::make;
use crate::material::Material;
use crate::vector::{Encoded, Vector};

/// With `KIST_VECTORS=write`: writes the seeds that are not there, once.
pub fn seed() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if std::env::var_os("KIST_VECTORS").is_none_or(|value| value != "write") {
            return;
        }
        let mut written: Vec<(&str, String, Vec<u8>)> = vec![("record", "zeros".into(), zeros())];
        for (target, texts) in TEXTS {
            let named = |(nth, text): (_, &&str)| (*target, format!("seed-{nth}"), text.as_bytes().to_vec());
            written.extend(texts.iter().enumerate().map(named));
        }
        for vector in make::all() {
            let mut last = "";
            for (nth, (target, bytes)) in seeds(&vector).into_iter().enumerate() {
                let again = if target == last { format!("-{nth}") } else { String::new() };
                written.push((target, vector.name.replace('/', "-") + &again, bytes));
                last = target;
            }
        }
        for (target, name, bytes) in written {
            write_new(&fuzz().join("corpus").join(target).join(name), &bytes);
        }
    });
}

/// What a vector is to the fuzz targets: without its seal, without its padding, without its signature.
pub fn seeds(v: &Vector) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = match &v.encoded {
        Encoded::None => return vec![],
        Encoded::Text(text) => {
            let target = if v.form == "kit" { "kit" } else { "key_file" };
            return vec![(target, text.clone().into_bytes())];
        }
        Encoded::Bytes(bytes) => bytes.clone(),
    };
    let open = |key: String| {
        let (structure, repo) = (Key::new(v.hex("structure")), RepoId(v.hex("repository")));
        let mut plain = object::open_object("seed", &structure, repo, &key, &bytes).ok()?;
        plain.truncate(plain.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1));
        Some(plain)
    };
    let session = || SessionId(v.hex("session"));
    let seed = match v.form.as_str() {
        "varint" => Some(("codec", [&[0], &bytes[..]].concat())),
        "signed" => Some(("codec", [&[1], &bytes[..]].concat())),
        "config" => Some(("config", bytes[..bytes.len().min(83)].to_vec())),
        "slot" => {
            let [info, secrets] = slot_plain(v);
            let info = info.map(|plain| ("slot_info", plain));
            let secrets = secrets.map(|plain| ("slot_contents", plain));
            return info.into_iter().chain(secrets).chain([("slot", bytes)]).collect();
        }
        "record-header" => opened(v, b"kist record header", &[], &bytes).map(|p| ("record_header", p)),
        "pack" => {
            let toc = toc_plain(v, &bytes).map(|plain| ("toc", plain));
            return toc.into_iter().chain(records(v, &bytes).into_iter().map(|r| ("record", r))).collect();
        }
        "index" => open(object::index_key(session(), v.number("lane") as u32, v.number("number") as u32))
            .map(|plain| ("index", plain[..plain.len().saturating_sub(64)].to_vec())),
        "node" => Some(("node", bytes)),
        "session" => open(object::session_key(session())).map(|plain| ("session", plain)),
        "commit" => {
            let plain = open(object::commit_key(session()));
            let summary = v.name.ends_with("/ok").then(|| crate::check::check(v).ok()).flatten();
            let summary = summary.map(|c| ("summary", c.fields["summary"].to_string().into_bytes()));
            return plain.map(|plain| ("commit", plain)).into_iter().chain(summary).collect();
        }
        "log" => open(object::log_key(v.number("slot"))).map(|plain| ("log", plain)),
        "checkpoint" => open(object::checkpoint_key(v.number("slot"))).map(|plain| ("checkpoint", plain)),
        "checks" => open(object::checks_key(v.number("number"))).map(|plain| ("checks", plain)),
        "state" => open(part_key(v)).map(|plain| match State::piece(&plain) {
            Ok(state) => ("state", state.to_vec()),
            Err(_) => ("state", plain),
        }),
        "index-part" => open(part_key(v)).map(|plain| ("index", plain)),
        "opening" => return vec![("wire", [&[0], &bytes[..]].concat()), ("link", bytes)],
        "frame" => {
            let link = [&opening()[..], &bytes].concat();
            return vec![("wire", [&[2], &link[..]].concat()), ("link", link), ("frame", bytes)];
        }
        "message" => {
            let link = as_stream(&bytes);
            return vec![("wire", [&[0], &link[..]].concat()), ("link", link), ("message", bytes)];
        }
        "relay-request" => Some(("relay_request", bytes)),
        "relay-answer" => Some(("relay_answer", bytes)),
        other => panic!("{other} has bytes but no fuzz target"),
    };
    seed.into_iter().collect()
}

/// An opening, and a message that fits one frame in its frame.
fn as_stream(message: &[u8]) -> Vec<u8> {
    let head = [&[2][..], &1_u64.to_le_bytes(), &(message.len() as u16).to_le_bytes()].concat();
    [&opening()[..], &head, message].concat()
}

fn opened(v: &Vector, what: &[u8], more: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let repo: [u8; 16] = v.hex("repository");
    seal::open(&Key::new(v.hex("structure")), &[what, &repo, more].concat(), sealed).ok()
}

fn toc_plain(v: &Vector, pack: &[u8]) -> Option<Vec<u8>> {
    let id: [u8; 16] = v.hex("pack");
    let (rest, trailer) = pack.split_last_chunk::<44>()?;
    let len = opened(v, b"kist pack trailer", &id, trailer)?;
    let len = u32::from_le_bytes(*len.first_chunk()?) as usize;
    opened(v, b"kist pack toc", &id, &rest[rest.len().checked_sub(len)?..])
}

/// The records of a pack, as far as they can be unsealed: the plaintext of the header, then that of each part.
fn records(v: &Vector, pack: &[u8]) -> Vec<Vec<u8>> {
    let m = Material::new();
    let Ok(toc) = Toc::open(&m.structure, m.repo, PackId(v.hex("pack")), pack) else { return vec![] };
    let open = |record: &[u8]| {
        let (sealed, mut rest) = record.split_at_checked(HEADER_LEN)?;
        let header = RecordHeader::open(&m.structure, m.repo, sealed).ok()?;
        let mut out = opened(v, b"kist record header", &[], sealed)?;
        for (number, part) in header.parts.iter().enumerate().filter(|(_, part)| part.stored_len > 0) {
            let (sealed, behind) = rest.split_at_checked(part.stored_len as usize)?;
            rest = behind;
            let key = match (&header.id, number) {
                (RecordId::Chunk(_), _) => &m.lane_key,
                (RecordId::Node(_), 0) => &m.structure,
                (RecordId::Node(_), _) => &m.meta_key,
            };
            let context = part_context(m.repo, &header.id, number as u8, &header.key);
            out.extend(seal::open(key, &context, sealed).ok()?);
        }
        Some(out)
    };
    toc.records.iter().filter_map(|record| open(record.of(pack))).collect()
}

/// A record of the longest chunk, all zeros: what expands most of all that is honest.
fn zeros() -> Vec<u8> {
    let raw = vec![0; limits::CHUNK_LEN];
    let packed = zstd::bulk::compress(&raw, 3).expect("compressed zeros");
    let mut out = Writer::new();
    out.u8(1);
    out.raw(&[1; 32]);
    out.raw(&KeyName::Data { session: SessionId([2; 16]), lane: 0 }.to_bytes());
    out.u8(1);
    out.u32((packed.len() + seal::OVERHEAD) as u32);
    out.u32(raw.len() as u32);
    out.raw(&[0; 9]);
    out.raw(&packed);
    out.into_bytes()
}

/// What is no vector's form.
const TEXTS: &[(&str, &[&str])] = &[
    (
        "hook",
        &[
            r#"{"pre.hook.backup.kist.dev/command":"/freeze","post.hook.backup.kist.dev/command":"[\"/thaw\",\"-a\"]"}"#,
            r#"{"pre.hook.backup.velero.io/command":"[\"sh\"]","pre.hook.backup.velero.io/container":"sidecar",
                "pre.hook.backup.velero.io/timeout":"1m30s","pre.hook.backup.velero.io/on-error":"Continue"}"#,
        ],
    ),
    (
        "key_request",
        &["sixteen bytes id\u{1}\0\0\0", "sixteen bytes id\u{1}\0\0", "sixteen bytes id\u{1}\0\0\0\0"],
    ),
    (
        "manifests",
        &[
            SHOP,
            r#"[["core/v1/Pod/shop/no-object",[]]]"#,
            r#"[["core/v1/Pod/shop/a",{"metadata":"no object"}]]"#,
            r#"[["batch/v1/CronJob/shop/a",{"metadata":{},"spec":"no object"}]]"#,
        ],
    ),
    (
        "owed",
        &[r#"[{"pod":"db-0"},{"pod":"db-1","namespace":"shop"}]"#, r#"[{"pod":"a","namespace":"other"}]"#],
    ),
    (
        "store_key",
        &[
            "sessions/00000001/0123456789abcdef01234567",
            "commits/ffffffff/0123456789abcdef01234567",
            "index/00000001/0123456789abcdef01234567/3-12",
            "index/00000001/0123456789abcdef01234567/4294967295-0",
            "gc/1",
            "gc/01",
            "checkpoints/18446744073709551615",
            "checks/7",
        ],
    ),
    ("store_url", &["/srv/kist", "file:///srv/kist", "s3://bucket/a/b?endpoint=http://[::1]:9000&region=x"]),
];

/// One of most kinds that a rule of the restore is about.
const SHOP: &str = r#"[
["core/v1/Namespace/shop",{"metadata":{"name":"shop","labels":{"kubernetes.io/metadata.name":"shop"}},"spec":{"finalizers":["kubernetes"]}}],
["core/v1/PersistentVolume/pv-1",{"metadata":{"name":"pv-1"},"spec":{"capacity":{"storage":"2Gi"},"claimRef":{"namespace":"shop","name":"data","uid":"u"}}}],
["core/v1/PersistentVolumeClaim/shop/data",{"metadata":{"uid":"u","annotations":{"pv.kubernetes.io/bind-completed":"yes"}},"spec":{"storageClassName":"fast","volumeName":"pv-1","resources":{"requests":{"storage":"1500Mi"}}},"status":{"phase":"Bound"}}],
["core/v1/Pod/shop/shell",{"metadata":{"uid":"p"},"spec":{"nodeName":"n","containers":[{"name":"a","volumeMounts":[{"name":"kube-api-access-x","mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}]}],"volumes":[{"name":"kube-api-access-x","projected":{}},{"name":"d","persistentVolumeClaim":{"claimName":"data"}}],"tolerations":[{"key":"node.kubernetes.io/not-ready"}]}}],
["core/v1/Secret/shop/token",{"metadata":{"annotations":{"kubernetes.io/service-account.name":"app"}},"type":"kubernetes.io/service-account-token","data":{"token":"eA=="}}],
["core/v1/Service/shop/db",{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"spec\":{\"ports\":[{\"port\":1}]}}"},"managedFields":[{"fieldsV1":{"f:spec":{}}}]},"spec":{"clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"ports":[{"port":1,"nodePort":30001}],"healthCheckNodePort":30002}}],
["core/v1/ServiceAccount/shop/app",{"metadata":{},"secrets":[{"name":"app-token-abcde"}]}],
["apps/v1/StatefulSet/shop/db",{"metadata":{"uid":"s","generation":3},"spec":{"volumeClaimTemplates":[{"metadata":{"name":"d"},"spec":{"storageClassName":"fast"}}]}}],
["apps/v1/Deployment/shop/web",{"metadata":{"annotations":{"deployment.kubernetes.io/revision":"3"},"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"x","uid":"y"}]}}],
["batch/v1/CronJob/shop/tidy",{"metadata":{},"spec":{"suspend":false}}],
["batch/v1/Job/shop/fill",{"metadata":{"labels":{"job-name":"fill"}},"spec":{"selector":{"matchLabels":{"batch.kubernetes.io/controller-uid":"z"}},"template":{"metadata":{"labels":{"controller-uid":"z"}}}}}],
["rbac.authorization.k8s.io/v1/RoleBinding/shop/app",{"metadata":{},"subjects":[{"kind":"ServiceAccount","name":"app","namespace":"shop"}]}],
["admissionregistration.k8s.io/v1/MutatingWebhookConfiguration/check",{"metadata":{},"webhooks":[{"name":"a","clientConfig":{"service":{"namespace":"shop","name":"web"},"caBundle":"eA=="}}]}]
]"#;
