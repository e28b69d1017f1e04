//! *firewall*: rules of nftables and of iptables, and the connections that are tracked, in every network namespace, as the
//! kernel has them.
//!
//! Only what is in the kernel already is asked for: asking loads it otherwise. Nothing is set, and counters stay.

mod connections;
mod entries;
mod extensions;
mod legacy;
mod nfnetlink;
mod nftables;
mod packet;
pub mod tree;

pub use connections::connection;
pub use entries::{Layout, rules};

use super::sockets::namespaces::{self, Namespace, visit};
use super::sockets::{self, Modules};
use super::{Artifact, CaptureError, Halt, Sink, Spec, Volatility};
use crate::host::{Folder, Host};

/// Rules of the firewall.
pub struct Firewall;

static SPEC: Spec = Spec {
    name: "firewall",
    volatility: Volatility::Network,
    what: "tables, chains, rules and sets of nftables, and rules of the older iptables, ip6tables and arptables, and \
           tracked connections, in every network namespace, decoded and as they are",
    why: "a rule can redirect, hide or let in traffic, and ends with the next boot; a translated connection shows nowhere else",
    deadline_s: 60,
    max_bytes: 256 << 20,
};

/// What could not be asked for, and why.
type Failures = Vec<(&'static str, String)>;

impl Artifact for Firewall {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        if !host.is_live() {
            return Err(CaptureError::Absent(
                "a recorded tree has no firewall".to_owned(),
            ));
        }
        let modules = Modules::read(host);
        let missing = modules.missing(host, nftables::MODULES);
        let (mut all, _) = namespaces::of_processes(host).map_err(CaptureError::host("/proc"))?;
        all.extend(namespaces::kept(host, &sockets::owners(host), &all));
        let own = host.own().ok();
        let is_there = missing.is_none();
        let rules = |texts: Option<Folder>| {
            let own = own.clone();
            move || {
                // What a process shows may be of another namespace by now.
                let texts = own
                    .and_then(|own| namespaces::texts_of_this_thread(&own))
                    .or(texts);
                let nftables = is_there.then(nftables::ask).unwrap_or_default();
                (nftables, legacy::ask(texts.as_ref()))
            }
        };
        each(
            host,
            &all,
            sink,
            rules,
            |netns, (nftables, legacy), sink| {
                nftables::records(netns, nftables, sink)?;
                legacy::records(netns, legacy, sink)?;
                lost(&nftables.failures, sink);
                lost(&legacy.failures, sink);
                Ok(())
            },
        )?;
        // After all rules: there may be any number of connections.
        if modules.missing(host, connections::MODULES).is_none() {
            each(
                host,
                &all,
                sink,
                |_| connections::ask,
                |netns, answer, sink| {
                    connections::records(netns, answer, sink)?;
                    lost(&answer.failures, sink);
                    Ok(())
                },
            )?;
        }
        let nothing = sink.tally().items == 0 && sink.tally().losses.is_empty();
        match missing {
            Some(missing) if nothing => Err(CaptureError::Absent(format!(
                "{missing} not in the kernel, nor a table of iptables: there are no rules, and asking would load it"
            ))),
            _ => Ok(()),
        }
    }
}

/// Asks inside of each namespace, with the texts of a process in it, and records the answer.
fn each<T: Send + 'static, A: FnOnce() -> T + Send + 'static>(
    host: &Host,
    all: &[Namespace],
    sink: &mut Sink<'_>,
    ask: impl Fn(Option<Folder>) -> A,
    record: impl Fn(u64, &T, &mut Sink<'_>) -> Result<(), Halt>,
) -> Result<(), Halt> {
    for namespace in all {
        sink.check()?;
        let Some(open) = namespaces::open(host, namespace) else {
            sink.gone();
            continue;
        };
        if let Some(why) = open.refused {
            sockets::lost_namespace(&why, sink);
            continue;
        }
        match visit(open.fd, ask(open.texts)) {
            Ok(answer) => record(namespace.inode, &answer, sink)?,
            Err(why) => sockets::lost_namespace(&why, sink),
        }
    }
    Ok(())
}

fn lost(failures: &Failures, sink: &mut Sink<'_>) {
    for (what, why) in failures {
        sink.loss(&format!("{}:{what}", sockets::loss(why)));
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "fixtures are files of the tests, not of the host"
)]
mod tests;
