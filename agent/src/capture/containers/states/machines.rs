//! Machines of systemd: `/run/systemd/machines/NAME`, lines of `KEY=value` that systemd-machined writes. The links by unit
//! beside them have a colon in their name, and lead to the same files.

use std::collections::BTreeMap;

use super::{File, Form};
use crate::capture::containers::model::{Container, Init};
use crate::capture::processes::parse::text;

pub(super) const FORM: Form = Form {
    name: "machined",
    globs: &["/run/systemd/machines/*"],
    read,
};

fn read(file: &File<'_>) -> Result<Vec<Container>, String> {
    let name = file.folder(0);
    let content = text(file.bytes);
    let lines = content.lines().filter_map(|line| line.split_once('='));
    let values: BTreeMap<&str, &str> = lines.collect();
    let said = values.get("NAME").map(|name| (*name).to_owned());
    let class = values
        .get("CLASS")
        .copied()
        .ok_or("no machine of systemd")?;
    let mut container = file.container(name, said)?;
    // Virtual machines are registered there, too.
    if class != "container" {
        return Ok(Vec::new());
    }
    container.runtime = values.get("SERVICE").map(|service| match *service {
        "systemd-nspawn" => "nspawn",
        "libvirt-lxc" => "lxc",
        _ => "machined",
    });
    container.name = name.map(str::to_owned);
    container.rootfs = values.get("ROOT").map(|root| (*root).to_owned());
    let pid = values.get("LEADER").and_then(|pid| pid.parse().ok());
    container.init = pid.map(|pid| Init {
        pid,
        start_ticks: None,
    });
    Ok(vec![container])
}
