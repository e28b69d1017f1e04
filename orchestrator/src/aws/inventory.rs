//! SSM's inventory: which kernels are installed on an instance, where somebody turned it on.

use aws_sdk_ssm::Client;
use aws_sdk_ssm::types::{InventoryFilter, InventoryQueryOperatorType};

use super::{Account, Refusal};

/// How the packages of kernels begin, in the distributions that the module store is built for.
const PACKAGES: [&str; 2] = ["linux-image-", "kernel"];
/// Packages of one instance that are looked at: more kernels than anybody keeps.
const MAX_PAGES: usize = 10;

/// The installed kernels, and when SSM was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kernels {
    /// Releases as `uname -r` says them, sorted.
    pub(crate) releases: Vec<String>,
    /// RFC 3339.
    pub(crate) told: String,
}

/// The kernels that are installed on an instance, as far as the inventory knows. Which of them runs it does not say.
///
/// # Errors
/// When SSM refuses.
pub(crate) async fn kernels(account: &Account, instance: &str) -> Result<Kernels, Refusal> {
    let client = Client::new(&account.config);
    let mut kernels = Kernels::default();
    for package in PACKAGES {
        let filter = InventoryFilter::builder()
            .key("AWS:Application.Name")
            .values(package)
            .r#type(InventoryQueryOperatorType::BeginWith)
            .build()
            .map_err(|error| Refusal::internal(&error))?;
        let mut next = None;
        for _ in 0..MAX_PAGES {
            let answer = client
                .list_inventory_entries()
                .instance_id(instance)
                .type_name("AWS:Application")
                .filters(filter.clone())
                .set_next_token(next)
                .send()
                .await;
            let answer =
                answer.map_err(|error| Refusal::of(&error, "ssm:ListInventoryEntries", "*"))?;
            if let Some(told) = answer.capture_time() {
                told.clone_into(&mut kernels.told);
            }
            let found = answer.entries().iter().filter_map(|entry| {
                let text = |name: &str| entry.get(name).map(String::as_str).unwrap_or_default();
                release(
                    text("Name"),
                    text("Version"),
                    text("Release"),
                    text("Architecture"),
                )
            });
            kernels.releases.extend(found);
            next = answer.next_token().map(str::to_owned);
            if next.is_none() {
                break;
            }
        }
    }
    kernels.releases.sort_unstable();
    kernels.releases.dedup();
    Ok(kernels)
}

/// The release of the kernel in a package: Debian's and Ubuntu's have it in their name, rpms in their version.
fn release(name: &str, version: &str, release: &str, architecture: &str) -> Option<String> {
    if let Some(image) = name.strip_prefix("linux-image-") {
        let image = image.strip_prefix("unsigned-").unwrap_or(image);
        let image = image.strip_suffix("-unsigned").unwrap_or(image);
        let own = image.starts_with(|c: char| c.is_ascii_digit()) && !image.ends_with("-dbg");
        return own.then(|| image.to_owned());
    }
    // `kernel`, `kernel-core`, and Amazon Linux's `kernel6.12`; not `kernel-headers` and the like.
    let rest = name.strip_prefix("kernel")?;
    let own = rest.is_empty() || rest == "-core" || rest.starts_with(|c: char| c.is_ascii_digit());
    let known = ![version, release, architecture].contains(&"");
    let plain = !rest.contains('-') || rest == "-core";
    (own && plain && known).then(|| {
        let architecture = if architecture == "arm64" {
            "aarch64"
        } else {
            architecture
        };
        format!("{version}-{release}.{architecture}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_package_gives_its_release_and_others_nothing() {
        let debian = |name: &str| release(name, "6.1.192-2", "", "x86_64");
        assert_eq!(
            debian("linux-image-6.1.0-56-cloud-amd64").as_deref(),
            Some("6.1.0-56-cloud-amd64")
        );
        assert_eq!(
            debian("linux-image-unsigned-6.8.0-1024-aws").as_deref(),
            Some("6.8.0-1024-aws")
        );
        for other in [
            "linux-image-amd64",
            "linux-image-6.1.0-56-amd64-dbg",
            "kernel",
        ] {
            assert_eq!(debian(other), None, "{other}");
        }
        let amazon = |name: &str| release(name, "6.12.40", "63.114.amzn2023", "arm64");
        let wanted = "6.12.40-63.114.amzn2023.aarch64";
        assert_eq!(amazon("kernel6.12").as_deref(), Some(wanted));
        assert_eq!(amazon("kernel").as_deref(), Some(wanted));
        for other in ["kernel-headers", "kernel6.12-modules-extra", "kernelcare"] {
            assert_eq!(amazon(other), None, "{other}");
        }
    }
}
