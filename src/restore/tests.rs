//! What is decided for which wishes, snapshots and targets.
#![allow(clippy::unwrap_used)]

use jiff::Timestamp;

use super::RestoreError;
use super::plan::{Plan, Request, Source, Target, plan};
use super::steps::{next_steps, start_command};
use crate::api::{ErrorClass, RevisionPolicy};
use crate::snapshot::Digest;

fn request() -> Request {
    Request {
        source_name: "s.db".into(),
        data_dir: "/var/lib/etcd".into(),
        name: "default".into(),
        initial_cluster: None,
        token: "t".into(),
        advertise: Vec::new(),
        all_members: false,
        to_revision: None,
        policy: None,
        bump: None,
        skip_hash_check: false,
        replace: false,
    }
}

fn source() -> Source {
    Source {
        revision: 100,
        compact_revision: 40,
        image_bytes: 1 << 20,
        digest: Digest::Ok,
        kubernetes: false,
    }
}

fn target() -> Target {
    Target {
        entries: None,
        mount_point: false,
        free: 1 << 40,
        running: false,
    }
}

fn decide(request: &Request, source: &Source, target: &Target) -> Result<Plan, RestoreError> {
    plan(request, source, target, Timestamp::UNIX_EPOCH)
}

fn wish(change: impl FnOnce(&mut Request)) -> Result<Plan, RestoreError> {
    let mut request = request();
    change(&mut request);
    decide(&request, &source(), &target())
}

#[test]
fn one_member_needs_no_words_and_has_etcdutls_defaults() {
    let plan = decide(&request(), &source(), &target()).unwrap();
    assert_eq!(plan.initial_cluster, "default=http://localhost:2380");
    assert_eq!(plan.members.len(), 1);
    assert_eq!(plan.members[0].data_dir, plan.data_dir);
    assert_eq!(plan.revisions.starts_at, 100);
    assert_eq!(plan.revisions.policy, RevisionPolicy::Exact);
    assert!(plan.keep_old_as.is_none());
    let command = start_command(&plan, &plan.members[0]);
    assert!(command.contains("--listen-client-urls http://localhost:2379"));
    assert!(command.contains("--initial-cluster-token t"));
}

#[test]
fn kubernetes_is_raised_and_everyone_else_is_exact_unless_told() {
    let mut kubernetes = source();
    kubernetes.kubernetes = true;
    let with = |change: fn(&mut Request)| {
        let mut request = request();
        change(&mut request);
        let plan = decide(&request, &kubernetes, &target()).unwrap();
        (
            plan.revisions.policy,
            plan.revisions.starts_at,
            next_steps(&plan),
        )
    };
    let (policy, starts_at, steps) = with(|_| ());
    assert_eq!(policy, RevisionPolicy::BumpAndCompact);
    assert_eq!(starts_at, 1_000_000_100);
    assert!(steps.iter().any(|step| step.contains("kube-apiserver")));
    let (policy, starts_at, steps) = with(|request| request.policy = Some(RevisionPolicy::Exact));
    assert_eq!((policy, starts_at), (RevisionPolicy::Exact, 100));
    assert!(!steps.iter().any(|step| step.contains("kube-apiserver")));
    let plan = wish(|request| request.bump = Some(7)).unwrap();
    assert_eq!(plan.revisions.starts_at, 107);
    for bump in [0, u64::MAX, i64::MAX.cast_unsigned()] {
        let refused = wish(|request| request.bump = Some(bump)).unwrap_err();
        assert_eq!(refused.class(), ErrorClass::Usage, "{bump}");
    }
}

#[test]
fn any_revision_from_the_compact_one_on_can_be_restored() {
    for (revision, ok) in [
        (39, false),
        (40, true),
        (99, true),
        (100, true),
        (101, false),
    ] {
        let plan = wish(|request| request.to_revision = Some(revision));
        assert_eq!(plan.is_ok(), ok, "{revision}");
        match plan {
            Ok(plan) => assert_eq!(plan.revisions.starts_at, revision),
            Err(error) => assert_eq!(error.class(), ErrorClass::NotFound),
        }
    }
}

#[test]
fn every_member_or_one_of_them_gets_a_directory() {
    let three = Some("a=http://h:1,b=http://h:2,c=http://h:3".to_owned());
    let all = wish(|request| {
        request.initial_cluster = three.clone();
        request.all_members = true;
    })
    .unwrap();
    let dirs: Vec<_> = all.members.iter().map(|member| &member.data_dir).collect();
    assert_eq!(
        dirs,
        ["/var/lib/etcd/a", "/var/lib/etcd/b", "/var/lib/etcd/c"].map(std::path::Path::new)
    );
    assert_eq!(all.needed_bytes, 6 << 20);
    let one = wish(|request| {
        request.initial_cluster = three.clone();
        request.name = "b".into();
    })
    .unwrap();
    assert_eq!(one.cluster_id, all.cluster_id);
    assert_eq!(one.members[0].peer_urls, ["http://h:2"]);
    let steps = next_steps(&one);
    assert!(
        steps[0].contains("(a, c)") || steps[0].contains("(c, a)"),
        "{}",
        steps[0]
    );
    let refused = wish(|request| request.initial_cluster = three.clone()).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("'default' is not in the initial cluster")
    );
    let refused = wish(|request| {
        request.initial_cluster = three.clone();
        request.name = "b".into();
        request.advertise = vec!["http://h:9".into()];
    });
    assert!(refused.unwrap_err().to_string().contains("make them equal"));
    let refused = wish(|request| request.name = "../x".into()).unwrap_err();
    assert_eq!(refused.class(), ErrorClass::Usage);
}

#[test]
fn the_target_must_be_free_or_given_up_and_have_room() {
    let mut occupied = target();
    occupied.entries = Some(vec!["member".into()]);
    let refused = decide(&request(), &source(), &occupied).unwrap_err();
    assert_eq!(refused.class(), ErrorClass::Refused);
    assert!(refused.to_string().contains("--replace"));
    let mut replacing = request();
    replacing.replace = true;
    let plan = decide(&replacing, &source(), &occupied).unwrap();
    assert_eq!(
        plan.keep_old_as.unwrap().to_str(),
        Some("/var/lib/etcd.before-19700101T000000Z")
    );
    occupied.mount_point = true;
    let plan = decide(&replacing, &source(), &occupied).unwrap();
    assert_eq!(
        plan.keep_old_as.unwrap().to_str(),
        Some("/var/lib/etcd/before-19700101T000000Z")
    );
    occupied.entries = Some(vec!["lost+found".into(), ".restoring".into()]);
    assert!(decide(&request(), &source(), &occupied).is_ok());
    let mut full = target();
    full.free = 1 << 20;
    let refused = decide(&request(), &source(), &full).unwrap_err();
    assert!(refused.to_string().contains("make room"));
}

#[test]
fn a_file_without_digest_needs_a_word_and_what_is_lost_is_said() {
    let mut source = source();
    source.digest = Digest::Missing;
    let refused = decide(&request(), &source, &target()).unwrap_err();
    assert!(refused.to_string().contains("--skip-hash-check"));
    let mut request = request();
    request.skip_hash_check = true;
    request.to_revision = Some(50);
    let notes = decide(&request, &source, &target())
        .unwrap()
        .notes
        .join("\n");
    for word in ["digest is not checked", "leases, users"] {
        assert!(notes.contains(word), "{word} in {notes}");
    }
}
