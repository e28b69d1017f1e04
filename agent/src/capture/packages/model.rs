//! What package managers record, in one form for all of them.

use serde::Serialize;

use crate::capture::{Halt, Sink};

/// A package that is, or was, installed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Package {
    pub package: Ecs,
    pub exhibit: Own,
}

/// ECS field set `package`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ecs {
    pub name: String,
    /// With epoch and release, as the package manager compares it.
    pub version: String,
    pub architecture: String,
    /// `deb`, `rpm` or `apk`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Time of the installation, where it is recorded; for deb, that of the list of files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installed: Option<String>,
    /// Bytes of its files, as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// What ECS has no name for.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Own {
    /// File of the host that says so.
    pub database: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The package of source code, or its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub built: Option<String>,
    /// rpm: whether it came with a signature. Nobody checked it here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature_present: Option<bool>,
    /// rpm: whether its record still has the digest that was taken when it was built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_intact: Option<bool>,
}

/// How a digest was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// A file as a package manager records it. What it does not record is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recorded<'a> {
    /// Absolute, as bytes.
    pub path: &'a [u8],
    /// In lower-case hexadecimal.
    pub digest: Option<(Algorithm, &'a str)>,
    /// With the bits of the type.
    pub mode: Option<u32>,
    /// Without them, of whatever is no link.
    pub permissions: Option<u32>,
    pub user: Option<&'a [u8]>,
    pub group: Option<&'a [u8]>,
    /// Target, of a symbolic link.
    pub link: Option<&'a [u8]>,
    /// A file of settings, which its owner may change.
    pub config: bool,
    /// It may be absent: rpm's `%ghost` and `missingok`, a state that is not "installed".
    pub optional: bool,
    /// The package itself says that its content changes.
    pub volatile: bool,
}

/// Takes what the databases hold.
pub trait Visit {
    /// A package.
    ///
    /// # Errors
    /// When the artifact has to end.
    fn package(&mut self, package: &Package, sink: &mut Sink<'_>) -> Result<(), Halt>;

    /// A file of the package that came last.
    ///
    /// # Errors
    /// When the artifact has to end.
    fn file(
        &mut self,
        package: &Package,
        file: &Recorded<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Halt>;
}
