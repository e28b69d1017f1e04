//! EC2: the ways out of an instance's subnet, as its route table, its VPC's endpoints and its security groups say.

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{Filter, IpPermission, RouteTable, VpcEndpoint};

use super::ec2::{Instance, filter};
use super::{Account, Refusal};

const HTTPS: i32 = 443;

/// What decides whether a packet leaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    /// The route table of the subnet.
    pub(crate) table: String,
    /// Where the table sends what is for no other route (0.0.0.0/0): `igw-...`, `nat-...`, `tgw-...`, ...
    pub(crate) default: Option<String>,
    /// The available endpoints of the VPC.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Whether a security group has a rule that lets TCP 443 out, to wherever.
    pub(crate) https_out: bool,
}

/// An endpoint of the VPC.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoint {
    pub(crate) id: String,
    /// `s3`, `ssm`, `ssmmessages`, ...
    pub(crate) service: String,
    /// A gateway endpoint: it works through the route tables that it lists.
    pub(crate) gateway: bool,
    pub(crate) tables: Vec<String>,
    /// Whether the service's own name leads to it.
    pub(crate) private_name: bool,
}

/// The ways out of an instance.
///
/// # Errors
/// When EC2 refuses.
pub(crate) async fn of(account: &Account, instance: &Instance) -> Result<Network, Refusal> {
    let client = Client::new(&account.config);
    let own = [("association.subnet-id", instance.subnet.as_str())];
    let mut found = table(&client, &own).await?;
    if found.is_none() {
        // A subnet without a table of its own uses the main one of its VPC (VPC user guide, "Subnet route tables").
        let vpc = ("vpc-id", instance.vpc.as_str());
        found = table(&client, &[vpc, ("association.main", "true")]).await?;
    }
    Ok(Network {
        default: found.as_ref().and_then(default_of),
        table: found
            .and_then(|table| table.route_table_id)
            .unwrap_or_default(),
        endpoints: endpoints(&client, &instance.vpc).await?,
        https_out: https_out(&client, &instance.groups).await?,
    })
}

async fn table(client: &Client, filters: &[(&str, &str)]) -> Result<Option<RouteTable>, Refusal> {
    let filters = filters.iter().map(|(name, value)| one(name, value));
    let answer = client
        .describe_route_tables()
        .set_filters(Some(filters.collect()))
        .send()
        .await;
    let answer = answer.map_err(|error| Refusal::of(&error, "ec2:DescribeRouteTables", "*"))?;
    Ok(answer.route_tables.unwrap_or_default().into_iter().next())
}

/// A route whose target is gone is a black hole, and no way out.
fn default_of(table: &RouteTable) -> Option<String> {
    let mut routes = table.routes().iter();
    let route = routes.find(|route| {
        route.destination_cidr_block() == Some("0.0.0.0/0")
            && route
                .state()
                .is_some_and(|state| state.as_str() == "active")
    })?;
    let target = route
        .gateway_id()
        .or(route.nat_gateway_id())
        .or(route.transit_gateway_id())
        .or(route.network_interface_id())
        .or(route.vpc_peering_connection_id())
        .or(route.core_network_arn());
    target.map(str::to_owned)
}

async fn endpoints(client: &Client, vpc: &str) -> Result<Vec<Endpoint>, Refusal> {
    let mut pages = client
        .describe_vpc_endpoints()
        .filters(one("vpc-id", vpc))
        .into_paginator()
        .send();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| Refusal::of(&error, "ec2:DescribeVpcEndpoints", "*"))?;
        let ready = page.vpc_endpoints().iter().filter(|it| {
            // EC2 writes this state both ways (EC2 API reference, VpcEndpoint: "Available", its example: "available").
            it.state()
                .is_some_and(|state| state.as_str().eq_ignore_ascii_case("available"))
        });
        found.extend(ready.map(endpoint));
    }
    Ok(found)
}

fn endpoint(endpoint: &VpcEndpoint) -> Endpoint {
    let service = endpoint.service_name().unwrap_or_default();
    Endpoint {
        id: endpoint.vpc_endpoint_id().unwrap_or_default().to_owned(),
        service: service.rsplit('.').next().unwrap_or_default().to_owned(),
        gateway: endpoint
            .vpc_endpoint_type()
            .is_some_and(|kind| kind.as_str() == "Gateway"),
        tables: endpoint.route_table_ids().to_vec(),
        private_name: endpoint.private_dns_enabled().unwrap_or_default(),
    }
}

async fn https_out(client: &Client, groups: &[String]) -> Result<bool, Refusal> {
    let mut pages = client
        .describe_security_groups()
        .filters(filter("group-id", groups))
        .into_paginator()
        .send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| Refusal::of(&error, "ec2:DescribeSecurityGroups", "*"))?;
        let mut rules = page
            .security_groups()
            .iter()
            .flat_map(|group| group.ip_permissions_egress());
        if rules.any(allows_https) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A rule of all protocols has no ports, and one of TCP has a range (EC2 API reference, IpPermission).
fn allows_https(rule: &IpPermission) -> bool {
    let ports = rule.from_port().unwrap_or(0)..=rule.to_port().unwrap_or(i32::from(u16::MAX));
    match rule.ip_protocol() {
        Some("-1") => true,
        Some("tcp" | "6") => ports.contains(&HTTPS) || rule.from_port() == Some(-1),
        _ => false,
    }
}

fn one(name: &str, value: &str) -> Filter {
    filter(name, &[value.to_owned()])
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{Route, RouteState};

    use super::*;

    #[test]
    fn a_black_hole_is_no_way_out() {
        let to = |state| {
            let route = Route::builder()
                .destination_cidr_block("0.0.0.0/0")
                .nat_gateway_id("nat-1")
                .state(state);
            default_of(&RouteTable::builder().routes(route.build()).build())
        };
        assert_eq!(to(RouteState::Active).as_deref(), Some("nat-1"));
        assert_eq!(to(RouteState::Blackhole), None);
    }

    #[test]
    fn a_rule_for_443_is_found_whatever_its_form() {
        let rule = |protocol: &str, from, to| {
            let rule = IpPermission::builder().ip_protocol(protocol);
            allows_https(&rule.set_from_port(from).set_to_port(to).build())
        };
        assert!(rule("-1", None, None));
        assert!(rule("tcp", Some(443), Some(443)));
        assert!(rule("6", Some(0), Some(65535)));
        assert!(!rule("tcp", Some(80), Some(80)));
        assert!(!rule("udp", Some(443), Some(443)));
    }
}
