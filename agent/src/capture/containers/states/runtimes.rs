//! The state of the runtimes below: runc's `state.json`, crun's `status`. They know the first process and its start.

use super::{File, Form, capabilities, host_namespaces};
use crate::capture::containers::json::View;
use crate::capture::containers::model::{Container, Init, Mount};

pub(super) const RUNC: Form = Form {
    name: "runc",
    globs: &[
        "/run/runc/*/state.json",
        "/run/containerd/runc/*/*/state.json",
        "/run/k3s/containerd/runc/*/*/state.json",
        "/run/host-containerd/runc/*/*/state.json",
        "/run/docker/runtime-runc/*/*/state.json",
        "/run/docker/runtime-runc/*/state.json",
        "/run/user/*/runc/*/state.json",
        "/run/user/*/docker/runtime-runc/*/*/state.json",
    ],
    read: runc,
};

pub(super) const CRUN: Form = Form {
    name: "crun",
    globs: &["/run/crun/*/status", "/run/user/*/crun/*/status"],
    read: crun,
};

fn runc(file: &File<'_>) -> Result<Vec<Container>, String> {
    let json = file.object()?;
    let view = View(&json);
    let mut container = file.container(file.folder(1), view.text("/id"))?;
    container.runtime = Some(if file.says("/moby/") {
        "docker"
    } else {
        "runc"
    });
    container.created = view.text("/created");
    container.init = init(view, "/init_process_pid", "/init_process_start");
    container.rootfs = view.text("/config/rootfs");
    let mount = |mount: View<'_>| {
        Some(Mount {
            source: mount.text("/source"),
            destination: mount.text("/destination")?,
            kind: mount.text("/device"),
            read_only: None,
        })
    };
    container.mounts = view.each("/config/mounts").filter_map(mount).collect();
    container
        .capabilities
        .extend(capabilities(view.texts("/config/capabilities/Bounding")));
    container
        .host_namespaces
        .extend(host_namespaces(view, "/config/namespaces"));
    Ok(vec![container])
}

fn crun(file: &File<'_>) -> Result<Vec<Container>, String> {
    let json = file.object()?;
    let view = View(&json);
    let mut container = file.container(file.folder(1), None)?;
    container.runtime = Some("crun");
    container.created = view.text("/created");
    container.rootfs = view.text("/rootfs");
    container.init = init(view, "/pid", "/process-start-time");
    Ok(vec![container])
}

fn init(view: View<'_>, pid: &str, start: &str) -> Option<Init> {
    Some(Init {
        pid: view.pid(pid)?,
        start_ticks: view.number(start).filter(|ticks| *ticks > 0),
    })
}
