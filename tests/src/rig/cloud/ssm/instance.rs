//! Instances as Systems Manager sees them, and what becomes of the commands that they get.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::REGION;
use super::super::accounts::DEFAULT_ACCOUNT;

/// An instance under Systems Manager's control.
#[derive(Clone, Debug)]
pub struct Instance {
    pub id: String,
    pub account: String,
    pub region: String,
    pub tags: BTreeMap<String, String>,
    /// `Linux`, `Windows` or `MacOS`.
    pub platform: String,
    /// `Online`, `ConnectionLost` or `Inactive`: only the first takes commands.
    pub ping: String,
    pub agent_version: String,
    /// What the inventory has been told, a map for each package (`Name`, `Version`, ...); empty where it is off.
    pub packages: Vec<BTreeMap<String, String>>,
    pub work: Work,
    /// So many questions about a command come too early: Systems Manager does not know it yet.
    pub lost_at_first: usize,
}

/// What becomes of a command.
#[derive(Clone, Debug)]
pub enum Work {
    /// The document's steps run on this machine.
    Run(Runner),
    /// Nothing runs.
    Scripted(Script),
}

/// How the steps of a document run: as the test's own user, in `/`, in a mount namespace of their own with an empty
/// `/run` where the user is root.
#[derive(Clone, Debug)]
pub struct Runner {
    /// Beside `PATH` and the agent's own variables: endpoints, credentials.
    pub env: Vec<(String, String)>,
    pub fate: Fate,
    /// What the host puts in front of the output: whoever is root there can.
    pub noise: String,
    /// How long a second of the document's `timeoutSeconds` lasts.
    pub second: Duration,
}

/// What may happen to a command beside its steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Delivered,
    /// Nothing runs; the command is given up at once.
    Undeliverable,
    /// The command is given up after this time, and its steps run on to their end all the same.
    DeliveryTimedOut(Duration),
}

/// A trail of stages. Before the first, the command is pending.
#[derive(Clone, Debug, Default)]
pub struct Script(pub Vec<Stage>);

/// A state that a command takes.
#[derive(Clone, Debug)]
pub struct Stage {
    pub when: When,
    /// `InProgress`, `Success`, `Failed`, `TimedOut`, ...
    pub status: String,
    /// `Undeliverable`, `ExecutionTimedOut`, ...
    pub details: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// When a stage begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// After so many answers about the command on this instance.
    Polls(usize),
    /// So long after the command was sent.
    After(Duration),
}

impl Instance {
    /// A Linux instance of [`DEFAULT_ACCOUNT`] that is online.
    pub fn new(id: &str, work: Work) -> Self {
        Self {
            id: id.into(),
            account: DEFAULT_ACCOUNT.into(),
            region: REGION.into(),
            tags: BTreeMap::new(),
            platform: "Linux".into(),
            ping: "Online".into(),
            agent_version: "3.3.2746.0".into(),
            packages: Vec::new(),
            work,
            lost_at_first: 0,
        }
    }

    /// In this account.
    #[must_use]
    pub fn account(mut self, account: &str) -> Self {
        self.account = account.into();
        self
    }

    /// In this region.
    #[must_use]
    pub fn region(mut self, region: &str) -> Self {
        self.region = region.into();
        self
    }

    /// With a package in its inventory.
    #[must_use]
    pub fn package(mut self, name: &str, version: &str) -> Self {
        let fields = [("Name", name), ("Version", version)];
        let fields = fields.map(|(field, value)| (field.into(), value.into()));
        self.packages.push(fields.into());
        self
    }

    /// With this tag.
    #[must_use]
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }
}

impl Runner {
    /// Runs what it gets, with these variables.
    pub fn new(env: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).into(), (*value).into());
        Self {
            env: env.iter().map(owned).collect(),
            fate: Fate::Delivered,
            noise: String::new(),
            second: Duration::from_secs(1),
        }
    }

    /// With this fate.
    #[must_use]
    pub fn fate(mut self, fate: Fate) -> Self {
        self.fate = fate;
        self
    }

    /// With this in front of the output.
    #[must_use]
    pub fn noise(mut self, noise: &str) -> Self {
        self.noise = noise.into();
        self
    }
}

impl From<Runner> for Work {
    fn from(runner: Runner) -> Self {
        Self::Run(runner)
    }
}

impl From<Script> for Work {
    fn from(script: Script) -> Self {
        Self::Scripted(script)
    }
}

impl Script {
    /// Success with this output after so many answers.
    pub fn success(polls: usize, stdout: &str) -> Self {
        Self::default().then(When::Polls(polls), "Success", 0, stdout)
    }

    /// One more stage, whose details are its status.
    #[must_use]
    pub fn then(mut self, when: When, status: &str, code: i32, stdout: &str) -> Self {
        self.0.push(Stage {
            when,
            status: status.into(),
            details: status.into(),
            code,
            stdout: stdout.into(),
            stderr: String::new(),
        });
        self
    }

    /// Other details for the last stage.
    #[must_use]
    pub fn details(mut self, details: &str) -> Self {
        if let Some(stage) = self.0.last_mut() {
            stage.details = details.into();
        }
        self
    }
}
