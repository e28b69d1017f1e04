//! What labels and annotations say of the pod or the task that a container belongs to.

use std::collections::BTreeMap;

use serde::Serialize;

type Labels = BTreeMap<String, String>;

/// Names of labels that kubelet, containerd's CRI and CRI-O give, each the first that is there.
const POD: &[&str] = &[
    "io.kubernetes.pod.name",
    "io.kubernetes.cri.sandbox-name",
    "io.kubernetes.cri-o.KubeName",
];
const NAMESPACE: &[&str] = &[
    "io.kubernetes.pod.namespace",
    "io.kubernetes.cri.sandbox-namespace",
    "io.kubernetes.cri-o.Namespace",
];
const UID: &[&str] = &["io.kubernetes.pod.uid", "io.kubernetes.cri.sandbox-uid"];
const NAME: &[&str] = &[
    "io.kubernetes.container.name",
    "io.kubernetes.cri.container-name",
    "com.amazonaws.ecs.container-name",
    "nerdctl/name",
];
const IMAGE: &[&str] = &[
    "io.kubernetes.cri.image-name",
    "io.kubernetes.cri-o.ImageName",
    "org.opencontainers.image.ref.name",
];
const SANDBOX: &[&str] = &[
    "io.kubernetes.cri.sandbox-id",
    "io.kubernetes.cri-o.SandboxID",
    "io.kubernetes.sandbox.id",
];
const KIND: &[&str] = &[
    "io.kubernetes.cri.container-type",
    "io.kubernetes.cri-o.ContainerType",
    "io.kubernetes.docker.type",
];
const TASK: &str = "com.amazonaws.ecs.task-arn";
const CLUSTER: &str = "com.amazonaws.ecs.cluster";
const DEFINITION: [&str; 2] = [
    "com.amazonaws.ecs.task-definition-family",
    "com.amazonaws.ecs.task-definition-version",
];

/// ECS field set `orchestrator`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Orchestrator {
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub resource: Resource,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cluster {
    pub name: String,
}

/// The pod or the task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Resource {
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Uid of the pod, ARN of the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Name of the pod; family and version of the task's definition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

fn first(labels: &Labels, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| labels.get(*name)).cloned()
}

pub fn name(labels: &Labels) -> Option<String> {
    first(labels, NAME)
}

pub fn image(labels: &Labels) -> Option<String> {
    first(labels, IMAGE)
}

/// Id of the pod's sandbox.
pub fn sandbox(labels: &Labels) -> Option<String> {
    first(labels, SANDBOX)
}

pub fn is_sandbox(labels: &Labels) -> bool {
    matches!(
        first(labels, KIND).as_deref(),
        Some("sandbox" | "podsandbox")
    )
}

/// The pod or the task, by labels or by what its cgroup says.
pub fn orchestrator(
    labels: &Labels,
    pod_uid: Option<&str>,
    task: Option<&str>,
) -> Option<Orchestrator> {
    pod(labels, pod_uid).or_else(|| self::task(labels, task))
}

fn pod(labels: &Labels, uid: Option<&str>) -> Option<Orchestrator> {
    let (name, namespace) = (first(labels, POD), first(labels, NAMESPACE));
    let id = first(labels, UID).or_else(|| uid.map(str::to_owned));
    ((name.is_some() && namespace.is_some()) || id.is_some()).then_some(Orchestrator {
        kind: "kubernetes",
        cluster: None,
        namespace,
        resource: Resource {
            kind: "pod",
            id,
            name,
        },
    })
}

fn task(labels: &Labels, id: Option<&str>) -> Option<Orchestrator> {
    let id = labels
        .get(TASK)
        .cloned()
        .or_else(|| id.map(str::to_owned))?;
    let definition: Vec<&str> = DEFINITION
        .iter()
        .filter_map(|name| labels.get(*name).map(String::as_str))
        .collect();
    let name = labels.get(CLUSTER).cloned();
    Some(Orchestrator {
        kind: "ecs",
        cluster: name.map(|name| Cluster { name }),
        namespace: None,
        resource: Resource {
            kind: "task",
            id: Some(id),
            name: (!definition.is_empty()).then(|| definition.join(":")),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(entries: &[(&str, &str)]) -> Labels {
        let entry = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        entries.iter().map(entry).collect()
    }

    #[test]
    fn a_pod_is_told_by_labels_or_by_its_uid_alone() {
        let said = labels(&[
            ("io.kubernetes.cri.sandbox-name", "api-0"),
            ("io.kubernetes.cri.sandbox-namespace", "shop"),
        ]);
        let pod = orchestrator(&said, Some("u-1"), None).unwrap();
        assert_eq!(
            (pod.kind, pod.namespace.as_deref()),
            ("kubernetes", Some("shop"))
        );
        assert_eq!(pod.resource.id.as_deref(), Some("u-1"));
        assert_eq!(
            orchestrator(&Labels::new(), Some("u-1"), None)
                .unwrap()
                .resource
                .name,
            None
        );
        assert_eq!(orchestrator(&Labels::new(), None, None), None);
    }

    #[test]
    fn a_task_is_told_by_its_labels() {
        let said = labels(&[
            (TASK, "arn:aws:ecs:eu-west-1:1:task/prod/0123"),
            (CLUSTER, "prod"),
            (DEFINITION[0], "shop"),
            (DEFINITION[1], "7"),
        ]);
        let task = orchestrator(&said, None, Some("0123")).unwrap();
        assert_eq!(task.resource.name.as_deref(), Some("shop:7"));
        assert_eq!(
            task.cluster.map(|cluster| cluster.name).as_deref(),
            Some("prod")
        );
        assert_eq!(
            task.resource.id.as_deref(),
            Some("arn:aws:ecs:eu-west-1:1:task/prod/0123")
        );
    }
}
