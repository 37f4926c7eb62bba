//! Who is in a restored cluster: the words of `--initial-cluster`, the ids, and the JSON that etcd keeps of a member.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{cluster_id, member_id, peer_url};

/// The members of a restored cluster, in order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster's id.
    pub id: u64,
    /// What all ids are made with.
    pub token: String,
    /// The members.
    pub members: Vec<Member>,
}

/// A voting member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where other members reach it, sorted.
    pub peer_urls: Vec<String>,
}

/// Why a list of members is no cluster.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MembershipError {
    /// The words cannot be read.
    #[error("'{part}' of the initial cluster is not NAME=URL: write as in a=http://10.0.0.1:2380")]
    Entry {
        /// Which part.
        part: String,
    },
    /// A URL that etcd would refuse.
    #[error("'{url}' is not a peer URL: {problem}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Two members cannot be reached at one place.
    #[error("'{url}' is listed twice in the initial cluster: every member needs URLs of its own")]
    DuplicateUrl {
        /// The URL.
        url: String,
    },
    /// There are no members.
    #[error("the initial cluster names no member: write as in a=http://10.0.0.1:2380")]
    Empty,
    /// Two members got one id, or one got the id 0 that raft keeps for "nobody".
    #[error("the ids of the members collide: choose another --initial-cluster-token")]
    IdCollision,
}

impl Cluster {
    /// Reads `NAME=URL[,NAME=URL…]`; a name that comes again has several URLs.
    ///
    /// # Errors
    /// When etcd would refuse it.
    pub fn parse(initial_cluster: &str, token: &str) -> Result<Self, MembershipError> {
        let mut urls: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for part in initial_cluster.split(',').map(str::trim) {
            if part.is_empty() {
                continue;
            }
            let (name, url) = part
                .split_once('=')
                .map(|(name, url)| (name.trim(), url))
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| MembershipError::Entry { part: part.into() })?;
            let url = peer_url(url).map_err(|problem| MembershipError::Url {
                url: url.into(),
                problem,
            })?;
            if !seen.insert(url.clone()) {
                return Err(MembershipError::DuplicateUrl { url });
            }
            urls.entry(name.into()).or_default().push(url);
        }
        Self::new(urls, token)
    }

    fn new(urls: BTreeMap<String, Vec<String>>, token: &str) -> Result<Self, MembershipError> {
        let mut members: Vec<Member> = urls
            .into_iter()
            .map(|(name, mut peer_urls)| {
                peer_urls.sort_unstable();
                Member {
                    id: member_id(&peer_urls, token),
                    name,
                    peer_urls,
                }
            })
            .collect();
        members.sort_unstable_by_key(|member| member.id);
        let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
        if ids.is_empty() {
            return Err(MembershipError::Empty);
        }
        if ids.first() == Some(&0) || ids.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(MembershipError::IdCollision);
        }
        Ok(Self {
            id: cluster_id(&ids),
            token: token.to_owned(),
            members,
        })
    }

    /// A member by name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// How many entries the restored log has, one a member: also the index and the commit of the restored state.
    pub fn index(&self) -> u64 {
        self.members.len() as u64
    }

    /// The words of `--initial-cluster`, in order of names.
    pub fn initial_cluster(&self) -> String {
        let mut pairs: Vec<String> = self
            .members
            .iter()
            .flat_map(|member| {
                member
                    .peer_urls
                    .iter()
                    .map(move |url| format!("{}={url}", member.name))
            })
            .collect();
        pairs.sort_unstable();
        pairs.join(",")
    }
}

impl Member {
    /// Its row's key in the bucket `members`: hexadecimal, without leading zeros.
    pub fn key(&self) -> String {
        format!("{:x}", self.id)
    }

    /// What etcd keeps of it in the bucket `members` and in the log.
    pub fn json(&self) -> String {
        #[derive(Serialize)]
        struct Json<'a> {
            id: u64,
            #[serde(rename = "peerURLs")]
            peer_urls: &'a [String],
            name: &'a str,
        }
        to_json(&Json {
            id: self.id,
            peer_urls: &self.peer_urls,
            name: &self.name,
        })
    }

    /// What the old store keeps of its place: `raftAttributes`.
    pub fn raft_attributes(&self) -> String {
        to_json(&BTreeMap::from([("peerURLs", &self.peer_urls)]))
    }
}

/// JSON as Go writes it: `<`, `>` and `&` of a string are escaped.
fn to_json(value: &impl Serialize) -> String {
    // Strings and numbers alone: there is nothing that could fail.
    let text = serde_json::to_string(value).unwrap_or_default();
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}
