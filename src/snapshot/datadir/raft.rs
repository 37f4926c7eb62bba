//! The raft snapshot of a restored member: for etcd 3.4 to 3.6 the membership, in the old store's JSON.

use serde_json::{Map, Value, json};

use super::protobuf::{Message, conf_state};
use super::{Cluster, TERM};

/// The file's name: term and index.
pub fn raft_snapshot_name(cluster: &Cluster) -> String {
    format!("{TERM:016x}-{:016x}.snap", cluster.index())
}

/// The file's bytes.
pub fn raft_snapshot(cluster: &Cluster) -> Vec<u8> {
    let ids: Vec<u64> = cluster.members.iter().map(|member| member.id).collect();
    let metadata = Message::default()
        .bytes(1, &conf_state(&ids))
        .number(2, cluster.index())
        .number(3, TERM)
        .done();
    let snapshot = Message::default()
        .bytes(1, old_store(cluster).to_string().as_bytes())
        .bytes(2, &metadata)
        .done();
    Message::default()
        .number(1, u64::from(crc32c::crc32c(&snapshot)))
        .bytes(2, &snapshot)
        .done()
}

/// The old (v2) store with the members in it, as it is after their entries were applied.
fn old_store(cluster: &Cluster) -> Value {
    let mut members = Map::new();
    for (index, member) in (1..).zip(&cluster.members) {
        let path = format!("/0/members/{}", member.key());
        let attributes = node(
            &format!("{path}/raftAttributes"),
            index,
            &member.raft_attributes(),
            None,
        );
        let children = Map::from_iter([("raftAttributes".into(), attributes)]);
        members.insert(member.key(), node(&path, index, "", Some(children)));
    }
    let members = node("/0/members", 1, "", Some(members));
    let zero = node(
        "/0",
        0,
        "",
        Some(Map::from_iter([("members".into(), members)])),
    );
    let one = node("/1", 0, "", Some(Map::new()));
    let root = Map::from_iter([("0".into(), zero), ("1".into(), one)]);
    json!({
        "Root": node("/", 0, "", Some(root)),
        "CurrentIndex": cluster.index(),
        "CurrentVersion": 2,
    })
}

fn node(path: &str, index: u64, value: &str, children: Option<Map<String, Value>>) -> Value {
    json!({
        "Path": path,
        "CreatedIndex": index,
        "ModifiedIndex": index,
        "ExpireTime": "0001-01-01T00:00:00Z",
        "Value": value,
        "Children": children,
    })
}
