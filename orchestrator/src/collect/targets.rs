//! Which instances are meant, and which of them can be asked.

use std::collections::BTreeMap;

use evidence::Exit;

use crate::aws::Account;
use crate::aws::ec2::{self, Instance, Named};
use crate::aws::ssm::{self, Managed};
use crate::failure::Failure;

/// Most instances of one request: its entry of the journal lists them all.
const MAX_INSTANCES: usize = 2000;

/// What the responder named.
#[derive(Clone, Debug)]
pub(crate) struct Targets(pub(crate) Named);

/// The instances that can be asked, and those that can not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolved {
    pub(crate) tag: Option<(String, String)>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) managed: BTreeMap<String, Managed>,
    pub(crate) refused: Vec<(String, Failure)>,
    /// Memory of the largest instance, in bytes; 0 when EC2 does not tell.
    pub(crate) largest_memory: u64,
}

/// Finds the instances that are meant, and looks at each without touching it.
///
/// # Errors
/// When nothing answers to the name, too much does, or nothing that does can be asked.
pub(crate) async fn resolve(account: &Account, targets: &Targets) -> Result<Resolved, Failure> {
    let found = find(account, &targets.0).await?;
    let ids: Vec<String> = found.iter().map(|instance| instance.id.clone()).collect();
    let managed = ssm::managed(account, &ids).await?;
    let mut resolved = Resolved {
        tag: match &targets.0 {
            Named::Tag(key, value) => Some((key.clone(), value.clone())),
            _ => None,
        },
        ..Resolved::default()
    };
    for instance in found {
        match askable(&instance, managed.get(&instance.id)) {
            Ok(()) => resolved.instances.push(instance),
            Err(failure) => resolved.refused.push((instance.id, failure)),
        }
    }
    resolved.managed = managed;
    if resolved.instances.is_empty() {
        return Err(none_askable(&resolved.refused));
    }
    resolved.largest_memory = largest_memory(account, &resolved.instances).await;
    Ok(resolved)
}

/// The instances that are meant, whatever their state.
///
/// # Errors
/// When nothing answers to the name, or too much does.
pub(crate) async fn find(account: &Account, named: &Named) -> Result<Vec<Instance>, Failure> {
    let found = ec2::instances(account, named).await?;
    meant(named, &found)?;
    Ok(found)
}

/// For an estimate: whoever may not ask gets the shortest.
async fn largest_memory(account: &Account, instances: &[Instance]) -> u64 {
    let mut types: Vec<String> = instances
        .iter()
        .map(|instance| instance.instance_type.clone())
        .collect();
    types.sort_unstable();
    types.dedup();
    let memory = ec2::memory_of_types(account, &types)
        .await
        .unwrap_or_default();
    memory.into_values().max().unwrap_or_default()
}

/// Whether what was found is what was meant.
fn meant(named: &Named, found: &[Instance]) -> Result<(), Failure> {
    let unknown = |what: String| {
        Err(Failure::new(
            Exit::UnknownInstance,
            format!("{what}: check the id, the account and the region"),
        ))
    };
    let listed = || {
        found
            .iter()
            .map(|i| i.id.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    match named {
        Named::Ids(ids) => {
            let missing: Vec<&str> = ids
                .iter()
                .map(String::as_str)
                .filter(|id| !found.iter().any(|i| i.id == **id))
                .collect();
            if !missing.is_empty() {
                return unknown(format!("there is no instance {}", missing.join(", ")));
            }
        }
        Named::Tag(key, value) if found.is_empty() => {
            return unknown(format!("no instance has the tag {key}={value}"));
        }
        Named::Tag(..) => {}
        Named::Address(what) | Named::Name(what) => match found {
            [] => return unknown(format!("no instance answers to {what:?}")),
            [_] => {}
            _ => {
                return Err(Failure::new(
                    Exit::Ambiguous,
                    format!(
                        "{what:?} stands for {} instances ({}): name one with --instance",
                        found.len(),
                        listed()
                    ),
                ));
            }
        },
    }
    if found.len() > MAX_INSTANCES {
        return Err(Failure::usage(format!(
            "{} instances at once are too many: at most {MAX_INSTANCES}; use a narrower tag",
            found.len()
        )));
    }
    Ok(())
}

/// Whether SSM can run the agent on an instance.
fn askable(instance: &Instance, managed: Option<&Managed>) -> Result<(), Failure> {
    let id = &instance.id;
    if instance.windows || managed.is_some_and(|managed| managed.platform == "Windows") {
        return Err(Failure::new(
            Exit::Platform,
            format!("{id} runs Windows, the agent is for Linux: snapshot its disks"),
        ));
    }
    if instance.state != "running" {
        return Err(Failure::new(
            Exit::NotRunning,
            format!(
                "{id} is {}: there is no memory to collect, its evidence is on its disks (`exhibit snapshot`)",
                instance.state
            ),
        ));
    }
    match managed {
        Some(managed) if managed.online => Ok(()),
        Some(managed) => Err(Failure::new(
            Exit::NotManaged,
            format!(
                "SSM has lost {id} ({}): check its way to the SSM endpoints, or run `exhibit-agent collect` on it by hand",
                managed.ping
            ),
        )),
        None => Err(Failure::new(
            Exit::NotManaged,
            format!(
                "SSM does not know {id}: it needs the SSM agent, an instance profile with AmazonSSMManagedInstanceCore and a way to the endpoints; or run `exhibit-agent collect` on it by hand"
            ),
        )),
    }
}

/// One code when all have it, each message in any case.
fn none_askable(refused: &[(String, Failure)]) -> Failure {
    let messages: Vec<&str> = refused
        .iter()
        .map(|(_, failure)| failure.message.as_str())
        .collect();
    let first = refused
        .first()
        .map_or(Exit::UnknownInstance, |(_, failure)| failure.exit);
    let same = refused.iter().all(|(_, failure)| failure.exit == first);
    Failure::new(
        if same { first } else { Exit::CollectionFailed },
        messages.join("\n"),
    )
}
