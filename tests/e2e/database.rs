//! Facts about the shop's database, found by asking the running server.

use std::time::Duration;

use kube::Client;

use crate::cluster::error::{Error, Result};
use crate::cluster::postgres::POSTGRES_BIN;
use crate::cluster::wait;
use crate::shop::DATABASE;

const LIMIT: Duration = Duration::from_secs(180);
/// Pause between two looks at a number of rows.
const ROWS_RETRY: Duration = Duration::from_millis(100);
/// Rows of pgbench's largest table for each unit of its scale.
const ACCOUNTS: u64 = 100_000;
/// What was committed when the pre-hook froze the database.
const NOTED: &str = "/tmp/freeze/rows";

/// Rows in the table that the writer writes to: how many, and the highest id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    pub count: u64,
    pub last: u64,
}

/// Makes the tables; pgbench's have about 15 MB for each unit of the scale.
pub async fn fill(client: &Client, namespace: &str, scale: u64) -> Result<()> {
    let table =
        "create table ticks (id bigserial primary key, at timestamptz not null default clock_timestamp())";
    sql(client, namespace, table).await?;
    let scale = scale.to_string();
    let program = format!("{POSTGRES_BIN}/pgbench");
    let command = [&program, "-h", "/tmp", "--initialize", "--quiet", "--scale", &scale, "postgres"];
    run(client, namespace, &command).await.map(drop)
}

/// The rows that are there now.
pub async fn rows(client: &Client, namespace: &str) -> Result<Rows> {
    parse(&sql(client, namespace, "select count(*), coalesce(max(id), 0) from ticks").await?)
}

/// The rows that were committed before the last freeze.
pub async fn rows_before_freeze(client: &Client, namespace: &str) -> Result<Rows> {
    parse(&run(client, namespace, &["cat", NOTED]).await?)
}

/// Waits until more rows are there than `before`: the server takes them, and the writer finds it.
pub async fn is_written_to(client: &Client, namespace: &str, before: Rows) -> Result<Rows> {
    let more = async {
        loop {
            let now = rows(client, namespace).await?;
            if now.last > before.last {
                return Ok(now);
            }
            tokio::time::sleep(ROWS_RETRY).await;
        }
    };
    match tokio::time::timeout(LIMIT, more).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::Timeout { what: "more rows in the database".into(), limit: LIMIT }),
    }
}

/// Proves that a restored database is what it was: checksums on, every table and index as it should be by
/// `pg_amcheck` (which reads each page of the heaps, so checksums are compared too), and each row there that was
/// committed before the freeze, with no gap among them.
pub async fn is_sound(client: &Client, namespace: &str, scale: u64, promised: Rows) -> Result<Rows> {
    let wrong = |text: String| Err(Error::Other(format!("the database in {namespace}: {text}")));
    let checksums = sql(client, namespace, "show data_checksums").await?;
    if checksums != "on" {
        return wrong(format!("data checksums are {checksums}"));
    }
    let check = format!("{POSTGRES_BIN}/pg_amcheck");
    let command = [&check, "-h", "/tmp", "--install-missing", "--heapallindexed", "--jobs", "2", "postgres"];
    run(client, namespace, &command).await?;
    let accounts = sql(client, namespace, "select count(*) from pgbench_accounts").await?;
    if accounts != (scale * ACCOUNTS).to_string() {
        return wrong(format!("{accounts} accounts, not {}", scale * ACCOUNTS));
    }
    let query = format!("select count(*), coalesce(max(id), 0) from ticks where id <= {}", promised.last);
    let kept = parse(&sql(client, namespace, &query).await?)?;
    if kept != promised {
        return wrong(format!("{kept:?} are left of {promised:?}"));
    }
    rows(client, namespace).await
}

fn parse(line: &str) -> Result<Rows> {
    let numbers = line.trim().split_once('|');
    let numbers = numbers.and_then(|(count, last)| Some((count.parse().ok()?, last.parse().ok()?)));
    let (count, last) = numbers.ok_or_else(|| Error::Other(format!("{line:?} are no rows")))?;
    Ok(Rows { count, last })
}

/// One query, its result without frame.
async fn sql(client: &Client, namespace: &str, query: &str) -> Result<String> {
    let out = run(client, namespace, &["psql", "-h", "/tmp", "-d", "postgres", "-qAtc", query]).await?;
    Ok(out.trim().to_owned())
}

async fn run(client: &Client, namespace: &str, command: &[&str]) -> Result<String> {
    let done = wait::exec(client, namespace, DATABASE, command, LIMIT).await?;
    match done.success {
        true => Ok(done.stdout),
        false => Err(Error::Other(format!("{command:?} in {namespace}: {}{}", done.stdout, done.stderr))),
    }
}
