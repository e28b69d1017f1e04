//! Where sealed objects go: a port of two methods, with a directory and an S3 bucket behind it.
//!
//! An object is put once and never again under the same key. What the store says of it is read back at once.

mod credentials;
mod directory;
mod error;
mod instance;
mod parameter;
mod queue;
mod resume;
mod s3;
mod s3_error;
mod s3_intercept;
mod s3_objects;

use bytes::Bytes;
use evidence::digest::Digest;
use evidence::manifest::StoredObject;

pub use credentials::Source as CredentialSource;
pub use directory::Directory;
pub use error::{Kind, ShipError};
pub use instance::instance_id;
pub use queue::{Drained, Queue, Shipped};
pub use resume::{ResumeError, Resumed, prefix_of, ship_directory};
pub use s3::{Lock, S3, S3Options, connect};

/// A sealed object on its way.
#[derive(Clone, Debug)]
pub struct Object {
    /// Key relative to the collection.
    pub key: String,
    pub bytes: Bytes,
    pub sha256: Digest,
}

impl Object {
    /// The object with the content `bytes`.
    pub fn new(key: &str, bytes: Vec<u8>) -> Self {
        Self {
            key: key.to_owned(),
            sha256: Digest::of(&bytes),
            bytes: Bytes::from(bytes),
        }
    }

    /// What is known of the object before a store has it.
    pub fn unshipped(&self) -> StoredObject {
        StoredObject {
            key: self.key.clone(),
            bytes: self.bytes.len() as u64,
            sha256: Some(self.sha256),
            ..StoredObject::default()
        }
    }
}

/// What a store says of itself before it takes anything.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    /// State of Object Lock, in words for the manifest.
    pub object_lock: String,
    /// What the operator should know, one line each.
    pub warnings: Vec<String>,
    /// The store's clock when it answered, in nanoseconds since the epoch, and ours at that moment.
    pub clock: Option<(i64, i64)>,
}

/// A place that keeps the objects of one collection.
pub trait Store: Send + Sync {
    /// `directory` or `s3`.
    fn kind(&self) -> &'static str;

    /// The place, as the operator would name it.
    fn place(&self) -> String;

    /// Makes sure that the place can be used and protects what it is given, without writing to it.
    ///
    /// # Errors
    /// Why it can not be used.
    fn prepare(&self) -> Result<Readiness, ShipError>;

    /// Stores an object under a key that was never used, and reads back what the store has.
    ///
    /// # Errors
    /// After the last attempt. An object that is there already with the same content is no error.
    fn put(&self, object: &Object) -> Result<StoredObject, ShipError>;

    /// How the store resolved its name, where it has one.
    fn resolved_by(&self) -> Option<String> {
        None
    }
}
