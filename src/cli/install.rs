//! `kist install`

use serde_json::{Value, json};

use crate::cli::args::{Install as Args, Priority};
use crate::cli::cluster::connect;
use crate::cli::exit::{Exit, Failure};
use crate::cli::render;
use crate::cli::settings::{Settings, duration};
use crate::cluster::install::{Applied, Install, Run, Schedule, apply, conceal, objects, spread};
use crate::format::keys::Role;
use crate::pace::Limits;
use crate::repo::Repository;

pub async fn run(settings: &Settings, args: Args) -> Result<Exit, Failure> {
    let run = to_run(&args, settings.limits)?;
    let store = settings.reached_by_pods()?;
    let bundle = settings.key_text()?;
    let opened = open(settings).await?;
    let mut install = Install {
        name: args.name,
        namespace: args.namespace,
        create_namespace: args.create_namespace,
        backed_up: args.backup_namespace.into_iter().collect(),
        hooks: args.hooks,
        policy: !args.no_admission_policy,
        bundle,
        store,
        run,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    // What is wrong with names is said before a cluster is asked for anything.
    objects(&install)?;
    let cluster = match args.dry_run && args.no_jitter {
        true => None,
        false => Some(connect(&args.cluster).await?),
    };
    if let (Some(cluster), false) = (&cluster, args.no_jitter) {
        let name = format!("{}/{}", install.namespace, install.name);
        let delay = spread(opened.config.repo, &cluster.uid, &name, install.run.starting_deadline);
        install.run.delay = Some(delay);
    }
    let mut objects = objects(&install)?;
    let Some(cluster) = cluster.filter(|_| !args.dry_run) else {
        if !args.show_secrets {
            conceal(&mut objects);
        }
        show_objects(settings, &objects)?;
        return Ok(Exit::Complete);
    };
    let say = |applied: Applied, object: &str| show_applied(settings, applied, object);
    apply(&cluster, &install, &objects, say).await.map_err(|error| {
        let failure = Failure::from(error);
        failure.hint("what was made before stays; put it right and run the same command again")
    })?;
    show_installed(settings, &install);
    Ok(Exit::Complete)
}

fn to_run(args: &Args, limits: Limits) -> Result<Run, Failure> {
    let cluster = &args.cluster;
    let image = cluster.mover_image.clone().ok_or_else(|| {
        Failure::usage("no image is given").hint(
            "`make image` builds it; push it to a registry of yours and set KIST_MOVER_IMAGE or --image",
        )
    })?;
    // Only looked at: the run parses it again.
    duration(&cluster.mover_timeout)?;
    let starting_deadline = duration(&args.starting_deadline)?;
    if starting_deadline.as_secs() < 10 {
        return Err(Failure::usage("--starting-deadline is shorter than 10 s")
            .hint("the cluster looks every 10 s whether something is due: it would never start"));
    }
    let mut arguments: Vec<String> = Vec::new();
    let mut option = |name: &str, value: &str| arguments.push(format!("--{name}={value}"));
    args.tag.iter().for_each(|tag| option("tag", tag));
    cluster.mover_pull_secret.iter().for_each(|name| option("mover-pull-secret", name));
    option("mover-timeout", &cluster.mover_timeout);
    option("mover-memory", &cluster.mover_memory);
    option("parallel", &cluster.parallel.to_string());
    option("mover-threads", &cluster.mover_threads.to_string());
    option("mover-priority", if cluster.mover_priority == Priority::Low { "low" } else { "normal" });
    limits.read.iter().for_each(|limit| option("limit-read", &limit.to_string()));
    limits.upload.iter().for_each(|limit| option("limit-upload", &limit.to_string()));
    Ok(Run {
        schedule: Schedule::parse(&args.schedule)?,
        time_zone: args.time_zone.clone(),
        starting_deadline,
        active_deadline: duration(&args.active_deadline)?,
        successful_history: args.successful_history,
        failed_history: args.failed_history,
        delay: None,
        image,
        pull_secrets: cluster.mover_pull_secret.clone(),
        arguments,
    })
}

/// Opens the repository with the bundle that the cluster is to get.
async fn open(settings: &Settings) -> Result<Repository, Failure> {
    let opened = settings.open().await?;
    match opened.keys.role {
        Role::Writer => Ok(opened),
        role => Err(Failure::usage(format!(
            "the key that is given is the {role}'s: a cluster gets a writer's bundle and nothing more"
        ))
        .hint("make one with `kist key add --role writer --name CLUSTER --out FILE`")),
    }
}

fn show_objects(settings: &Settings, objects: &[Value]) -> Result<(), Failure> {
    if settings.json {
        objects.iter().for_each(|object| render::object("manifest", json!({ "manifest": object })));
        return Ok(());
    }
    let yaml = serde_saphyr::to_string_multiple(objects)
        .map_err(|error| Failure::other(format!("the objects can't be written as YAML: {error}")))?;
    render::line(yaml.trim_end());
    Ok(())
}

fn show_applied(settings: &Settings, applied: Applied, object: &str) {
    if settings.json {
        return render::object("object", json!({ "action": applied, "object": object }));
    }
    let verb = match applied {
        Applied::Created => "created",
        Applied::Configured => "configured",
        Applied::Unchanged => "unchanged",
        Applied::Removed => "removed",
    };
    render::line(&format!("{verb:<10} {object}"));
}

fn show_installed(settings: &Settings, install: &Install) {
    let (namespace, name) = (&install.namespace, &install.name);
    let delay = install.run.delay.unwrap_or_default().as_secs();
    if settings.json {
        let fields = json!({
            "namespace": namespace, "name": name, "schedule": install.run.schedule.as_str(),
            "delaySeconds": delay, "hooks": install.hooks, "backedUp": install.backed_up,
        });
        return render::object("install", fields);
    }
    let schedule = install.run.schedule.as_str();
    render::line(&format!(
        "backups start by the schedule {schedule}, {delay} s late each time; one right now:"
    ));
    render::line(&format!(
        "  kubectl -n {namespace} create job --from=cronjob/kist-{name} kist-{name}-first"
    ));
    if !install.hooks {
        render::line("hooks are not run: that takes the right to run commands in every pod (--hooks)");
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Args as All, BackupWhat, Verb};

    fn parsed(words: &[&str]) -> Args {
        match All::try_parse_from([&["kist", "install"], words].concat()).map(|all| all.verb) {
            Ok(Verb::Install(args)) => *args,
            Ok(_) => panic!("another verb"),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn the_arguments_of_the_cron_job_are_arguments_of_a_backup() {
        let args = parsed(&[
            "--schedule=@daily",
            "--image=i",
            "--tag=--odd",
            "--mover-pull-secret=pull",
            "--parallel=3",
            "--mover-memory=1Gi",
            "--mover-threads=5",
            "--mover-priority=normal",
        ]);
        let limits = Limits { read: None, upload: std::num::NonZeroU64::new(77) };
        let run = to_run(&args, limits).unwrap();
        let words: Vec<&str> = run.arguments.iter().map(String::as_str).collect();
        let all = All::try_parse_from([&["kist", "--no-catalog", "backup", "cluster"], &words[..]].concat());
        let Ok(All { verb: Verb::Backup { what: BackupWhat::Cluster(backup) }, pace, .. }) = all else {
            panic!("{words:?}")
        };
        assert_eq!((pace.limit_read, pace.limit_upload.as_deref()), (None, Some("77")));
        assert_eq!(
            (backup.cluster.mover_threads.get(), backup.cluster.mover_priority),
            (5, Priority::Normal)
        );
        assert_eq!(backup.tag, ["--odd"]);
        assert_eq!(backup.cluster.parallel, 3);
        assert_eq!(backup.cluster.mover_memory, "1Gi");
        assert_eq!(backup.cluster.mover_pull_secret, ["pull"]);
    }

    #[test]
    fn what_can_never_run_is_refused() {
        let refused =
            |words: &[&str]| to_run(&parsed(words), Limits::default()).err().map(|failure| failure.exit);
        assert_eq!(refused(&["--image=i", "--schedule=@daily", "--starting-deadline=9s"]), Some(Exit::Usage));
        assert_eq!(refused(&["--image=i", "--schedule=now"]), Some(Exit::Usage));
        assert_eq!(refused(&["--image=i", "--schedule=@daily"]), None);
    }
}
