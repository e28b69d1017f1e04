//! Exit codes: an interface. The remote caller sees a number and a clipped text, so each code has one meaning.
//!
//! `docs/operations.md` has a row for each; a test compares the two.

/// What a program of Exhibit ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, and nothing is missing.
    Complete = 0,
    /// A fault of the program itself.
    Internal = 1,
    /// The command line, or a value in it, can not be used. Nothing was done.
    Usage = 2,
    /// The collection is sealed by its manifest, which names what is missing.
    Partial = 3,
    /// The run ended without a single captured item.
    NothingCollected = 4,
    /// The target exists already, or can not be written.
    Target = 10,
    /// The bucket does not protect objects: Object Lock is off.
    Unlocked = 11,
    /// The store refuses the credentials, or there are none.
    Credentials = 12,
    /// The bucket is in another region.
    Region = 13,
    /// The store's TLS certificate is not trusted.
    Tls = 14,
    /// The store can not be reached, or its name not resolved.
    Unreachable = 15,
    /// The store failed for good in the middle: what was shipped is listed, the rest is spooled or named as lost.
    StoreFailed = 16,
    /// The target's disk is full.
    NoSpace = 17,
    /// The store refuses the request for another reason, such as a bucket that does not exist.
    Refused = 18,
    /// Verification failed: the evidence is not what the agent wrote.
    Altered = 20,
    /// There is no manifest: the run was cut. Up to the first missing segment all is intact.
    Interrupted = 21,
    /// What is named is not a collection.
    NotACollection = 22,
    /// No instance answers to what was named.
    UnknownInstance = 30,
    /// A name or an address stands for more than one instance.
    Ambiguous = 31,
    /// The instance does not run: there is no memory to collect.
    NotRunning = 32,
    /// The instance runs a system that the agent is not for.
    Platform = 33,
    /// SSM does not reach the instance.
    NotManaged = 34,
    /// There is a case of this name already.
    CaseExists = 35,
    /// There is no case of this name.
    CaseUnknown = 36,
    /// Another orchestrator works on the case.
    CaseBusy = 37,
    /// The journal of the case is not what was written.
    CaseDamaged = 38,
    /// The credentials are for another account than the configuration says.
    WrongAccount = 39,
    /// A permission is missing.
    Denied = 40,
    /// The clock of this machine is wrong: AWS refuses what it signs.
    ClockSkew = 41,
    /// AWS refuses or fails for another reason.
    Aws = 42,
    /// The preflight found something that has to be mended first.
    NotReady = 43,
    /// No instance that was asked sent a collection that can be used.
    CollectionFailed = 44,
    /// The key that should sign or verify can not be used.
    KeyUnusable = 45,
    /// The authority for time stamps gives none that fits: the collection is not sealed yet.
    NoTimeStamp = 46,
}

impl Exit {
    /// All codes, in order.
    pub const ALL: &'static [Self] = &[
        Self::Complete,
        Self::Internal,
        Self::Usage,
        Self::Partial,
        Self::NothingCollected,
        Self::Target,
        Self::Unlocked,
        Self::Credentials,
        Self::Region,
        Self::Tls,
        Self::Unreachable,
        Self::StoreFailed,
        Self::NoSpace,
        Self::Refused,
        Self::Altered,
        Self::Interrupted,
        Self::NotACollection,
        Self::UnknownInstance,
        Self::Ambiguous,
        Self::NotRunning,
        Self::Platform,
        Self::NotManaged,
        Self::CaseExists,
        Self::CaseUnknown,
        Self::CaseBusy,
        Self::CaseDamaged,
        Self::WrongAccount,
        Self::Denied,
        Self::ClockSkew,
        Self::Aws,
        Self::NotReady,
        Self::CollectionFailed,
        Self::KeyUnusable,
        Self::NoTimeStamp,
    ];

    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The word that stands for the code in receipts, reports and documents.
    pub fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Internal => "internal",
            Self::Usage => "usage",
            Self::Partial => "partial",
            Self::NothingCollected => "nothing-collected",
            Self::Target => "target",
            Self::Unlocked => "unlocked",
            Self::Credentials => "credentials",
            Self::Region => "region",
            Self::Tls => "tls",
            Self::Unreachable => "unreachable",
            Self::StoreFailed => "store-failed",
            Self::NoSpace => "no-space",
            Self::Refused => "refused",
            Self::Altered => "altered",
            Self::Interrupted => "interrupted",
            Self::NotACollection => "not-a-collection",
            Self::UnknownInstance => "unknown-instance",
            Self::Ambiguous => "ambiguous",
            Self::NotRunning => "not-running",
            Self::Platform => "platform",
            Self::NotManaged => "not-managed",
            Self::CaseExists => "case-exists",
            Self::CaseUnknown => "case-unknown",
            Self::CaseBusy => "case-busy",
            Self::CaseDamaged => "case-damaged",
            Self::WrongAccount => "wrong-account",
            Self::Denied => "denied",
            Self::ClockSkew => "clock-skew",
            Self::Aws => "aws",
            Self::NotReady => "not-ready",
            Self::CollectionFailed => "collection-failed",
            Self::KeyUnusable => "key-unusable",
            Self::NoTimeStamp => "no-time-stamp",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn operators_table_lists_every_code_with_its_word() {
        let table = include_str!("../../docs/operations.md");
        for exit in Exit::ALL {
            let row = format!("| {} | `{}` |", exit.code(), exit.word());
            assert!(
                table.contains(&row),
                "docs/operations.md lacks the row {row}"
            );
        }
    }
}
