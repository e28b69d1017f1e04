//! The container that `/proc/PID/cgroup` names: paths as the drivers of the runtimes make them, with cgroup v1 and v2.
//!
//! | driver | path |
//! | --- | --- |
//! | systemd | `…/docker-ID.scope`, `crio-ID.scope`, `cri-containerd-ID.scope`, `libpod-ID.scope`, `nerdctl-ID.scope` |
//! | cgroupfs | `/docker/ID`, `/kubepods/…/podUID/ID`, `/ecs/TASK/ID`, `/actions_job/ID`, `/NAMESPACE/ID` |
//! | systemd's path for cgroupfs | `…/kubepods-podUID.slice:cri-containerd:ID` |
//! | others | `/machine.slice/machine-NAME.scope`, `…/systemd-nspawn@NAME.service`, `/lxc.payload.NAME`, `/lxc/NAME` |

use super::model::is_id;

/// What a cgroup claims of the process in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    pub id: String,
    /// Where the path tells which it is.
    pub runtime: Option<&'static str>,
    /// Of a pod of Kubernetes.
    pub pod_uid: Option<String>,
    /// Id of a task of ECS.
    pub task: Option<String>,
}

/// Prefixes of systemd's scopes, and of the third part of a path that cgroupfs took for one of systemd's.
const SCOPES: &[(&str, &str)] = &[
    ("cri-containerd", "containerd"),
    ("containerd", "containerd"),
    ("docker", "docker"),
    ("crio", "cri-o"),
    ("libpod", "podman"),
    ("nerdctl", "containerd"),
    ("runc", "runc"),
    ("crun", "crun"),
];
/// How systemd writes a dash of a name in the name of a unit.
const ESCAPED_DASH: &str = r"\x2d";
/// Folders of cgroupfs in which each folder is a container, whatever its name is.
const PARENTS: &[(&str, &str)] = &[
    ("docker", "docker"),
    ("actions_job", "docker"),
    ("libpod_parent", "podman"),
    ("lxc", "lxc"),
    ("lxc.payload", "lxc"),
];

/// The containers that the text of `/proc/PID/cgroup` names, the innermost last: one can run in another.
pub fn claims(text: &str) -> Vec<Claim> {
    let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    // With v1 some hierarchies may stand at the root: the path that names most is the one that counts.
    let all = paths.map(claims_of_path);
    all.max_by_key(Vec::len).unwrap_or_default()
}

/// The paths that a cgroup text holds.
pub fn paths(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.splitn(3, ':').nth(2))
}

fn claims_of_path(path: &str) -> Vec<Claim> {
    let mut claims: Vec<Claim> = Vec::new();
    let (mut pod_uid, mut task, mut above) = (None, None, "");
    for part in path.split('/') {
        pod_uid = pod(part).or(pod_uid);
        if above == "ecs" && !is_hash(part) && is_id(part) {
            task = Some(part.to_owned());
        }
        if let Some((id, runtime)) = container(part, above) {
            claims.push(Claim {
                id,
                runtime: runtime.or(task.is_some().then_some("docker")),
                pod_uid: pod_uid.clone(),
                task: task.clone(),
            });
        }
        above = part;
    }
    claims
}

/// Id and runtime, when a part of a path is a container's.
fn container(part: &str, above: &str) -> Option<(String, Option<&'static str>)> {
    if let Some(scope) = part.strip_suffix(".scope") {
        if let Some(name) = scope
            .strip_prefix("machine-")
            .filter(|_| above == "machine.slice")
        {
            // Virtual machines are there, too.
            let name = name.replace(ESCAPED_DASH, "-");
            return named(&name, "nspawn").filter(|_| !name.starts_with("qemu-"));
        }
        // `libpod-conmon-ID` is the monitor beside the container, on the host.
        let (prefix, id) = scope.rsplit_once('-')?;
        return named(id, runtime(prefix)?);
    }
    if let Some(unit) = part.strip_prefix("systemd-nspawn@") {
        let name = unit.strip_suffix(".service")?.replace(ESCAPED_DASH, "-");
        return named(&name, "nspawn");
    }
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return named(name, "lxc");
    }
    if let Some((prefix, id)) = part.rsplit_once(':') {
        return named(id, runtime(prefix.rsplit(':').next()?)?);
    }
    if let Some(id) = part.strip_prefix("libpod-").filter(|id| is_hash(id)) {
        return named(id, "podman");
    }
    let parent = PARENTS.iter().find(|(parent, _)| *parent == above);
    let runtime = parent.map(|(_, runtime)| *runtime);
    let any_name = runtime == Some("lxc") && is_id(part);
    (any_name || is_hash(part) || is_ecs(part)).then(|| (part.to_owned(), runtime))
}

fn named(id: &str, runtime: &'static str) -> Option<(String, Option<&'static str>)> {
    is_id(id).then(|| (id.to_owned(), Some(runtime)))
}

/// Whose prefix of a scope it is.
fn runtime(prefix: &str) -> Option<&'static str> {
    let known = SCOPES.iter().find(|(scope, _)| *scope == prefix)?;
    Some(known.1)
}

/// 64 hexadecimal digits, as all runtimes that make ids themselves have.
fn is_hash(part: &str) -> bool {
    part.len() == 64
        && part
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// `TASK-NUMBER`, as Fargate names containers: 32 hexadecimal digits and a decimal number.
fn is_ecs(part: &str) -> bool {
    let Some((task, number)) = part.split_once('-') else {
        return false;
    };
    let digits = |text: &str, digit: fn(&u8) -> bool| {
        !text.is_empty() && text.bytes().all(|byte| digit(&byte))
    };
    task.len() == 32 && digits(task, u8::is_ascii_hexdigit) && digits(number, u8::is_ascii_digit)
}

/// The uid in `podUID` or `kubepods-burstable-podUID.slice`, where systemd wants underscores for dashes.
fn pod(part: &str) -> Option<String> {
    let part = part.split(':').next()?;
    let uid = match part.strip_suffix(".slice") {
        Some(slice) => slice.strip_prefix("kubepods")?.rsplit_once("-pod")?.1,
        None => part.strip_prefix("pod")?,
    };
    (uid.len() >= 32 && is_id(uid)).then(|| uid.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    const UID: &str = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";

    /// `RUNTIME ID POD TASK` of the innermost, with dashes for what is not told.
    fn innermost(text: &str) -> String {
        claims(text).last().map_or_else(String::new, |claim| {
            let word = |word: Option<&str>| word.unwrap_or("-").to_owned();
            let id = claim.id.replace(A, "A").replace(B, "B");
            [
                word(claim.runtime),
                id,
                word(claim.pod_uid.as_deref()),
                word(claim.task.as_deref()),
            ]
            .join(" ")
        })
    }

    #[test]
    fn each_driver_names_its_container() {
        let slice = format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
        for (path, want) in [
            (format!("/system.slice/docker-{A}.scope"), "docker A - -".to_owned()),
            (format!("/docker/{A}"), "docker A - -".to_owned()),
            (format!("/docker/{A}/system.slice/x.service"), "docker A - -".to_owned()),
            (format!("/docker/{A}/docker/{B}"), "docker B - -".to_owned()),
            (format!("/actions_job/{A}"), "docker A - -".to_owned()),
            (format!("/kubepods.slice/{slice}/cri-containerd-{A}.scope"), format!("containerd A {UID} -")),
            (format!("/kubepods.slice/{slice}/crio-{A}.scope/container"), format!("cri-o A {UID} -")),
            (format!("/kubepods/besteffort/pod{UID}/{A}"), format!("- A {UID} -")),
            (
                format!("/system.slice/containerd.service/{slice}:cri-containerd:{A}"),
                format!("containerd A {UID} -"),
            ),
            (format!("/machine.slice/libpod-{A}.scope/container"), "podman A - -".to_owned()),
            (format!("/libpod_parent/libpod-{A}"), "podman A - -".to_owned()),
            (format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope"), "podman A - -".to_owned()),
            (format!("/default/{A}"), "- A - -".to_owned()),
            (format!("/system.slice/nerdctl-{A}.scope"), "containerd A - -".to_owned()),
            (format!("/ecs/0123456789abcdef0123456789abcdef/{A}"), "docker A - 0123456789abcdef0123456789abcdef".to_owned()),
            (
                "/ecs/0123456789abcdef0123456789abcdef/0123456789abcdef0123456789abcdef-1234567890".to_owned(),
                "docker 0123456789abcdef0123456789abcdef-1234567890 - 0123456789abcdef0123456789abcdef".to_owned(),
            ),
            ("/machine.slice/machine-deb.scope/payload".to_owned(), "nspawn deb - -".to_owned()),
            ("/machine.slice/systemd-nspawn@deb.service/payload".to_owned(), "nspawn deb - -".to_owned()),
            (
                r"/machine.slice/machine-my\x2dbox.scope".to_owned(),
                "nspawn my-box - -".to_owned(),
            ),
            ("/lxc.payload.web/init.scope".to_owned(), "lxc web - -".to_owned()),
            ("/lxc/web".to_owned(), "lxc web - -".to_owned()),
        ] {
            assert_eq!(innermost(&format!("0::{path}\n")), want, "{path}");
            assert_eq!(innermost(&format!("12:cpuset:/\n11:pids:{path}\n1:name=systemd:{path}\n")), want, "{path}");
        }
    }

    #[test]
    fn the_host_and_monitors_are_in_no_container() {
        for path in [
            "/",
            "/init.scope",
            "/user.slice/user-0.slice/session-1.scope",
            "/system.slice/ssh.service",
            "/system.slice/docker.service",
            "/docker/buildx",
            "/docker/..",
            "/machine.slice/machine-.scope",
            r"/machine.slice/machine-qemu\x2d1\x2dvm.scope",
            "/system.slice/docker-../../x.scope",
            "/lxc.payload.",
            "/kubepods/besteffort",
        ] {
            assert_eq!(innermost(&format!("0::{path}\n")), "", "{path}");
        }
        assert_eq!(
            innermost(&format!("0::/machine.slice/libpod-conmon-{A}.scope")),
            ""
        );
        assert_eq!(
            innermost(&format!("0::/kubepods.slice/crio-conmon-{A}.scope")),
            ""
        );
        for junk in ["", "\n\n", "0", "0:", "0::", ":::::", "\u{fffd}"] {
            assert_eq!(innermost(junk), "");
        }
    }
}
