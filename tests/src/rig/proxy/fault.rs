//! Faults: what can go wrong between a client and a store, and when it does.

use std::time::Duration;

use super::super::http::Head;
use super::rules::puts_object;

/// What a request meets instead of being served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status and S3 error code; the store never hears of the request.
    Answer(u16, &'static str),
    /// A reset (RST) after so many bytes of the body; with 0 not one byte is read.
    Reset { after: usize },
    /// So many bytes of the body are read, then nothing happens for a while, then all goes on as usual.
    Stall { after: usize, pause: Duration },
    /// The whole request is read and the connection is closed in good order, without an answer.
    Silence,
    /// The store serves the request, and the connection is reset before the client learns of it.
    LoseAnswer,
}

impl Fault {
    /// The store asks for fewer requests: 503.
    pub const SLOW_DOWN: Self = Self::Answer(503, "SlowDown");
    /// The store has a bad moment: 500.
    pub const INTERNAL_ERROR: Self = Self::Answer(500, "InternalError");
}

pub(super) type Matches = Box<dyn Fn(&Head) -> bool + Send>;

/// The faults still to come.
#[derive(Default)]
pub(super) struct Plan {
    rules: Vec<Rule>,
    end: Option<End>,
}

struct Rule {
    left: usize,
    matches: Matches,
    fault: Fault,
}

struct End {
    puts_left: usize,
    fault: Fault,
}

/// What the plan has for one request.
pub(super) struct Lot {
    pub(super) fault: Option<Fault>,
    /// It counts as one of the last objects, unless it is [given back](Plan::give_back).
    counted: bool,
}

impl Plan {
    pub(super) fn add(&mut self, times: usize, matches: Matches, fault: Fault) {
        self.rules.push(Rule {
            left: times,
            matches,
            fault,
        });
    }

    pub(super) fn end_after(&mut self, puts: usize, fault: Fault) {
        self.end = Some(End {
            puts_left: puts,
            fault,
        });
    }

    /// Counting on arrival, not on success, keeps parallel requests from storing more than was allowed.
    pub(super) fn draw(&mut self, head: &Head) -> Lot {
        let counts = puts_object(head);
        if let Some(End {
            puts_left: 0,
            fault,
        }) = &self.end
        {
            return Lot {
                fault: Some(fault.clone()),
                counted: false,
            };
        }
        let rule = self
            .rules
            .iter_mut()
            .find(|rule| rule.left > 0 && (rule.matches)(head));
        let fault = rule.map(|rule| {
            rule.left -= 1;
            rule.fault.clone()
        });
        if let (Some(end), true) = (&mut self.end, counts) {
            end.puts_left -= 1;
        }
        Lot {
            fault,
            counted: counts && self.end.is_some(),
        }
    }

    /// The request stored nothing after all.
    pub(super) fn give_back(&mut self, lot: &Lot) {
        if let (Some(end), true) = (&mut self.end, lot.counted) {
            end.puts_left += 1;
        }
    }
}
