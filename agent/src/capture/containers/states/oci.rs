//! `config.json` of a bundle, as the OCI runtime specification has it: containerd's tasks, and Podman's and CRI-O's.

use serde_json::Value;

use super::{File, Form, capabilities, host_namespaces};
use crate::capture::containers::json::View;
use crate::capture::containers::labels;
use crate::capture::containers::model::{Container, Mount};

/// containerd's tasks: `…/NAMESPACE/ID/config.json`.
pub(super) const BUNDLES: Form = Form {
    name: "containerd",
    globs: &[
        "/run/containerd/io.containerd.runtime.v2.task/*/*/config.json",
        "/run/containerd/io.containerd.runtime.v1.linux/*/*/config.json",
        "/run/k3s/containerd/io.containerd.runtime.v2.task/*/*/config.json",
        "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/*/*/config.json",
        "/run/host-containerd/io.containerd.runtime.v2.task/*/*/config.json",
        "/var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task/*/*/config.json",
        "/run/user/*/containerd/io.containerd.runtime.v2.task/*/*/config.json",
    ],
    read: bundle,
};

/// Those of containers/storage: `…-containers/ID/userdata/config.json`.
pub(super) const USERDATA: Form = Form {
    name: "userdata",
    globs: &[
        "/run/containers/storage/*-containers/*/userdata/config.json",
        "/var/lib/containers/storage/*-containers/*/userdata/config.json",
        "/run/user/*/containers/*-containers/*/userdata/config.json",
        "~/.local/share/containers/storage/*-containers/*/userdata/config.json",
    ],
    read: userdata,
};

fn bundle(file: &File<'_>) -> Result<Vec<Container>, String> {
    let json = file.object()?;
    let mut container = file.container(file.folder(1), None)?;
    // The specification has no word for the runtime: Docker's tasks are in a namespace of their own.
    container.runtime = Some(match file.folder(2) {
        Some("moby") => "docker",
        _ => "containerd",
    });
    fill(View(&json), &mut container);
    container.init = file.init_beside("init.pid");
    if let Some(root) = container
        .rootfs
        .as_mut()
        .filter(|root| !root.starts_with('/'))
    {
        *root = file
            .path
            .with_file_name(&root)
            .to_string_lossy()
            .into_owned();
    }
    Ok(vec![container])
}

fn userdata(file: &File<'_>) -> Result<Vec<Container>, String> {
    let json = file.object()?;
    let mut container = file.container(file.folder(2), None)?;
    fill(View(&json), &mut container);
    container.runtime = match container
        .labels
        .get("io.container.manager")
        .map(String::as_str)
    {
        Some("libpod") => Some("podman"),
        Some("cri-o") => Some("cri-o"),
        _ => container
            .labels
            .contains_key("io.kubernetes.cri-o.ContainerID")
            .then_some("cri-o"),
    };
    container.init = file.init_beside("pidfile");
    Ok(vec![container])
}

fn fill(view: View<'_>, container: &mut Container) {
    container.labels = view.named_texts("/annotations");
    // CRI-O keeps kubelet's labels as a text of JSON.
    let kubelet = container.labels.get("io.kubernetes.cri-o.Labels");
    if let Some(kubelet) = kubelet.and_then(|text| serde_json::from_str::<Value>(text).ok()) {
        container.labels.extend(View(&kubelet).named_texts(""));
    }
    container.name = labels::name(&container.labels);
    container.image = labels::image(&container.labels);
    container.created = container.labels.get("io.kubernetes.cri-o.Created").cloned();
    container.command = view.texts("/process/args");
    container.environment = view.texts("/process/env");
    container.rootfs = view.text("/root/path");
    container.mounts = view.each("/mounts").filter_map(mount).collect();
    container
        .capabilities
        .extend(capabilities(view.texts("/process/capabilities/bounding")));
    container
        .host_namespaces
        .extend(host_namespaces(view, "/linux/namespaces"));
    container.privileged = Some(privileged(view, container));
}

/// The specification has no word for it: nothing is masked or filtered, and it may administer the system.
fn privileged(view: View<'_>, container: &Container) -> bool {
    let told = [
        "io.podman.annotations.privileged",
        "io.kubernetes.cri-o.PrivilegedRuntime",
    ];
    let told = told.iter().filter_map(|name| container.labels.get(*name));
    let open = view.texts("/linux/maskedPaths").is_empty()
        && view.0.pointer("/linux/seccomp").is_none_or(Value::is_null);
    let strong = ["sys_admin", "sys_module"]
        .iter()
        .all(|name| container.capabilities.contains(*name));
    (open && strong)
        || told
            .into_iter()
            .any(|value| value.eq_ignore_ascii_case("true"))
}

fn mount(view: View<'_>) -> Option<Mount> {
    let options = view.texts("/options");
    let has = |word: &str| options.iter().any(|option| option == word);
    let bind = has("bind") || has("rbind");
    Some(Mount {
        source: view.text("/source"),
        destination: view.text("/destination")?,
        kind: bind
            .then(|| "bind".to_owned())
            .or_else(|| view.text("/type")),
        read_only: Some(has("ro")),
    })
}
