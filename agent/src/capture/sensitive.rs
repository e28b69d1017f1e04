//! What is sensitive, and what becomes of it: collected, masked or only hashed, as the operator decides.
//!
//! Masking keeps the shape that an analyst needs, such as which account has a password at all, and takes the secret out.
//! What was done stands with each item in the inventory, and the policy in the manifest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A kind of secret.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Class {
    /// `/etc/shadow` and its like.
    PasswordHashes,
    /// Of SSH, TLS, VPNs, GnuPG.
    PrivateKeys,
    /// Variables of processes, whose names speak of secrets.
    Environment,
    /// Of AWS and other clouds, of clusters and registries.
    CloudCredentials,
}

impl Class {
    pub const ALL: [Self; 4] = [
        Self::PasswordHashes,
        Self::PrivateKeys,
        Self::Environment,
        Self::CloudCredentials,
    ];

    /// The word in options, manifests and documents.
    pub fn word(self) -> &'static str {
        match self {
            Self::PasswordHashes => "password_hashes",
            Self::PrivateKeys => "private_keys",
            Self::Environment => "environment",
            Self::CloudCredentials => "cloud_credentials",
        }
    }
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Policy {
    /// As it is.
    Collect,
    /// Without the secret itself.
    Mask,
    /// Its SHA-256 alone.
    Hash,
}

impl Policy {
    /// The word in options, manifests and documents.
    pub fn word(self) -> &'static str {
        match self {
            Self::Collect => "collect",
            Self::Mask => "mask",
            Self::Hash => "hash",
        }
    }
}

/// The policy for each class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policies(BTreeMap<Class, Policy>);

impl Default for Policies {
    /// Keys and credentials open other doors: their hash tells whether they were taken. Which account has a password is
    /// needed, the hash of it is not. The environment shows how a process was started.
    fn default() -> Self {
        Self(BTreeMap::from([
            (Class::PasswordHashes, Policy::Mask),
            (Class::PrivateKeys, Policy::Hash),
            (Class::Environment, Policy::Collect),
            (Class::CloudCredentials, Policy::Hash),
        ]))
    }
}

impl Policies {
    /// The default, with what `given` says otherwise.
    pub fn with(given: &[(Class, Policy)]) -> Self {
        let mut policies = Self::default();
        policies.0.extend(given.iter().copied());
        policies
    }

    pub fn of(&self, class: Class) -> Policy {
        self.0.get(&class).copied().unwrap_or(Policy::Hash)
    }

    /// For the manifest: class and policy by their words.
    pub fn words(&self) -> BTreeMap<String, String> {
        let words = |(class, policy): (&Class, &Policy)| {
            (class.word().to_owned(), policy.word().to_owned())
        };
        self.0.iter().map(words).collect()
    }
}

/// What stands where a secret stood.
const MASK: &str = "MASKED";
/// Most of a file that is masked; a larger one is no list of accounts or settings.
pub(crate) const MOST: usize = 4 << 20;

/// `bytes` without their secrets.
pub(crate) fn mask(class: Class, bytes: &[u8]) -> Vec<u8> {
    match class {
        Class::PasswordHashes => lines(bytes, b'\n', shadow),
        Class::PrivateKeys => lines(bytes, b'\n', key),
        Class::CloudCredentials => lines(bytes, b'\n', setting),
        Class::Environment => lines(bytes, 0, variable),
    }
}

fn lines(bytes: &[u8], end: u8, each: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let masked: Vec<Vec<u8>> = bytes.split(|byte| *byte == end).map(each).collect();
    masked.join(&end)
}

/// A line of shadow(5) or gshadow(5): the hash goes, its kind and whether there is one stay.
fn shadow(line: &[u8]) -> Vec<u8> {
    let mut fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
    let Some(password) = fields.get_mut(1) else {
        return line.to_vec();
    };
    // `!` and `*` lock, an empty field lets everybody in: that is no secret, it is evidence.
    let locks = password
        .iter()
        .take_while(|byte| matches!(byte, b'!' | b'*'))
        .count();
    let (locks, hash) = password.split_at(locks);
    let kind: &[u8] = match hash.strip_prefix(b"$") {
        Some(rest) => rest.split(|byte| *byte == b'$').next().unwrap_or_default(),
        None => b"",
    };
    let masked = match hash.is_empty() {
        true => locks.to_vec(),
        false if kind.is_empty() => [locks, MASK.as_bytes()].concat(),
        false => [locks, b"$", kind, b"$", MASK.as_bytes()].concat(),
    };
    *password = &masked;
    fields.join(&b':')
}

/// A line of a key file: what frames it stays, such as `-----BEGIN` and the headers of PEM.
fn key(line: &[u8]) -> Vec<u8> {
    let frame = line.starts_with(b"-----") || line.trim_ascii().is_empty();
    let setting = line.contains(&b'=') && !line.trim_ascii_end().ends_with(b"=");
    match (frame, setting) {
        (true, _) => line.to_vec(),
        (false, true) => setting_value(line, b'='),
        (false, false) => MASK.as_bytes().to_vec(),
    }
}

/// A line of a file of settings: every value goes, unless it is plainly none, such as a region or the id of a key.
fn setting(line: &[u8]) -> Vec<u8> {
    let text = line.trim_ascii();
    let kept = text.is_empty()
        || text.starts_with(b"[")
        || text.starts_with(b"#")
        || KEPT.iter().any(|name| {
            text.trim_ascii_start()
                .to_ascii_lowercase()
                .starts_with(name.as_bytes())
        });
    if kept {
        return line.to_vec();
    }
    let mark = line
        .iter()
        .copied()
        .find(|byte| matches!(byte, b'=' | b':'));
    match mark {
        Some(mark) => setting_value(line, mark),
        // One word alone on its line may be the secret.
        None if text.len() > 2 => MASK.as_bytes().to_vec(),
        None => line.to_vec(),
    }
}

/// Names whose values tell where, not what.
const KEPT: &[&str] = &[
    "aws_access_key_id",
    "region",
    "output",
    "role_arn",
    "source_profile",
    "sso_region",
    "sso_account_id",
    "sso_role_name",
    "apiversion:",
    "kind:",
    "current-context:",
    "server:",
    "cluster:",
    "namespace:",
];

fn setting_value(line: &[u8], mark: u8) -> Vec<u8> {
    let at = line
        .iter()
        .position(|byte| *byte == mark)
        .unwrap_or(line.len());
    let (name, value) = line.split_at(at);
    // A structure that opens, such as `users:` or `"auths": {`, has no value on its line.
    match value.get(1..).unwrap_or_default().trim_ascii() {
        b"" | b"{" | b"[" => line.to_vec(),
        _ => [name, &[mark], b" ", MASK.as_bytes()].concat(),
    }
}

/// `NAME=value` of a process: the value goes when the name speaks of a secret.
fn variable(entry: &[u8]) -> Vec<u8> {
    const SECRET: &[&str] = &[
        "PASS",
        "SECRET",
        "TOKEN",
        "CREDENTIAL",
        "APIKEY",
        "API_KEY",
        "PRIVATE",
        "ACCESS_KEY",
        "AUTH",
        "_KEY",
    ];
    let name = entry.split(|byte| *byte == b'=').next().unwrap_or_default();
    let upper = String::from_utf8_lossy(name).to_ascii_uppercase();
    let secret = SECRET.iter().any(|word| upper.contains(word)) && upper != "AWS_ACCESS_KEY_ID";
    match secret && entry.len() > name.len() + 1 {
        true => [name, b"=", MASK.as_bytes()].concat(),
        false => entry.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(class: Class, text: &str) -> String {
        String::from_utf8(mask(class, text.as_bytes())).unwrap()
    }

    #[test]
    fn hashes_go_and_what_they_lock_stays() {
        let text = "root:$6$salt$hash:19000:0:99999:7:::\nlocked:!$y$j9T$x:1\nno:*:1\nopen::1\nold:abJnggxhB/yWI:1\nodd\n";
        let want = "root:$6$MASKED:19000:0:99999:7:::\nlocked:!$y$MASKED:1\nno:*:1\nopen::1\nold:MASKED:1\nodd\n";
        assert_eq!(masked(Class::PasswordHashes, text), want);
    }

    #[test]
    fn keys_keep_their_frame() {
        let text = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1r\nAAAA==\n-----END OPENSSH PRIVATE KEY-----\n";
        let want = "-----BEGIN OPENSSH PRIVATE KEY-----\nMASKED\nMASKED\n-----END OPENSSH PRIVATE KEY-----\n";
        assert_eq!(masked(Class::PrivateKeys, text), want);
        let wireguard = "[Interface]\nPrivateKey = aGVsbG8gd29ybGQ=\n";
        assert!(!masked(Class::PrivateKeys, wireguard).contains("aGVs"));
    }

    #[test]
    fn credentials_keep_the_names_and_the_id_of_the_key() {
        let text = "[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = wJalr\nregion=eu-west-1\n";
        let want = "[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = MASKED\nregion=eu-west-1\n";
        assert_eq!(masked(Class::CloudCredentials, text), want);
        for secret in ["    token: abcdef", "\"auth\": \"c2VjcmV0\"", "hvs.CAESIJ"] {
            let text = masked(Class::CloudCredentials, secret);
            assert!(text.ends_with(MASK), "{text}");
        }
        assert_eq!(
            masked(Class::CloudCredentials, "users:\n- name: x"),
            "users:\n- name: MASKED"
        );
    }

    #[test]
    fn variables_that_speak_of_secrets_are_masked() {
        let text = "PATH=/bin\0DB_PASSWORD=hunter2\0AWS_ACCESS_KEY_ID=AKIA\0AWS_SECRET_ACCESS_KEY=x\0EMPTY_TOKEN=\0";
        let want = "PATH=/bin\0DB_PASSWORD=MASKED\0AWS_ACCESS_KEY_ID=AKIA\0AWS_SECRET_ACCESS_KEY=MASKED\0EMPTY_TOKEN=\0";
        assert_eq!(masked(Class::Environment, text), want);
    }

    #[test]
    fn what_is_given_wins_over_the_default() {
        let policies = Policies::with(&[(Class::PrivateKeys, Policy::Collect)]);
        assert_eq!(policies.of(Class::PrivateKeys), Policy::Collect);
        assert_eq!(policies.of(Class::CloudCredentials), Policy::Hash);
        assert_eq!(policies.words().len(), Class::ALL.len());
    }
}
