//! Which account an access key belongs to.

use std::collections::HashMap;
use std::sync::Mutex;

use super::super::moto::elements;

/// The account of keys that no one has spoken of.
pub const DEFAULT_ACCOUNT: &str = "123456789012";

/// The access keys that are known.
#[derive(Default)]
pub(super) struct Accounts(Mutex<HashMap<String, String>>);

impl Accounts {
    pub(super) fn of(&self, access_key: &str) -> String {
        let known = self.0.lock().unwrap().get(access_key).cloned();
        known.unwrap_or_else(|| DEFAULT_ACCOUNT.into())
    }

    pub(super) fn learn(&self, access_key: &str, account: &str) {
        let mut known = self.0.lock().unwrap();
        known.insert(access_key.into(), account.into());
    }

    /// Learns the key in an answer to AssumeRole: it belongs to the account of the role.
    pub(super) fn learn_from(&self, answer: &str) {
        let first = |name: &str| elements(answer, name).first().copied().map(str::to_string);
        let account = first("Arn").and_then(|arn| arn.split(':').nth(4).map(str::to_string));
        if let (Some(key), Some(account)) = (first("AccessKeyId"), account) {
            self.learn(&key, &account);
        }
    }
}
