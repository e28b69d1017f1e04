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

use super::sockets::namespaces::{self, visit};
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
        let questions = Questions {
            own: host.own().ok(),
            nftables: missing.is_none(),
            connections: modules.missing(host, connections::MODULES).is_none(),
        };
        let (mut all, _) = namespaces::of_processes(host).map_err(CaptureError::host("/proc"))?;
        all.extend(namespaces::kept(host, &sockets::owners(host), &all));
        let mut tables = 0;
        for namespace in &all {
            sink.check()?;
            let Some(open) = namespaces::open(host, namespace) else {
                sink.gone();
                continue;
            };
            if let Some(why) = open.refused {
                sockets::lost_namespace(&why, sink);
                continue;
            }
            let (texts, questions) = (open.texts, questions.clone());
            match visit(open.fd, move || questions.ask(texts)) {
                Ok(answer) => {
                    tables += answer.legacy.tables.len();
                    answer.records(namespace.inode, sink)?;
                }
                Err(why) => sockets::lost_namespace(&why, sink),
            }
        }
        match missing {
            Some(missing) if tables == 0 => Err(CaptureError::Absent(format!(
                "{missing} not in the kernel, nor a table of iptables: there are no rules, and asking would load it"
            ))),
            _ => Ok(()),
        }
    }
}

/// What may be asked for without changing the kernel.
#[derive(Clone)]
struct Questions {
    own: Option<Folder>,
    nftables: bool,
    connections: bool,
}

/// What a namespace answered.
#[derive(Default)]
struct Answer {
    nftables: nftables::Answer,
    legacy: legacy::Answer,
    connections: connections::Answer,
}

impl Questions {
    /// Asks in the network namespace of this thread, whose texts are in `texts` when a process has them.
    fn ask(self, texts: Option<Folder>) -> Answer {
        let mut answer = Answer::default();
        if self.nftables {
            answer.nftables = nftables::ask();
        }
        let texts = texts.or_else(|| namespaces::texts_of_this_thread(&self.own?));
        if let Some(texts) = texts {
            answer.legacy = legacy::ask(&texts);
        }
        if self.connections {
            answer.connections = connections::ask();
        }
        answer
    }
}

impl Answer {
    fn records(&self, netns: u64, sink: &mut Sink<'_>) -> Result<(), Halt> {
        nftables::records(netns, &self.nftables, sink)?;
        legacy::records(netns, &self.legacy, sink)?;
        connections::records(netns, &self.connections, sink)?;
        let failures = [
            &self.nftables.failures,
            &self.legacy.failures,
            &self.connections.failures,
        ];
        for (what, why) in failures.into_iter().flatten() {
            sink.loss(&format!("{}:{what}", sockets::loss(why)));
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "fixtures are files of the tests, not of the host"
)]
mod tests;
