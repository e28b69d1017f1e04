//! Faults: what a call meets instead of being served.

use super::call::Call;
use super::refusal::Refusal;

/// What can go wrong between a caller and the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloudFault {
    /// Too many requests, in the words of the service.
    Throttle,
    /// This status, error code and message, in the shape of the service's protocol.
    Status(u16, &'static str, &'static str),
    /// The connection is closed and nothing is carried out.
    Close,
    /// The call is carried out and the connection closed before the caller learns of it.
    AnswerLost,
}

type Matches = Box<dyn Fn(&Call) -> bool + Send>;

/// The faults still to come.
#[derive(Default)]
pub(super) struct Plan(Vec<(usize, Matches, CloudFault)>);

impl Plan {
    pub(super) fn add(&mut self, times: usize, matches: Matches, fault: CloudFault) {
        self.0.push((times, matches, fault));
    }

    /// The fault of this call: that of the first rule that matches and is not used up.
    pub(super) fn draw(&mut self, call: &Call) -> Option<CloudFault> {
        let rule = self
            .0
            .iter_mut()
            .find(|(left, matches, _)| *left > 0 && matches(call))?;
        rule.0 -= 1;
        Some(rule.2.clone())
    }
}

impl CloudFault {
    /// The answer that stands in for the call's own; `None` when the caller gets none, or the real one.
    pub(super) fn refusal(&self, call: &Call) -> Option<Refusal> {
        match self {
            Self::Throttle => Some(Refusal::throttled(call.protocol)),
            Self::Status(status, code, message) => Some(Refusal {
                status: *status,
                ..Refusal::new(code, *message)
            }),
            Self::Close | Self::AnswerLost => None,
        }
    }
}
