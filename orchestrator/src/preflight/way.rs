//! Whether a suspect can reach S3, as far as its routes say. Policies of endpoints, network ACLs, firewalls and the host's own
//! rules are not looked at.

use crate::aws::network::{Endpoint, Network};

/// The way to S3: what the packets go through. `None` when no route is found.
///
/// `public`: the instance has a public address. `near`: the bucket is in the instance's region, which a gateway endpoint
/// and an interface endpoint need (VPC user guide, "Gateway endpoints for Amazon S3").
pub(super) fn to_s3(network: &Network, public: bool, near: bool) -> Option<String> {
    let mut endpoints = network.endpoints.iter();
    let gateway = endpoints.find(|it| is_way(it, "s3", &network.table));
    match gateway {
        Some(endpoint) if near => Some(endpoint.id.clone()),
        _ => default(network, public),
    }
}

/// The way to SSM, where there is a route that shows it.
pub(super) fn to_ssm(network: &Network, public: bool) -> Option<String> {
    let find = |service: &str| {
        let mut endpoints = network.endpoints.iter();
        endpoints
            .find(|it| is_way(it, service, &network.table))
            .map(|it| it.id.clone())
    };
    match (find("ssm"), find("ssmmessages")) {
        (Some(ssm), Some(messages)) => Some(format!("{ssm} and {messages}")),
        _ => default(network, public),
    }
}

/// A gateway endpoint is a way for the route tables that list it; an interface endpoint for all that ask for the
/// service's own name.
fn is_way(endpoint: &Endpoint, service: &str, table: &String) -> bool {
    let reached = match endpoint.gateway {
        true => endpoint.tables.contains(table),
        false => endpoint.private_name,
    };
    endpoint.service == service && reached
}

/// An internet gateway gives no way to an instance without a public address.
fn default(network: &Network, public: bool) -> Option<String> {
    let target = network.default.as_ref()?;
    (public || !target.starts_with("igw-")).then(|| target.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(default: Option<&str>, endpoints: &[(&str, bool)]) -> Network {
        let endpoint = |(service, gateway): &(&str, bool)| Endpoint {
            id: format!("vpce-{service}"),
            service: (*service).to_owned(),
            gateway: *gateway,
            tables: vec!["rtb-1".to_owned()],
            private_name: true,
        };
        Network {
            table: "rtb-1".to_owned(),
            default: default.map(str::to_owned),
            endpoints: endpoints.iter().map(endpoint).collect(),
            https_out: true,
        }
    }

    #[test]
    fn an_endpoint_is_a_way_in_its_region_and_for_its_route_table() {
        let mut network = network(None, &[("s3", true), ("dynamodb", true)]);
        assert_eq!(to_s3(&network, false, true).as_deref(), Some("vpce-s3"));
        assert_eq!(to_s3(&network, false, false), None);
        network.table = "rtb-2".to_owned();
        assert_eq!(to_s3(&network, false, true), None);
    }

    #[test]
    fn an_interface_endpoint_is_a_way_when_the_name_of_the_service_leads_to_it() {
        let mut network = network(None, &[("s3", false)]);
        assert!(to_s3(&network, false, true).is_some());
        if let Some(endpoint) = network.endpoints.first_mut() {
            endpoint.private_name = false;
        }
        assert_eq!(to_s3(&network, false, true), None);
    }

    #[test]
    fn an_internet_gateway_needs_a_public_address_and_a_nat_gateway_none() {
        let internet = network(Some("igw-1"), &[]);
        assert_eq!(to_s3(&internet, true, false).as_deref(), Some("igw-1"));
        assert_eq!(to_s3(&internet, false, true), None);
        let nat = network(Some("nat-1"), &[]);
        assert_eq!(to_s3(&nat, false, false).as_deref(), Some("nat-1"));
    }

    #[test]
    fn the_way_to_ssm_takes_both_of_its_services() {
        let half = network(None, &[("ssm", false)]);
        assert_eq!(to_ssm(&half, false), None);
        let both = network(None, &[("ssm", false), ("ssmmessages", false)]);
        let way = to_ssm(&both, false);
        assert_eq!(way.as_deref(), Some("vpce-ssm and vpce-ssmmessages"));
    }
}
