//! What is asked for: the volumes of an instance as they are attached now, and the disks that no snapshot will have.

use evidence::Exit;

use crate::aws::ec2::{self, Instance, Named};
use crate::aws::{Account, ebs, kms, trail};
use crate::case::{DiskRequest, Uncovered, Volume};
use crate::collect;
use crate::failure::Failure;
use crate::run::Work;

/// The request for the disks of an instance in an account of the configuration. It only asks.
///
/// # Errors
/// When there is no such instance, it has no volumes, or AWS refuses to tell.
pub(crate) async fn request(
    work: &mut Work<'_>,
    name: &str,
    instance: &str,
) -> Result<DiskRequest, Failure> {
    let (_, entry) = work.config.account(Some(name))?;
    let forensic = work.config.forensic()?;
    let account = work.suspects(name, &entry.region).await?;
    let found = collect::find(&account, &Named::Ids(vec![instance.to_owned()])).await?;
    let [instance] = found.as_slice() else {
        return Err(Failure::internal("one id stands for several instances"));
    };
    // Within one account nothing has to be shared, under whatever key it is.
    let default_key = match forensic.account == entry.id {
        true => None,
        false => kms::arn_of(&account, kms::DEFAULT_OF_EBS).await?,
    };
    let volumes = ebs::volumes(&account, instance, default_key.as_deref()).await?;
    if volumes.is_empty() {
        let id = &instance.id;
        return Err(Failure::new(
            Exit::NothingCollected,
            format!("{id} has no EBS volume attached: there is nothing to make a snapshot of"),
        ));
    }
    let uncovered = uncovered(&account, instance, &volumes).await;
    Ok(DiskRequest {
        id: collect::random()?,
        account: name.to_owned(),
        account_id: entry.id.clone(),
        region: entry.region.clone(),
        instance: instance.id.clone(),
        forensic_account: forensic.account.clone(),
        forensic_region: forensic.region.clone(),
        volumes,
        uncovered,
    })
}

/// The disks that no snapshot will have. What can not be asked is named too, and stops nothing.
async fn uncovered(account: &Account, instance: &Instance, volumes: &[Volume]) -> Vec<Uncovered> {
    let mut uncovered = Vec::new();
    let mut name = |what: &str, why: String| {
        uncovered.push(Uncovered {
            what: what.to_owned(),
            why,
        })
    };
    match ec2::instance_store(account, &instance.instance_type).await {
        Ok(None) => {}
        Ok(Some(disks)) => name(
            "instance store",
            format!(
                "{disks}: EBS does not hold it, and it is gone when the instance stops: collect from the running host"
            ),
        ),
        Err(refusal) => name("instance store", format!("not known: {}", refusal.failure)),
    }
    match trail::detached(account, &instance.id).await {
        Ok((detached, is_all)) => {
            if !is_all {
                name(
                    "volumes detached before",
                    "CloudTrail has more detachments in this account than are looked at: not all are known".to_owned(),
                );
            }
            let still = |id: &str| volumes.iter().any(|volume| volume.id == id);
            for it in detached.into_iter().filter(|it| !still(&it.volume)) {
                name(
                    &it.volume,
                    format!(
                        "detached at {} by {}: make a snapshot of it by itself, if it is still there",
                        it.at, it.by
                    ),
                );
            }
        }
        Err(refusal) => name(
            "volumes detached before",
            format!("not known: {}", refusal.failure),
        ),
    }
    uncovered
}
