//! How etcd derives the ids of members and of the cluster from peer URLs and the cluster token.

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

/// A member's id: from its peer URLs, in order, and the cluster token.
pub fn member_id(peer_urls: &[String], token: &str) -> u64 {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut parts: Vec<&[u8]> = urls.into_iter().map(str::as_bytes).collect();
    parts.push(token.as_bytes());
    first_eight_of_sha1(&parts)
}

/// The cluster's id: from its members' ids.
pub fn cluster_id(member_ids: &[u64]) -> u64 {
    let mut ids = member_ids.to_vec();
    ids.sort_unstable();
    let bytes: Vec<[u8; 8]> = ids.into_iter().map(u64::to_be_bytes).collect();
    let parts: Vec<&[u8]> = bytes.iter().map(<[u8; 8]>::as_slice).collect();
    first_eight_of_sha1(&parts)
}

fn first_eight_of_sha1(parts: &[&[u8]]) -> u64 {
    let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    for part in parts {
        hash.update(part);
    }
    let digest = hash.finish();
    digest
        .as_ref()
        .iter()
        .take(8)
        .fold(0, |id, byte| (id << 8) | u64::from(*byte))
}
