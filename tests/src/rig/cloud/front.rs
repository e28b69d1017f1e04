//! The endpoint: every call is read, written down, and answered here or by the emulator.

use std::net::SocketAddr;
use std::sync::Mutex;

use super::super::http::{self, Head, Response};
use super::super::server::{Ending, Handler};
use super::accounts::Accounts;
use super::call::{Call, Protocol};
use super::ec2::Ec2State;
use super::fault::{CloudFault, Plan};
use super::kms;
use super::refusal::Refusal;
use super::ssm::Ssm;
use super::trail::Trail;

pub(super) struct Front {
    pub(super) accounts: Accounts,
    pub(super) plan: Mutex<Plan>,
    pub(super) log: Mutex<Vec<Call>>,
    pub(super) ssm: Ssm,
    pub(super) ec2: Ec2State,
    pub(super) trail: Trail,
    upstream: SocketAddr,
}

impl Front {
    pub(super) fn new(upstream: SocketAddr) -> Self {
        Self {
            accounts: Accounts::default(),
            plan: Mutex::default(),
            log: Mutex::default(),
            ssm: Ssm::default(),
            ec2: Ec2State::new(upstream),
            trail: Trail::default(),
            upstream,
        }
    }

    /// Carries a call out: `None` when there is no emulator to hear of it any more.
    fn carry_out(&self, call: &Call, head: &Head, body: &[u8]) -> Option<Response> {
        if head.header("authorization").is_none() {
            return Some(unsigned().response(call.protocol));
        }
        let own = match call.service.as_str() {
            "ssm" => self.ssm.answer(call),
            "ec2" => self.ec2.answer(call),
            "cloudtrail" => self.trail.answer(call),
            "kms" => kms::answer(call, &self.ec2),
            _ => None,
        };
        match own {
            Some(Ok(response)) => Some(response),
            Some(Err(refusal)) => Some(refusal.response(call.protocol)),
            None => self.hand_on(call, head, body),
        }
    }

    fn hand_on(&self, call: &Call, head: &Head, body: &[u8]) -> Option<Response> {
        let mut head = head.clone();
        if call.protocol != Protocol::S3 {
            let account = ("x-moto-account-id".into(), call.account.clone());
            head.headers.extend([account]);
        }
        let mut response = http::send(self.upstream, &head, body).ok()?;
        response.headers.remove("connection");
        if call.service == "sts" && response.status == 200 {
            self.accounts.learn_from(&response.text());
        }
        if call.service == "s3" && head.query.contains_key("versioning") {
            // The emulator gives the answer another root element than the API model has.
            let text = response.text();
            let right = text.replace("GetBucketVersioningResponse", "VersioningConfiguration");
            response.body = right.into_bytes();
            response.headers.remove("content-length");
        }
        Some(response)
    }
}

fn unsigned() -> Refusal {
    Refusal {
        status: 403,
        ..Refusal::new(
            "MissingAuthenticationToken",
            "The request is not signed with Signature Version 4.",
        )
    }
}

impl Handler for Front {
    fn handle(&self, head: &Head, body: &[u8]) -> Ending {
        let mut call = Call::read(head, body, &self.accounts);
        call.fault = self.plan.lock().unwrap().draw(&call);
        let number = {
            let mut log = self.log.lock().unwrap();
            log.push(call.clone());
            log.len() - 1
        };
        if call.fault == Some(CloudFault::Close) {
            return Ending::Close;
        }
        let refusal = call.fault.as_ref().and_then(|fault| fault.refusal(&call));
        let response = match refusal {
            Some(refusal) => Some(refusal.response(call.protocol)),
            None => self.carry_out(&call, head, body),
        };
        match response {
            Some(response) if call.fault != Some(CloudFault::AnswerLost) => {
                self.log.lock().unwrap()[number].status = Some(response.status);
                Ending::Answer(response)
            }
            _ => Ending::Close,
        }
    }
}
