//! What `doctor` tries of etcd: members, leader, alarms, releases, the right to take a snapshot, certificates.

use jiff::{SignedDuration, Timestamp};

use super::context::Context;
use super::doctor::Examined;
use super::output;
use crate::api::{ClusterConfig, ErrorClass};
use crate::etcd::{Certificate, ConnectOptions, Etcd, EtcdError, MemberStatus, known_problems};

/// Renewals take longer than a day: a certificate is named this long before its end.
const EXPIRES_SOON: SignedDuration = SignedDuration::from_hours(30 * 24);
/// A member this many revisions behind has trouble.
const LAGGING_REVISIONS: i64 = 1_000;

/// What was seen of a cluster.
pub struct Seen {
    pub checks: Vec<Examined>,
    /// The largest database, bytes; none when no member answered.
    pub db_size: Option<u64>,
}

/// Tries a cluster, with the Secrets of a namespace.
pub async fn examine(
    context: &Context,
    cluster: &ClusterConfig,
    namespace: &str,
    now: Timestamp,
) -> Seen {
    let secrets = context.secrets.as_ref();
    let options = match ConnectOptions::resolve(cluster, namespace, secrets).await {
        Ok(options) => options,
        Err(error) => {
            return Seen {
                checks: vec![Examined::of_error("etcd", error.into())],
                db_size: None,
            };
        }
    };
    let etcd = Etcd::unconnected(&options);
    let members = etcd.members().await;
    let mut checks = Vec::new();
    let answering: Vec<&MemberStatus> = members.iter().flat_map(|(_, status)| status).collect();
    let newest = answering.iter().map(|status| status.revision).max();
    for (endpoint, status) in &members {
        let name = format!("etcd {endpoint}");
        match status {
            Ok(status) => checks.push(member(name, status, newest.unwrap_or_default())),
            Err(error) => checks.push(unreachable(name, error)),
        }
    }
    let mut ids: Vec<u64> = answering.iter().map(|status| status.cluster_id).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > 1 {
        let ids: Vec<String> = ids.iter().map(|id| format!("{id:016x}")).collect();
        checks.push(Examined::failed(
            "etcd cluster",
            ErrorClass::EtcdUnavailable,
            format!(
                "the endpoints belong to different clusters: {}",
                ids.join(", ")
            ),
            "name the endpoints of one cluster only",
        ));
    }
    let mut versions: Vec<&str> = answering
        .iter()
        .map(|status| status.version.as_str())
        .collect();
    versions.sort_unstable();
    versions.dedup();
    for version in versions {
        for problem in known_problems(version) {
            let fix = "upgrade; until then prove every backup (validation.enabled)";
            checks.push(Examined::warning("etcd release", problem, fix));
        }
    }
    if !answering.is_empty() {
        checks.push(leader(&etcd).await);
        checks.push(snapshot(&etcd).await);
        for shown in etcd.certificates().await {
            checks.push(certificate(&shown, now));
        }
    }
    Seen {
        checks,
        db_size: answering
            .iter()
            .filter_map(|status| u64::try_from(status.db_size).ok())
            .max(),
    }
}

fn unreachable(name: String, error: &EtcdError) -> Examined {
    let fix = match error.class() {
        ErrorClass::Credentials => {
            "give the CA that signed etcd's certificate (--cacert), a client certificate that etcd trusts (--cert, --key), and a user with the role root where auth is on"
        }
        ErrorClass::Timeout => {
            "look at this member's load, disk and network: 'etcdctl endpoint status'"
        }
        _ => "start the member, or correct the endpoint; look at its log",
    };
    // Whoever reads this asked doctor already.
    let message = error.to_string();
    let message = message.split(": check the endpoints").next();
    Examined::failed(name, error.class(), message.unwrap_or_default(), fix)
}

fn member(name: String, status: &MemberStatus, newest: i64) -> Examined {
    let size = u64::try_from(status.db_size).unwrap_or_default();
    let role = match (status.leader == status.member_id, status.is_learner) {
        (true, _) => "leader",
        (false, true) => "learner",
        (false, false) => "follower",
    };
    let seen = format!(
        "etcd {}, {role}, revision {}, database {}",
        status.version,
        status.revision,
        output::bytes(size)
    );
    if !status.errors.is_empty() {
        let class = ErrorClass::Failed;
        let message = format!("{seen}; it reports: {}", status.errors.join(", "));
        let fix = "NOSPACE: compact, defragment, then 'etcdctl alarm disarm'; CORRUPT: replace the member, do not restore from it";
        return Examined::failed(name, class, message, fix);
    }
    let behind = newest.saturating_sub(status.revision);
    if behind > LAGGING_REVISIONS {
        let message = format!("{seen}; it is {behind} revisions behind");
        let fix = "look at this member's disk and network; snapshots are taken from others";
        return Examined::warning(name, message, fix);
    }
    Examined::good(name, seen)
}

async fn leader(etcd: &Etcd) -> Examined {
    match etcd.require_leader().await {
        Ok(()) => Examined::good("etcd quorum", "there is a leader"),
        Err(error) => Examined::failed(
            "etcd quorum",
            error.class(),
            error.to_string(),
            "bring the other members back; scheduled backups wait for a leader",
        ),
    }
}

async fn snapshot(etcd: &Etcd) -> Examined {
    match etcd.try_snapshot().await {
        Ok(endpoint) => Examined::good(
            "etcd snapshot",
            format!("{endpoint} gives snapshots to this user"),
        ),
        Err(error) => {
            let fix = match error.class() {
                ErrorClass::Credentials => {
                    "etcd gives snapshots to the role root only: 'etcdctl user grant-role USER root', and name that user's Secret in cluster.auth"
                }
                _ => "look at the member's log",
            };
            Examined::failed("etcd snapshot", error.class(), error.to_string(), fix)
        }
    }
}

fn certificate(shown: &Certificate, now: Timestamp) -> Examined {
    let name = format!("certificate of {}", shown.holder);
    let Some((subject, from, until)) = shown.validity() else {
        let message = "it cannot be read as an X.509 certificate";
        return Examined::warning(name, message, "look at it with 'openssl x509 -text'");
    };
    expiry(name, &subject, from, until, now)
}

fn expiry(
    name: String,
    subject: &str,
    from: Timestamp,
    until: Timestamp,
    now: Timestamp,
) -> Examined {
    let fix = "renew it and put the new files in place; they are read anew at each backup";
    let moment = output::moment(until);
    if now >= until {
        let message = format!("{subject} expired at {moment}");
        return Examined::failed(name, ErrorClass::Credentials, message, fix);
    }
    if now < from {
        let message = format!("{subject} is valid only from {}", output::moment(from));
        let fix = "set this machine's clock right, or issue the certificate again";
        return Examined::failed(name, ErrorClass::Credentials, message, fix);
    }
    let left = output::relative(until, now);
    let message = format!("{subject} expires {left}, at {moment}");
    if until.duration_since(now) < EXPIRES_SOON {
        return Examined::warning(name, message, fix);
    }
    Examined::good(name, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::doctor::State;
    use super::*;

    #[test]
    fn a_certificate_is_named_before_its_end() {
        let day = |day: i64| Timestamp::from_second(1_700_000_000 + day * 86_400).unwrap();
        let cases = [
            (day(10), State::Ok),
            (day(71), State::Warning),
            (day(100), State::Failed),
            (day(-1), State::Failed),
        ];
        for (now, state) in cases {
            let seen = expiry("c".to_owned(), "CN=x", day(0), day(100), now);
            assert_eq!(seen.state, state, "{now}");
        }
    }
}
