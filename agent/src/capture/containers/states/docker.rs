//! Docker: `config.v2.json` and, beside it, `hostconfig.json`. ECS and dockershim are told of by labels.

use serde_json::Value;

use super::{File, Form, capabilities};
use crate::capture::containers::json::View;
use crate::capture::containers::labels;
use crate::capture::containers::model::{Container, Init, Mount};

pub(super) const FORM: Form = Form {
    name: "docker",
    globs: &[
        "/var/lib/docker/containers/*/config.v2.json",
        "/var/lib/docker/*.*/containers/*/config.v2.json",
        "/var/snap/docker/common/var-lib-docker/containers/*/config.v2.json",
        "/data/docker/containers/*/config.v2.json",
        "/mnt/docker/containers/*/config.v2.json",
        "~/.local/share/docker/containers/*/config.v2.json",
    ],
    read,
};

fn read(file: &File<'_>) -> Result<Vec<Container>, String> {
    let json = file.object()?;
    let view = View(&json);
    let mut container = file.container(file.folder(1), view.text("/ID"))?;
    container.runtime = Some("docker");
    container.labels = view.named_texts("/Config/Labels");
    container.name = view
        .text("/Name")
        .map(|name| name.trim_start_matches('/').to_owned());
    container.image = view
        .text("/Config/Image")
        .or_else(|| labels::image(&container.labels));
    container.image_id = view.text("/Image");
    container.created = view.text("/Created");
    container.started = view.text("/State/StartedAt");
    container.state = Some(state(view).to_owned());
    let pid = view
        .pid("/State/Pid")
        .filter(|_| view.flag("/State/Running") == Some(true));
    container.init = pid.map(|pid| Init {
        pid,
        start_ticks: None,
    });
    container.command = view
        .text("/Path")
        .into_iter()
        .chain(view.texts("/Args"))
        .collect();
    container.environment = view.texts("/Config/Env");
    container.mounts = mounts(view);
    if let Some(settings) = file.beside("hostconfig.json") {
        let settings: Value = serde_json::from_slice(&settings)
            .map_err(|error| format!("hostconfig.json is no JSON: {error}"))?;
        host_settings(View(&settings), &mut container);
    }
    Ok(vec![container])
}

fn state(view: View<'_>) -> &'static str {
    let is = |name: &str| view.flag(&format!("/State/{name}")) == Some(true);
    match () {
        () if is("Dead") => "dead",
        () if is("RemovalInProgress") => "removing",
        () if is("Restarting") => "restarting",
        () if is("Paused") => "paused",
        () if is("Running") => "running",
        () if view
            .text("/State/StartedAt")
            .is_some_and(|time| !time.starts_with("0001")) =>
        {
            "exited"
        }
        () => "created",
    }
}

fn mounts(view: View<'_>) -> Vec<Mount> {
    let mount = |(point, mount): (&str, View<'_>)| Mount {
        source: mount.first(&["/Source", "/Name"]),
        destination: mount
            .text("/Destination")
            .unwrap_or_else(|| point.to_owned()),
        kind: mount.text("/Type"),
        read_only: mount.flag("/RW").map(|writable| !writable),
    };
    view.named("/MountPoints").map(mount).collect()
}

/// What of the host it was given.
fn host_settings(view: View<'_>, container: &mut Container) {
    container.privileged = view.flag("/Privileged");
    container
        .capabilities
        .extend(capabilities(view.texts("/CapAdd")));
    let modes = [
        ("net", "/NetworkMode"),
        ("pid", "/PidMode"),
        ("ipc", "/IpcMode"),
        ("uts", "/UTSMode"),
    ];
    let hosts = modes
        .iter()
        .filter(|(_, mode)| view.text(mode).as_deref() == Some("host"));
    container
        .host_namespaces
        .extend(hosts.map(|(kind, _)| (*kind).to_owned()));
    // A container that never ran has its mounts here alone.
    for bind in view.texts("/Binds") {
        let mut parts = bind.splitn(3, ':');
        let (Some(source), Some(destination)) = (parts.next(), parts.next()) else {
            continue;
        };
        if container
            .mounts
            .iter()
            .all(|mount| mount.destination != destination)
        {
            container.mounts.push(Mount {
                source: Some(source.to_owned()),
                destination: destination.to_owned(),
                kind: Some("bind".to_owned()),
                read_only: parts
                    .next()
                    .map(|options| options.split(',').any(|option| option == "ro")),
            });
        }
    }
}
