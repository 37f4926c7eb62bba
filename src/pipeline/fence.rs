//! Where HTTP hooks may go whose authors are not trusted with the operator's place in the network: not to the machine itself, not to a
//! cloud's metadata, not to the API server; or only to the hosts that the operator's config lists.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use url::Host;

/// What hooks may reach.
#[derive(Debug, Clone, Default)]
pub struct Fence {
    /// The only hosts that may be called, whatever their addresses; any that is not forbidden when empty.
    pub only: Vec<String>,
    /// Names and addresses of the API server.
    pub api_servers: Vec<String>,
}

impl Fence {
    /// The addresses that a hook may be sent to: the connection must go to one of these and not ask for the name again.
    ///
    /// # Errors
    /// Why none is allowed, in a sentence.
    pub async fn admit(&self, host: &Host<&str>, port: u16) -> Result<Vec<SocketAddr>, String> {
        let name = bare(host);
        if !self.only.is_empty() && !self.only.contains(&name) {
            return Err(format!(
                "{name} is not among the hosts that operator.httpHookHosts allows"
            ));
        }
        let found = lookup(&name, port).await?;
        if !self.only.is_empty() {
            return Ok(found);
        }
        let mut servers = BTreeSet::new();
        for server in &self.api_servers {
            // A name that nobody knows here leads nobody there either.
            let addresses = lookup(server, port).await.unwrap_or_default();
            servers.extend(addresses.iter().map(|address| plain(address.ip())));
        }
        let refused = found
            .iter()
            .find_map(|address| refusal(address.ip(), &servers));
        match refused {
            Some(what) => Err(format!(
                "{name} is {what}, where hooks of this namespace may not go; whoever runs the operator can list hosts in operator.httpHookHosts"
            )),
            None => Ok(found),
        }
    }
}

fn bare(host: &Host<&str>) -> String {
    match host {
        Host::Domain(name) => name.trim_end_matches('.').to_lowercase(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    }
}

async fn lookup(name: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found = tokio::net::lookup_host((name, port)).await;
    let found: Vec<SocketAddr> = found
        .map_err(|error| format!("{name} is not found: {error}"))?
        .collect();
    match found.is_empty() {
        true => Err(format!("{name} has no address")),
        false => Ok(found),
    }
}

/// The IPv4 address inside an IPv6 one that stands for it (mapped, or through NAT64).
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else {
        return address;
    };
    let [a, b, .., c, d] = six.segments();
    let through_nat64 = (a, b) == (0x64, 0xff9b);
    let embedded = || {
        let [high, low, next, last] = [c.to_be_bytes(), d.to_be_bytes()].concat()[..] else {
            return address;
        };
        IpAddr::V4(Ipv4Addr::new(high, low, next, last))
    };
    match six.to_ipv4_mapped() {
        Some(four) => IpAddr::V4(four),
        None if through_nat64 => embedded(),
        None => address,
    }
}

/// What an address is, when hooks may not go there. Pure.
fn refusal(address: IpAddr, api_servers: &BTreeSet<IpAddr>) -> Option<&'static str> {
    /// Metadata of Azure's host, Alibaba Cloud, and AWS by IPv6; the others are link-local.
    const METADATA: [IpAddr; 3] = [
        IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
        IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    ];
    let address = plain(address);
    let link_local = match address {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.is_unicast_link_local(),
    };
    let this_network = matches!(address, IpAddr::V4(four) if four.octets()[0] == 0);
    if address.is_loopback() || address.is_unspecified() || this_network {
        Some("the operator's own machine")
    } else if api_servers.contains(&address) {
        Some("the API server")
    } else if link_local || METADATA.contains(&address) {
        Some("an address of cloud metadata, or link-local")
    } else if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Some("no single machine")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_way_of_writing_it_leads_to_the_machine_or_to_metadata() {
        let servers = BTreeSet::from(["10.96.0.1".parse().unwrap()]);
        for bad in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "::1",
            "::",
            "169.254.169.254",
            "169.254.0.1",
            "fe80::1",
            "::ffff:169.254.169.254",
            "::ffff:127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "100.100.100.200",
            "168.63.129.16",
            "fd00:ec2::254",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
            "10.96.0.1",
            "::ffff:10.96.0.1",
        ] {
            assert!(refusal(bad.parse().unwrap(), &servers).is_some(), "{bad}");
        }
        for good in [
            "10.0.0.7",
            "192.168.1.1",
            "203.0.113.9",
            "2001:db8::1",
            "fd00::1",
        ] {
            assert_eq!(refusal(good.parse().unwrap(), &servers), None, "{good}");
        }
    }

    #[tokio::test]
    async fn a_list_of_hosts_is_all_that_is_allowed() {
        let fence = Fence {
            only: vec!["127.0.0.1".to_owned()],
            api_servers: Vec::new(),
        };
        let local = url::Url::parse("http://2130706433:8080/").unwrap();
        assert!(
            fence.admit(&local.host().unwrap(), 8080).await.is_ok(),
            "however it is written"
        );
        let other = url::Url::parse("http://203.0.113.9/").unwrap();
        let words = fence.admit(&other.host().unwrap(), 80).await.unwrap_err();
        assert!(words.contains("httpHookHosts"), "{words}");
        let named = url::Url::parse("http://localhost/").unwrap();
        let words = Fence::default()
            .admit(&named.host().unwrap(), 80)
            .await
            .unwrap_err();
        assert!(words.contains("own machine"), "{words}");
    }
}
