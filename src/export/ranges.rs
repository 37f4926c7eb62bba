//! Ranges of addresses of two clusters: whether they are the same, and whether they are in each other's way. Pure.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::findings::{Finding, some};

/// What a cluster gives addresses of.
#[derive(Debug, Clone, Copy)]
pub struct Ranges<'a> {
    /// To its services.
    pub services: &'a BTreeSet<String>,
    /// To its pods.
    pub pods: &'a BTreeSet<String>,
}

/// Pods of one cluster whose addresses the other one gives to services, which would then be routed to the wrong of the two.
pub fn clash(from: Ranges<'_>, to: Ranges<'_>) -> Option<Finding> {
    let (pods, services) = (
        overlapping(from.pods, to.services),
        overlapping(from.services, to.pods),
    );
    let words = match (pods.as_slice(), services.as_slice()) {
        ([], []) => return None,
        ([(one, other), ..], _) => {
            format!("pods had addresses of {one}, and here {other} is of services")
        }
        (_, [(one, other), ..]) => {
            format!("services had addresses of {one}, and here {other} is of pods")
        }
    };
    Some(Finding {
        code: "RangesClash",
        blocks: false,
        message: format!(
            "{words}: traffic to whatever keeps an old address goes astray; give this cluster other ranges before anything runs on it"
        ),
    })
}

/// The ranges in words; that there is none yet when there is none.
pub fn words(ranges: &BTreeSet<String>) -> String {
    if ranges.is_empty() {
        "no range yet".to_owned()
    } else {
        some(ranges)
    }
}

fn overlapping<'a>(
    ones: &'a BTreeSet<String>,
    others: &'a BTreeSet<String>,
) -> Vec<(&'a str, &'a str)> {
    let net = |text: &str| text.parse::<IpNet>().ok();
    let pairs = ones
        .iter()
        .flat_map(|one| others.iter().map(move |other| (one, other)));
    pairs
        .filter(|(one, other)| match (net(one), net(other)) {
            (Some(one), Some(other)) => one.contains(&other) || other.contains(&one),
            _ => false,
        })
        .map(|(one, other)| (one.as_str(), other.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_clash_where_one_is_within_the_other() {
        let set = |text: &str| BTreeSet::from([text.to_owned()]);
        let (none, cases) = (
            BTreeSet::new(),
            [
                ("10.96.0.0/12", "10.100.3.0/24", true),
                ("10.100.3.0/24", "10.96.0.0/12", true),
                ("10.96.0.0/24", "10.96.1.0/24", false),
                ("fd00:10:96::/112", "fd00:10::/32", true),
                ("10.96.0.0/12", "fd00:10::/32", false),
                ("nonsense", "10.0.0.0/8", false),
            ],
        );
        for (pods, services, wanted) in cases {
            let (pods, services) = (set(pods), set(services));
            let from = Ranges {
                pods: &pods,
                services: &none,
            };
            let to = Ranges {
                pods: &none,
                services: &services,
            };
            assert_eq!(clash(from, to).is_some(), wanted, "{pods:?} {services:?}");
            assert_eq!(clash(to, from).is_some(), wanted, "the other way round");
            assert!(clash(from, from).is_none(), "pods beside pods");
        }
    }
}
