//! What the runtimes wrote down of their containers, read as files: no runtime is asked, and none is run.
//!
//! A state file is the host's word, and may be an intruder's. What is too large, cut, of another kind or says that it is of
//! another container than its place says, is named in the table *containers/sources*, and costs itself alone.

mod docker;
mod machines;
mod oci;
mod runtimes;
mod storage;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::json::View;
use super::model::{Container, Init, is_id};
use crate::capture::walk::matches;
use crate::capture::{Halt, Sink};
use crate::host::{Host, HostError};

/// Longest state file; the largest that is usual is a list of all containers.
const LONGEST: usize = 2 << 20;
/// Most state files that are read.
const MOST: usize = 20_000;

/// Containers by id.
pub type Known = BTreeMap<String, Container>;

/// A file, and what is beside it.
struct File<'a> {
    host: &'a Host,
    path: &'a Path,
    bytes: &'a [u8],
}

impl File<'_> {
    /// Name of the folder so many levels above the file.
    fn folder(&self, levels: usize) -> Option<&str> {
        self.path.ancestors().nth(levels)?.file_name()?.to_str()
    }

    /// The JSON object that it holds.
    fn object(&self) -> Result<Value, String> {
        let json = self.json()?;
        match json.is_object() {
            true => Ok(json),
            false => Err("no object".to_owned()),
        }
    }

    /// The JSON that it holds.
    fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(self.bytes).map_err(|error| format!("no JSON: {error}"))
    }

    /// A small file in the same folder.
    fn beside(&self, name: &str) -> Option<Vec<u8>> {
        let read = self
            .host
            .root()
            .read(self.path.with_file_name(name), LONGEST);
        read.ok()
            .filter(|content| !content.truncated)
            .map(|content| content.bytes)
    }

    /// The first process, whose number is in a file in the same folder.
    fn init_beside(&self, name: &str) -> Option<Init> {
        let bytes = self.beside(name)?;
        let pid: i32 = std::str::from_utf8(&bytes).ok()?.trim().parse().ok()?;
        (pid > 0).then_some(Init {
            pid,
            start_ticks: None,
        })
    }

    fn says(&self, text: &str) -> bool {
        self.path.to_string_lossy().contains(text)
    }

    /// A container with the id that the file's place gives it, unless the file says that it is another's.
    fn container(&self, place: Option<&str>, said: Option<String>) -> Result<Container, String> {
        let id = place
            .filter(|id| is_id(id))
            .ok_or("its folder has no id for a name")?;
        match said {
            Some(said) if said != id => {
                Err(format!("it says that it is of the container {said:?}"))
            }
            _ => Ok(Container::new(id)),
        }
    }
}

type Read = fn(&File<'_>) -> Result<Vec<Container>, String>;

/// Files of one form: where they are, and how they are read.
struct Form {
    name: &'static str,
    globs: &'static [&'static str],
    read: Read,
}

impl Form {
    /// Whether a path that came with the matches is such a file, and no link on the way to one.
    fn has(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default();
        self.globs.iter().any(|glob| match glob.strip_suffix("/*") {
            Some(folder) => {
                path.parent() == Some(Path::new(folder)) && name.to_str().is_some_and(is_id)
            }
            None => Path::new(glob).file_name() == Some(name),
        })
    }
}

/// The richest come first: the first word counts.
const FORMS: &[Form] = &[
    docker::FORM,
    oci::BUNDLES,
    oci::USERDATA,
    storage::FORM,
    runtimes::RUNC,
    runtimes::CRUN,
    machines::FORM,
];

/// A line of the table of sources.
#[derive(Serialize)]
struct Source<'a> {
    path: String,
    form: &'static str,
    containers: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// All containers that state files tell of.
///
/// # Errors
/// When the artifact has to end.
pub fn read(host: &Host, sink: &mut Sink<'_>) -> Result<Known, Halt> {
    let mut known = Known::new();
    let mut left = MOST;
    for form in FORMS {
        let paths = matches(host, form.globs, &mut |failed| match failed {
            Some((path, error)) => sink.lost(path, &error),
            None => sink.check(),
        })?;
        for path in paths.iter().filter(|path| form.has(path)) {
            if left == 0 {
                sink.loss("truncated:state files");
                return Ok(known);
            }
            left -= 1;
            one(host, path, form, &mut known, sink)?;
        }
    }
    Ok(known)
}

fn one(
    host: &Host,
    path: &Path,
    form: &Form,
    known: &mut Known,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let read = host.root().read(path, LONGEST);
    let result = match read {
        Ok(content) if content.truncated => {
            sink.count(&HostError::TooMuch);
            Err(format!("larger than {LONGEST} bytes"))
        }
        Ok(content) => {
            let bytes = &content.bytes;
            let found = (form.read)(&File { host, path, bytes });
            if found.is_err() {
                sink.loss("malformed");
            }
            found
        }
        Err(error) if error.is_gone() => {
            sink.gone();
            return Ok(());
        }
        Err(error) => {
            match error {
                HostError::NotAFile(_) => sink.loss("no regular file"),
                _ => sink.count(&error),
            }
            Err(error.to_string())
        }
    };
    let found = result.as_deref().unwrap_or_default();
    let name = path.to_string_lossy().into_owned();
    let row = Source {
        path: name.clone(),
        form: form.name,
        containers: found
            .iter()
            .map(|container| container.id.as_str())
            .collect(),
        error: result.as_ref().err().map(String::as_str),
    };
    sink.record("containers/sources", &row)?;
    for mut container in result.unwrap_or_default() {
        container.sources.insert(name.clone());
        match known.get_mut(&container.id) {
            Some(mine) => mine.merge(container),
            None => drop(known.insert(container.id.clone(), container)),
        }
    }
    Ok(())
}

/// Names of capabilities without `CAP_`, in small letters, as other tables have them.
fn capabilities(names: Vec<String>) -> impl Iterator<Item = String> {
    let plain = |name: String| {
        let name = name.to_ascii_lowercase();
        name.strip_prefix("cap_").map(str::to_owned).unwrap_or(name)
    };
    names.into_iter().map(plain)
}

/// Names of namespaces as in `/proc/PID/ns`, as OCI and runc call them.
fn namespace(name: &str) -> Option<&'static str> {
    match name {
        "network" | "NEWNET" => Some("net"),
        "pid" | "NEWPID" => Some("pid"),
        "mount" | "NEWNS" => Some("mnt"),
        "ipc" | "NEWIPC" => Some("ipc"),
        "uts" | "NEWUTS" => Some("uts"),
        _ => None,
    }
}

/// The namespaces that a container has in common with the host: those that none is listed for in `pointer`. A namespace of
/// users of its own is rather the exception, and is not looked for.
fn host_namespaces(view: View<'_>, pointer: &str) -> Vec<String> {
    let own: Vec<String> = view
        .each(pointer)
        .filter_map(|item| item.text("/type"))
        .collect();
    let own: Vec<&str> = own.iter().filter_map(|name| namespace(name)).collect();
    let all = ["net", "pid", "mnt", "ipc", "uts"].into_iter();
    match view.0.pointer(pointer).is_some_and(Value::is_array) {
        true => all
            .filter(|kind| !own.contains(kind))
            .map(str::to_owned)
            .collect(),
        false => Vec::new(),
    }
}
