//! An AWS for the orchestrator's tests: one endpoint for every service, in front of the emulator.
//!
//! It tells accounts apart by access key, writes down every call, fails on demand, answers by itself where the
//! emulator is wrong (Systems Manager's commands, snapshots) and hands on everything else. It never checks
//! signatures or rights.

mod accounts;
mod call;
mod ec2;
mod fault;
mod form;
mod front;
mod kms;
mod refusal;
pub mod ssm;
mod trail;

use std::sync::Arc;

pub use accounts::DEFAULT_ACCOUNT;
pub use call::Call;
pub use ec2::{Ec2, Lock, Snapshot, Volume, VolumeKey};
pub use fault::CloudFault;
pub use form::Form;
pub use ssm::{Fate, Instance, Runner, Script, Sent, Stage, When, Work};

use super::moto::Moto;
use super::server::Server;
use super::{Error, Result};
use front::Front;

/// The region that the helpers work in.
pub const REGION: &str = "us-east-1";

/// A running cloud; it ends with the value, commands that still run included.
pub struct Cloud {
    server: Server,
    front: Arc<Front>,
    moto: Moto,
}

impl Cloud {
    /// Starts an emulator and the endpoint in front of it.
    ///
    /// # Errors
    /// When the emulator cannot be had or no port is free.
    pub fn start() -> Result<Self> {
        let moto = Moto::start()?;
        let front = Arc::new(Front::new(moto.address()));
        let server = Server::start(Arc::clone(&front))
            .map_err(|error| Error::Failed(format!("cloud: {error}")))?;
        Ok(Self {
            server,
            front,
            moto,
        })
    }

    /// Its URL, as `AWS_ENDPOINT_URL` takes it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// The emulator behind it: buckets are made there, and a [`super::proxy::Proxy`] may stand before it for S3.
    pub fn moto(&self) -> &Moto {
        &self.moto
    }

    /// Says which account an access key belongs to. Keys from AssumeRole are known by themselves, any other belongs
    /// to [`DEFAULT_ACCOUNT`].
    pub fn access_key(&self, id: &str, account: &str) {
        self.front.accounts.learn(id, account);
    }

    /// The next so many calls that match meet this fault. Rules wait in the order in which they were given; a call
    /// meets the first that matches and is not used up.
    pub fn fault(
        &self,
        times: usize,
        matches: impl Fn(&Call) -> bool + Send + 'static,
        fault: CloudFault,
    ) {
        let mut plan = self.front.plan.lock().unwrap();
        plan.add(times, Box::new(matches), fault);
    }

    /// Forgets every fault that is still to come.
    pub fn heal(&self) {
        *self.front.plan.lock().unwrap() = fault::Plan::default();
    }

    /// Every call so far, by arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.front.log.lock().unwrap().clone()
    }

    /// How often this operation of this service was called, refusals and faults included.
    pub fn count(&self, service: &str, operation: &str) -> usize {
        let log = self.front.log.lock().unwrap();
        log.iter()
            .filter(|call| call.is(service, operation))
            .count()
    }

    /// Puts an instance under Systems Manager's control; one of the same account and id is replaced.
    pub fn instance(&self, instance: Instance) {
        self.front.ssm.register(instance);
    }

    /// Takes an instance from Systems Manager's control.
    pub fn forget_instance(&self, account: &str, id: &str) {
        self.front.ssm.unregister(account, id);
    }

    /// Kills every command that runs on this instance, as when someone on the host does.
    pub fn kill(&self, instance: &str) {
        self.front.ssm.kill(instance);
    }

    /// Every command that was sent, by arrival.
    pub fn commands(&self) -> Vec<Sent> {
        self.front.ssm.sent()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.front.ssm.stop();
    }
}
