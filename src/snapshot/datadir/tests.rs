//! Ids and log against values that real etcd made.
#![allow(clippy::unwrap_used)]

use super::*;

const ONE: &str = "default=http://localhost:2380";
const THREE: &str = "m1=http://127.0.0.1:12380,m2=http://127.0.0.1:22380,m3=http://127.0.0.1:32380";

#[test]
fn ids_are_those_that_etcd_derives() {
    let one = Cluster::parse(ONE, "etcd-cluster").unwrap();
    assert_eq!(one.members[0].key(), "8e9e05c52164694d");
    assert_eq!(format!("{:x}", one.id), "cdf818194e3a8c32");
    let three = Cluster::parse(THREE, "etcd-cluster-1").unwrap();
    let ids: Vec<String> = three.members.iter().map(Member::key).collect();
    assert_eq!(
        ids,
        ["8211f1d0f64f3269", "91bc3c398fb3c146", "fd422379fda50e48"]
    );
    assert_eq!(format!("{:x}", three.id), "ef37ad9dc622a7c4");
    assert_ne!(Cluster::parse(THREE, "another").unwrap().id, three.id);
}

#[test]
fn the_log_is_byte_for_byte_that_of_etcdutl() {
    let cluster = Cluster::parse(ONE, "etcd-cluster").unwrap();
    let log = write_ahead_log(&cluster, &cluster.members[0]);
    assert_eq!(log.len(), 288);
    assert_eq!(
        hex::encode(&log[..56]),
        "040000000000008408041000000000002000000000000000080110bb81c7fc051a1608cdd2918bd2b881cf8e0110b298eaf1948386fccd01"
    );
    let digest = ring::digest::digest(&ring::digest::SHA256, &log);
    assert_eq!(
        hex::encode(digest),
        "5d6ef1158b8cf9062b717f2d86ae1cf6ef98f09cb5a0af0f259a839ff2050928"
    );
}

#[test]
fn the_raft_snapshot_names_its_index_and_every_member() {
    let cluster = Cluster::parse(THREE, "etcd-cluster-1").unwrap();
    assert_eq!(
        raft_snapshot_name(&cluster),
        "0000000000000001-0000000000000003.snap"
    );
    let bytes = raft_snapshot(&cluster);
    let text = String::from_utf8_lossy(&bytes);
    for member in &cluster.members {
        let path = format!("/0/members/{}/raftAttributes", member.key());
        assert!(text.contains(&path), "{path}");
        assert!(text.contains(&member.peer_urls[0]));
    }
}

#[test]
fn member_json_keeps_all_digits_of_the_id() {
    let cluster = Cluster::parse("a=http://h<:1,a=http://h:2", "t").unwrap();
    let member = &cluster.members[0];
    let expected = format!(
        "{{\"id\":{},\"peerURLs\":[\"http://h:2\",\"http://h\\u003c:1\"],\"name\":\"a\"}}",
        member.id
    );
    assert_eq!(member.json(), expected);
    assert_eq!(cluster.initial_cluster(), "a=http://h:2,a=http://h<:1");
}

#[test]
fn impossible_clusters_are_refused_with_the_part_that_is_wrong() {
    let refused = |words: &str| Cluster::parse(words, "t").unwrap_err().to_string();
    assert!(refused("").contains("names no member"));
    assert!(refused("http://a:1").contains("'http://a:1' of the initial cluster"));
    assert!(refused("a=ftp://a:1").contains("scheme must be"));
    assert!(refused("a=http://a").contains("no port"));
    assert!(refused("a=http://a:1/path").contains("only a scheme"));
    assert!(refused("a=http://::1:1").contains("without brackets"));
    assert!(refused("a=http://a:1,b=http://a:1").contains("listed twice"));
    assert_eq!(
        peer_url(" HTTP://[::1]:2380/").unwrap(),
        "http://[::1]:2380"
    );
}

#[test]
fn what_was_written_reads_back_and_is_that_member_s_and_no_other_s() {
    let cluster = Cluster::parse(THREE, "t").unwrap();
    let other = Cluster::parse(THREE, "u").unwrap();
    let (member, second) = (&cluster.members[0], &cluster.members[1]);
    let mut log = write_ahead_log(&cluster, member);
    let records = log.len();
    log.resize(records + 1000, 0);
    let snapshot = raft_snapshot(&cluster);
    assert_eq!(restored_problem(&cluster, member, &log, &snapshot), None);
    let read = read_log(&log).unwrap();
    assert_eq!((read.length, read.entries.len()), (records, 3));
    let problem = |cluster, member, snapshot: &[u8]| {
        restored_problem(cluster, member, &log, snapshot).unwrap_or_default()
    };
    assert!(problem(&cluster, second, &snapshot).contains("another member"));
    assert!(problem(&other, &other.members[0], &snapshot).contains("another member"));
    let others = raft_snapshot(&other);
    assert!(problem(&cluster, member, &others).contains("elsewhere"));
}

#[test]
fn any_flipped_bit_and_any_cut_of_a_log_or_a_raft_snapshot_is_noticed() {
    let cluster = Cluster::parse(THREE, "t").unwrap();
    let member = &cluster.members[0];
    let (log, snapshot) = (write_ahead_log(&cluster, member), raft_snapshot(&cluster));
    for bit in 0..log.len() * 8 {
        let mut broken = log.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        let problem = restored_problem(&cluster, member, &broken, &snapshot);
        assert!(problem.is_some(), "bit {bit} of the log");
    }
    for bit in 0..snapshot.len() * 8 {
        let mut broken = snapshot.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        let problem = restored_problem(&cluster, member, &log, &broken);
        assert!(problem.is_some(), "bit {bit} of the raft snapshot");
    }
    for length in 0..log.len() {
        let problem = restored_problem(&cluster, member, &log[..length], &snapshot);
        assert!(problem.is_some(), "the log cut to {length} bytes");
    }
    for length in 0..snapshot.len() {
        let problem = restored_problem(&cluster, member, &log, &snapshot[..length]);
        assert!(problem.is_some(), "the raft snapshot cut to {length} bytes");
    }
    let mut garbage = log.clone();
    garbage.extend_from_slice(&[0; 16]);
    garbage.push(1);
    assert!(read_log(&garbage).is_err());
}
