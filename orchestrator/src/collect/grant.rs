//! The credentials of a suspect: a session that can put objects below one prefix, in a SecureString parameter.
//!
//! The secret is in this process's memory, on TLS, and in the parameter; nowhere else.

use tokio::task::JoinSet;

use crate::aws::{Account, Refusal, ssm, sts};
use crate::case::{Event, Grant};
use crate::failure::Failure;
use crate::run::Work;

/// Sessions that are made side by side, and that one entry of the journal lists.
const AT_ONCE: usize = 8;
const LISTED: usize = 50;

/// The parameter that hands an instance its credentials.
pub(super) fn parameter(case: &str, instance: &str) -> String {
    format!("/exhibit/{case}/{instance}/credentials")
}

/// Gives instances a session each, in the place of one that they had.
///
/// # Errors
/// When AWS refuses one of them; the others are written down.
pub(crate) async fn authorise(
    work: &mut Work<'_>,
    request: &str,
    instances: &[String],
) -> Result<(), Failure> {
    let suspects = work.suspects_of(request).await?;
    for part in instances.chunks(LISTED) {
        let (mut grants, mut failure) = (Vec::new(), None);
        for few in part.chunks(AT_ONCE) {
            let mut under_way = JoinSet::new();
            for instance in few {
                under_way.spawn(one(order(work, suspects.clone(), instance)?));
            }
            while let Some(ended) = under_way.join_next().await {
                match ended.map_err(Failure::internal)? {
                    Ok(grant) => grants.push(grant),
                    Err(refusal) => failure = Some(refusal),
                }
            }
        }
        grants.sort_by(|a: &Grant, b| a.instance.cmp(&b.instance));
        if !grants.is_empty() {
            let event = Event::Authorised {
                request: request.to_owned(),
                grants,
            };
            work.record(&event).await?;
        }
        if let Some(refusal) = failure {
            return Err(Failure::from(refusal).while_doing("handing credentials to a suspect"));
        }
    }
    Ok(())
}

/// What one session needs.
struct Order {
    evidence: Account,
    suspects: Account,
    instance: String,
    role: String,
    bucket: String,
    keys: String,
    parameter: String,
    seconds: u32,
}

fn order(work: &Work<'_>, suspects: Account, instance: &str) -> Result<Order, Failure> {
    let place = &work.config.evidence;
    let role = place.collector_role.clone();
    Ok(Order {
        evidence: work.evidence.clone(),
        suspects,
        instance: instance.to_owned(),
        role: role.ok_or_else(|| {
            Failure::usage("evidence.collector_role is missing in the configuration")
        })?,
        bucket: place.bucket.clone(),
        keys: work.config.key(&format!("{}/{instance}/", work.id)),
        parameter: parameter(&work.id.to_string(), instance),
        seconds: work.config.collect.session_seconds,
    })
}

async fn one(order: Order) -> Result<Grant, Refusal> {
    let session = sts::put_only(
        &order.evidence,
        &order.role,
        &order.bucket,
        &order.keys,
        order.seconds,
    )
    .await?;
    ssm::put_secret(
        &order.suspects,
        &order.parameter,
        &session.to_json().to_string(),
    )
    .await?;
    Ok(Grant {
        instance: order.instance,
        access_key_id: session.access_key_id.clone(),
        expires: crate::custody::text_of(session.expires),
    })
}

/// Takes the parameters away. The sessions end by themselves; nobody can read them any more.
///
/// # Errors
/// When SSM refuses.
pub(crate) async fn withdraw(
    work: &mut Work<'_>,
    request: &str,
    instances: &[String],
) -> Result<(), Failure> {
    let suspects = work.suspects_of(request).await?;
    for part in instances.chunks(LISTED) {
        for instance in part {
            ssm::delete_secret(&suspects, &parameter(&work.id.to_string(), instance)).await?;
        }
        let event = Event::Withdrawn {
            request: request.to_owned(),
            instances: part.to_vec(),
        };
        work.record(&event).await?;
    }
    Ok(())
}
