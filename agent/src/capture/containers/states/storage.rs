//! `containers.json` of containers/storage: the list that Podman, CRI-O and Buildah share.

use serde_json::Value;

use super::{File, Form};
use crate::capture::containers::json::View;
use crate::capture::containers::model::{Container, is_id};

pub(super) const FORM: Form = Form {
    name: "storage",
    globs: &[
        "/var/lib/containers/storage/*-containers/containers.json",
        "/run/containers/storage/*-containers/containers.json",
        "/var/lib/containers/storage/*-containers/volatile-containers.json",
        "~/.local/share/containers/storage/*-containers/containers.json",
        "~/.local/share/containers/storage/*-containers/volatile-containers.json",
    ],
    read,
};

fn read(file: &File<'_>) -> Result<Vec<Container>, String> {
    let json = file.json()?;
    if !json.is_array() {
        return Err("no list".to_owned());
    }
    let found: Option<Vec<Container>> = View(&json).each("").map(container).collect();
    found.ok_or_else(|| "an entry without an id".to_owned())
}

fn container(view: View<'_>) -> Option<Container> {
    let id = view.text("/id").filter(|id| is_id(id))?;
    let mut container = Container::new(&id);
    container.name = view.text("/names/0");
    container.image_id = view.text("/image");
    container.created = view.text("/created");
    // What the program that made it wants to remember: JSON in a text.
    let metadata = view
        .text("/metadata")
        .and_then(|text| serde_json::from_str::<Value>(&text).ok());
    if let Some(metadata) = &metadata {
        let metadata = View(metadata);
        container.image = metadata.text("/image-name");
        let pod = metadata.first(&["/pod-name", "/pod-id"]);
        container.runtime = Some(if pod.is_some() { "cri-o" } else { "podman" });
    }
    Some(container)
}
