//! The preflight: what has to be in place before minutes count. It only asks.

use evidence::Exit;
use serde::Serialize;

use crate::aws::ec2::Named;
use crate::aws::s3::Bucket;
use crate::aws::{Account, Caller, Refusal, s3, ssm, sts, trail};
use crate::collect::{self, Targets};
use crate::config::{Config, Credentials};
use crate::failure::Failure;
use crate::run;
use crate::seal::Signer;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Light {
    Green,
    /// Works, with a loss.
    Amber,
    Red,
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) what: String,
    pub(crate) light: Light,
    pub(crate) found: String,
    /// What to do; empty when it is green.
    pub(crate) to_do: String,
}

/// The table under construction.
#[derive(Debug, Default)]
struct Table(Vec<Check>);

impl Table {
    fn add(&mut self, light: Light, what: &str, found: impl ToString, to_do: &str) {
        let to_do = if light == Light::Green {
            String::new()
        } else {
            to_do.to_owned()
        };
        self.0.push(Check {
            what: what.to_owned(),
            light,
            found: found.to_string(),
            to_do,
        });
    }

    fn need(&mut self, what: &str, good: bool, found: impl ToString, to_do: &str) {
        self.add(
            if good { Light::Green } else { Light::Red },
            what,
            found,
            to_do,
        );
    }

    fn want(&mut self, what: &str, good: bool, found: impl ToString, to_do: &str) {
        self.add(
            if good { Light::Green } else { Light::Amber },
            what,
            found,
            to_do,
        );
    }

    fn failed(&mut self, what: &str, failure: &Failure) {
        self.add(
            Light::Red,
            what,
            &failure.message,
            "mend what the message says",
        );
    }
}

/// Checks the accounts, and the instances that are named.
///
/// # Errors
/// When there are no credentials at all: then nothing can be asked.
pub(crate) async fn check(
    config: &Config,
    account: Option<&str>,
    targets: Option<&Targets>,
) -> Result<Vec<Check>, Failure> {
    let caller = Caller::load().await?;
    let mut table = Table::default();
    match run::evidence_account(config, &caller).await {
        Ok(evidence) => {
            table.add(Light::Green, "evidence account", &evidence.id, "");
            bucket(config, &evidence, &mut table).await;
            seal_key(config, &evidence, &mut table).await;
            collector(config, &evidence, &mut table).await;
        }
        Err(failure) if failure.exit == Exit::Credentials => return Err(failure),
        Err(failure) => table.failed("evidence account", &failure),
    }
    let accounts: Vec<&str> = match account {
        Some(name) => vec![config.account(Some(name))?.0],
        None => config.accounts.keys().map(String::as_str).collect(),
    };
    for name in accounts {
        suspects(config, &caller, name, targets, &mut table).await?;
    }
    Ok(table.0)
}

async fn bucket(config: &Config, evidence: &Account, table: &mut Table) {
    let place = &config.evidence;
    let bucket = Bucket::new(evidence, &place.bucket, &place.account);
    let protection = match bucket.protection().await {
        Ok(protection) => protection,
        Err(refusal) => return table.failed("bucket", &refusal.failure),
    };
    let s3::Protection {
        object_lock,
        default_retention,
        versioning,
        public_access_blocked,
        tls_only,
        encryption,
        aborts_stray_uploads,
    } = protection;
    let on = |on: bool| if on { "on" } else { "off" };
    table.need(
        "bucket: Object Lock",
        object_lock,
        on(object_lock),
        "make a bucket with Object Lock: without it evidence can be deleted",
    );
    table.need(
        "bucket: default retention",
        default_retention.is_some(),
        default_retention.as_deref().unwrap_or("none"),
        "set a default retention: the agent sends no lock headers of its own",
    );
    table.need(
        "bucket: versioning",
        versioning,
        on(versioning),
        "turn versioning on: Object Lock protects versions",
    );
    table.need(
        "bucket: public access blocked",
        public_access_blocked,
        on(public_access_blocked),
        "turn on all four settings of Block Public Access",
    );
    table.want(
        "bucket: TLS only",
        tls_only,
        on(tls_only),
        "deny aws:SecureTransport = false in the bucket policy",
    );
    table.want(
        "bucket: encryption",
        encryption.is_some(),
        encryption.as_deref().unwrap_or("none stated"),
        "set default encryption",
    );
    table.want(
        "bucket: stray uploads",
        aborts_stray_uploads,
        on(aborts_stray_uploads),
        "add a lifecycle rule that aborts incomplete multipart uploads after 7 days or more",
    );
}

async fn seal_key(config: &Config, evidence: &Account, table: &mut Table) {
    let signer = match Signer::new(config, evidence) {
        Ok(signer) => signer,
        Err(failure) => return table.failed("seal key", &failure),
    };
    match signer
        .public_key()
        .await
        .and_then(|key| key.fingerprint().map_err(Failure::internal))
    {
        Ok(fingerprint) => table.add(Light::Green, "seal key", fingerprint, ""),
        Err(failure) => table.failed("seal key", &failure),
    }
}

/// Whether a suspect's session can be made: a session is asked for and thrown away.
async fn collector(config: &Config, evidence: &Account, table: &mut Table) {
    let Some(role) = config
        .evidence
        .collector_role
        .as_ref()
        .filter(|_| config.collect.credentials == Credentials::Session)
    else {
        return;
    };
    match sts::put_only(
        evidence,
        role,
        &config.evidence.bucket,
        &config.key("doctor/"),
        config.collect.session_seconds,
    )
    .await
    {
        Ok(session) => table.add(
            Light::Green,
            "put-only sessions",
            format!("until {}", crate::custody::text_of(session.expires)),
            "",
        ),
        Err(refusal) => table.failed("put-only sessions", &refusal.failure),
    }
}

async fn suspects(
    config: &Config,
    caller: &Caller,
    name: &str,
    targets: Option<&Targets>,
    table: &mut Table,
) -> Result<(), Failure> {
    let (_, entry) = config.account(Some(name))?;
    let what = format!("account {name}");
    let account = match caller
        .account(&entry.id, entry.role.as_deref(), &entry.region)
        .await
    {
        Ok(account) => account,
        Err(failure) => {
            table.failed(&what, &failure);
            return Ok(());
        }
    };
    table.add(Light::Green, &what, &account.id, "");
    document(config, &account, &format!("{what}: SSM document"), table).await;
    trails(&account, &format!("{what}: CloudTrail"), table).await;
    match crate::aws::ec2::encrypts_by_default(&account).await {
        Ok(on) => table.want(
            &format!("{what}: EBS encryption by default"),
            on,
            if on { "on" } else { "off" },
            "turn it on: copies of disks are then never in clear",
        ),
        Err(refusal) => table.failed(
            &format!("{what}: EBS encryption by default"),
            &refusal.failure,
        ),
    }
    if let Some(targets) = targets {
        instances(&account, targets, table).await;
    }
    Ok(())
}

async fn document(config: &Config, account: &Account, what: &str, table: &mut Table) {
    let stated = config.collect.document_sha256;
    match ssm::document_sha256(account, &config.collect.document).await {
        Ok(Some(found)) if stated.is_none_or(|stated| stated == found) => {
            table.want(
                what,
                stated.is_some(),
                format!("SHA-256 {found}"),
                "state collect.document_sha256, so that another document is refused",
            );
        }
        Ok(Some(found)) => table.add(
            Light::Red,
            what,
            format!("SHA-256 {found}, another than configured"),
            "find out who changed it; register the one of ssm-documents/ again",
        ),
        Ok(None) => table.add(
            Light::Red,
            what,
            "SSM states no SHA-256",
            "register the document of ssm-documents/ again",
        ),
        Err(refusal) => table.add(
            Light::Red,
            what,
            &refusal.failure,
            "register the document, as ssm-documents/README.md says",
        ),
    }
}

async fn trails(account: &Account, what: &str, table: &mut Table) {
    match trail::trails(account).await {
        Ok(trails) => {
            let good = trails.iter().find(|trail| trail.logging && trail.validates);
            let found = match (good, trails.first()) {
                (Some(trail), _) => trail.name.clone(),
                (None, Some(trail)) => format!(
                    "{}: logging {}, validation {}",
                    trail.name, trail.logging, trail.validates
                ),
                (None, None) => "none".to_owned(),
            };
            table.want(
                what,
                good.is_some(),
                found,
                "make a trail that logs, with log file validation: it proves who did what",
            );
        }
        Err(Refusal { failure, .. }) => {
            table.add(Light::Amber, what, failure, "mend what the message says")
        }
    }
}

async fn instances(account: &Account, targets: &Targets, table: &mut Table) {
    let resolved = match collect::resolve(account, targets).await {
        Ok(resolved) => resolved,
        Err(failure) => return table.failed("instances", &failure),
    };
    for (instance, failure) in &resolved.refused {
        table.failed(&format!("instance {instance}"), failure);
    }
    for instance in &resolved.instances {
        let what = format!("instance {}", instance.id);
        let agent = resolved
            .managed
            .get(&instance.id)
            .map(|managed| managed.agent_version.clone())
            .unwrap_or_default();
        let name = instance.name.as_deref().unwrap_or("no name");
        table.add(
            Light::Green,
            &what,
            format!(
                "{name}, {}, SSM agent {agent}, {} volumes",
                instance.instance_type,
                instance.volumes.len()
            ),
            "",
        );
        table.want(&format!("{what}: instance profile"), instance.profile.is_some(), instance.profile.as_deref().unwrap_or("none"), "SSM works without one only with Default Host Management; the agent needs it to read its credentials");
        table.want(
            &format!("{what}: IMDSv2"),
            instance.metadata == "required",
            &instance.metadata,
            "require tokens: IMDSv1 hands the role to whoever can make the host fetch an address",
        );
    }
    let minutes = collect::run_within(resolved.largest_memory) / 60;
    table.add(
        Light::Green,
        "estimate",
        format!(
            "{} instances; the largest has {} GiB of memory, at most {minutes} minutes",
            resolved.instances.len(),
            resolved.largest_memory >> 30
        ),
        "",
    );
}

/// The targets of `doctor --instance`.
pub(crate) fn by_id(ids: &[String]) -> Option<Targets> {
    (!ids.is_empty()).then(|| Targets(Named::Ids(ids.to_vec())))
}
