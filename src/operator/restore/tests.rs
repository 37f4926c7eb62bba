//! What is decided about EtcdRestores.
#![allow(clippy::unwrap_used, clippy::panic)]

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Container;

use super::job::{Plan, runbook};
use super::members::{Place, compatible, etcd_version, members};
use super::plan::{Step, When, decide};
use super::rules::problems;
use super::seen::{Health, JobState, Seen, Source};
use super::static_pods::{self, Turn};
use crate::api::{EtcdRestore, JobConfig, VersionCompatibility};

fn restore(spec: &str, status: &str) -> EtcdRestore {
    let text = format!(
        "apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdRestore\nmetadata: {{name: r, namespace: n, uid: u}}\nspec: {{restoreMode: Full, {spec}}}\n{status}"
    );
    serde_saphyr::from_str(&text).unwrap()
}

fn set(replicas: i32, running: i32) -> StatefulSet {
    let text = format!(
        "metadata: {{name: etcd, namespace: n, annotations: {{etcdguardian.io/replicas-before-restore: '3'}}}}\nspec:\n  serviceName: peers\n  replicas: {replicas}\n  selector: {{}}\n  template: {{spec: {{containers: [{{name: etcd, image: 'registry/etcd:v3.6.1', volumeMounts: [{{name: data, mountPath: /data}}]}}]}}}}\n  volumeClaimTemplates: [{{metadata: {{name: data}}}}]\nstatus: {{replicas: {running}}}\n"
    );
    serde_saphyr::from_str(&text).unwrap()
}

const INTO_SET: &str = "backupName: b, etcdCluster: {statefulSet: {name: etcd}}";

fn seen(restore: &EtcdRestore, set: Option<StatefulSet>) -> Seen<'_> {
    Seen {
        restore,
        problems: problems(&restore.spec),
        trusted: false,
        jobs: true,
        own_etcd: false,
        source: Source::Found {
            chain: vec!["one".to_owned()],
            version: "3.6.0".to_owned(),
        },
        stateful_set: set,
        states: Vec::new(),
        turns: Vec::new(),
        health: Health::NotAsked,
    }
}

fn now() -> Timestamp {
    "2026-11-20T09:00:00Z".parse().unwrap()
}

#[test]
fn the_members_of_a_stateful_set_are_known_even_when_it_is_scaled_to_nothing() {
    let restore = restore(INTO_SET, "");
    let members = members(&restore.spec, Some(&set(0, 0))).unwrap();
    assert_eq!(members.len(), 3);
    assert_eq!(members[2].name, "etcd-2");
    assert_eq!(members[2].peer_url, "http://etcd-2.peers.n.svc:2380");
    assert_eq!(members[2].data_dir, "/data");
    let claim = Place::Claim {
        name: "data-etcd-2".to_owned(),
        mount: "/data".to_owned(),
    };
    assert_eq!(members[2].place, claim);
}

#[test]
fn nothing_is_touched_before_the_plan_stands() {
    let wanted = restore(INTO_SET, "");
    match decide(&seen(&wanted, Some(set(3, 3))), now()) {
        Step::Plan { steps, .. } => {
            let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
            assert_eq!(
                names,
                [
                    "resolve",
                    "quiesce",
                    "restore etcd-0",
                    "restore etcd-1",
                    "restore etcd-2",
                    "start",
                    "validate"
                ]
            );
        }
        other => panic!("{other:?}"),
    }
    let planned = restore(
        &format!("{INTO_SET}, plan: true"),
        "status: {phase: Planned}",
    );
    assert!(matches!(
        decide(&seen(&planned, Some(set(3, 3))), now()),
        Step::Nothing
    ));
    let cases = [
        (
            "backupName: b, snapshotLocation: s3://b/x, etcdCluster: {dataDir: /d}",
            "SpecInvalid",
        ),
        ("backupName: b", "SpecInvalid"),
        ("backupName: b, etcdCluster: {dataDir: /d}", "NotAllowed"),
        (
            "backupName: b, etcdCluster: {statefulSet: {name: other}}",
            "SpecInvalid",
        ),
    ];
    for (spec, wanted) in cases {
        match decide(&seen(&restore(spec, ""), None), now()) {
            Step::Reject { reason, message } => assert_eq!(reason, wanted, "{spec}: {message}"),
            other => panic!("{spec}: {other:?}"),
        }
    }
}

#[test]
fn data_is_replaced_only_when_no_member_runs_and_a_failure_says_how_to_go_back() {
    let quiescing = restore(INTO_SET, "status: {phase: Quiescing}");
    assert!(matches!(
        decide(&seen(&quiescing, Some(set(0, 1))), now()),
        Step::Wait(_)
    ));
    assert!(matches!(
        decide(&seen(&quiescing, Some(set(0, 0))), now()),
        Step::Quiesced
    ));
    let restoring = restore(INTO_SET, "status: {phase: Restoring}");
    let mut with_jobs = seen(&restoring, Some(set(0, 0)));
    with_jobs.states = vec![JobState::Done, JobState::Absent, JobState::Going];
    match decide(&with_jobs, now()) {
        Step::MakeJobs(members) => assert_eq!(members[0].name, "etcd-1"),
        other => panic!("{other:?}"),
    }
    with_jobs.states = vec![
        JobState::Done,
        JobState::Failed("disk full".to_owned()),
        JobState::Going,
    ];
    match decide(&with_jobs, now()) {
        Step::Fail { message, .. } => {
            assert!(
                message.starts_with("disk full -- the old data is kept"),
                "{message}"
            );
            assert!(message.contains("StatefulSet etcd back"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    with_jobs.states = vec![JobState::Done; 3];
    assert!(matches!(decide(&with_jobs, now()), Step::Start));
}

#[test]
fn a_restore_is_complete_only_when_every_member_answers_the_same() {
    let validating = restore(
        INTO_SET,
        "status: {phase: Validating, startTime: '2026-11-20T08:59:00Z'}",
    );
    let mut asked = seen(&validating, Some(set(3, 3)));
    asked.health = Health::Waiting("e does not answer".to_owned());
    assert!(matches!(decide(&asked, now()), Step::Wait(_)));
    let later = now() + jiff::SignedDuration::from_mins(20);
    assert!(matches!(
        decide(&asked, later),
        Step::Fail {
            reason: "Unhealthy",
            ..
        }
    ));
    asked.health = Health::Differ("they differ".to_owned());
    assert!(matches!(
        decide(&asked, now()),
        Step::Fail {
            reason: "VerificationFailed",
            ..
        }
    ));
    asked.health = Health::Healthy {
        revision: 9,
        hash: 1,
    };
    assert!(matches!(
        decide(&asked, now()),
        Step::Complete { revision: 9, .. }
    ));
}

#[test]
fn the_etcd_of_the_api_server_is_restored_by_hand_and_the_plan_says_how() {
    let planned = restore(INTO_SET, "status: {phase: Planned}");
    let mut own = seen(&planned, Some(set(3, 3)));
    own.own_etcd = true;
    assert!(matches!(decide(&own, now()), Step::Nothing));
    let members = members(&planned.spec, Some(&set(0, 0))).unwrap();
    let location = serde_saphyr::from_str("{provider: S3, bucket: b, region: r}").unwrap();
    let text = runbook(&Plan {
        restore: &planned,
        config: &JobConfig::default(),
        location: &location,
        encryption_secret: None,
        backup: "one",
        revision: 7,
        members: &members,
        token: "t",
    });
    assert_eq!(
        text.matches(
            "etcdguardian restore --from 's3://b?region=r' --backup one --namespace n --data-dir"
        )
        .count(),
        3
    );
    assert_eq!(text.matches("--to-revision 7").count(), 3);
    for part in [
        "/etc/kubernetes/manifests/etcd.yaml",
        "--name etcd-2",
        "To go back",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn hooks_run_before_anything_is_changed_and_after_all_is_well_and_each_once() {
    const HOOKS: &str = "preRestoreHooks: [{name: drain, type: HTTP, http: {url: 'http://x/'}}], postRestoreHooks: [{name: tell, type: Exec, exec: {podSelector: {app: a}, command: [tell]}}]";
    let spec = format!("{INTO_SET}, {HOOKS}");
    let Step::Plan { steps, .. } = decide(&seen(&restore(&spec, ""), Some(set(3, 3))), now())
    else {
        panic!("it is planned first");
    };
    let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names[1..3], ["hooks before", "quiesce"]);
    assert_eq!(names.last(), Some(&"hooks after"));
    let at = |phase: &str, done: &str| {
        let status = format!(
            "status: {{phase: {phase}, steps: [{{name: '{done}', state: Done, message: m}}]}}"
        );
        restore(&spec, &status)
    };
    let planned = at("Planned", "resolve");
    assert!(matches!(
        decide(&seen(&planned, Some(set(3, 3))), now()),
        Step::RunHooks(When::Before)
    ));
    let ran = at("Planned", "hooks before");
    assert!(matches!(
        decide(&seen(&ran, Some(set(3, 3))), now()),
        Step::Quiesce
    ));
    let healthy = |restore| {
        let mut seen = seen(restore, Some(set(3, 3)));
        seen.health = Health::Healthy {
            revision: 9,
            hash: 1,
        };
        decide(&seen, now())
    };
    let validating = at("Validating", "hooks before");
    assert!(matches!(healthy(&validating), Step::RunHooks(When::After)));
    let told = at("Validating", "hooks after");
    assert!(matches!(healthy(&told), Step::Complete { .. }));
    let nowhere = restore(
        &format!("{INTO_SET}, preRestoreHooks: [{{name: h, type: Exec, exec: {{command: [x]}}}}]"),
        "",
    );
    match decide(&seen(&nowhere, Some(set(3, 3))), now()) {
        Step::Reject { message, .. } => assert!(message.contains("podSelector"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_older_etcd_gets_no_newer_data_unless_it_is_allowed() {
    assert_eq!(compatible("3.5.9", Some("3.6.1"), None), Ok(None));
    assert_eq!(compatible("3.6.0", Some("3.5.9"), None), Ok(None));
    assert!(compatible("3.6.0", Some("3.4.3"), None).is_err());
    assert!(compatible("3.6.0", Some("latest"), None).is_err());
    let allowed = VersionCompatibility {
        check: true,
        allow_mismatch: true,
    };
    assert!(
        compatible("3.6.0", Some("3.4.3"), Some(&allowed))
            .unwrap()
            .is_some()
    );
}

#[test]
fn the_release_is_read_from_etcds_own_image_and_one_that_is_not_told_is_refused() {
    let running = |images: &[(&str, &str)]| {
        let mut set = set(3, 3);
        let pod = set.spec.template.spec.as_mut().unwrap();
        let etcd = pod.containers[0].clone();
        pod.containers = images
            .iter()
            .map(|(name, image)| Container {
                name: (*name).to_owned(),
                image: Some((*image).to_owned()),
                ..etcd.clone()
            })
            .collect();
        set
    };
    let digest = "registry:5000/etcd:v3.5.9@sha256:0123456789abcdef";
    for (images, version) in [
        (vec![("etcd", digest)], Some("3.5.9")),
        (
            vec![("metrics", "m:9.9.9"), ("e", "x/etcd:3.6.1-r0")],
            Some("3.6.1-r0"),
        ),
        (
            vec![("metrics", "m:9.9.9"), ("etcd", "mirror:latest")],
            None,
        ),
        (vec![("etcd", "registry:5000/etcd")], None),
        (vec![("db", "mirror:3.6.2")], Some("3.6.2")),
    ] {
        assert_eq!(
            etcd_version(&running(&images)).as_deref(),
            version,
            "{images:?}"
        );
    }
    let wanted = restore(INTO_SET, "");
    let unknown = running(&[("etcd", "etcd:latest")]);
    match decide(&seen(&wanted, Some(unknown.clone())), now()) {
        Step::Reject { reason, message } => {
            assert_eq!(reason, "VersionMismatch");
            assert!(message.contains("does not tell"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let allowed = restore(
        &format!("{INTO_SET}, versionCompatibility: {{check: true, allowMismatch: true}}"),
        "",
    );
    match decide(&seen(&allowed, Some(unknown)), now()) {
        Step::Plan { warnings, .. } => assert_eq!(warnings.len(), 1),
        other => panic!("{other:?}"),
    }
}

/// Decided where the folders of nodes may be written to.
fn trusted(restore: &EtcdRestore, turns: Vec<JobState>) -> Step {
    let mut seen = seen(restore, None);
    seen.trusted = true;
    seen.turns = turns;
    decide(&seen, now())
}

#[test]
fn static_pods_are_stopped_and_started_by_jobs_on_their_nodes() {
    const ON_NODES: &str = "backupName: b, etcdCluster: {dataDir: /var/lib/etcd, members: [{name: a, peerURL: 'http://a:2380', nodeName: n1}, {name: b, peerURL: 'http://b:2380', nodeName: n2}]";
    let spec = format!("{ON_NODES}}}");
    let wanted = restore(&spec, "");
    let Step::Plan { steps, .. } = trusted(&wanted, Vec::new()) else {
        panic!("it is planned first");
    };
    assert_eq!(
        steps[1].message,
        "move the static pod's manifest aside on n1, n2"
    );
    let quiescing = restore(&spec, "status: {phase: Quiescing}");
    match trusted(&quiescing, vec![JobState::Done, JobState::Absent]) {
        Step::TurnStaticPods(Turn::Off, members) => assert_eq!(members[0].name, "b"),
        other => panic!("{other:?}"),
    }
    let going = trusted(&quiescing, vec![JobState::Done, JobState::Going]);
    assert!(matches!(going, Step::Wait(_)), "{going:?}");
    let done = trusted(&quiescing, vec![JobState::Done; 2]);
    assert!(matches!(done, Step::Quiesced), "{done:?}");
    let failed = JobState::Failed("no manifest".to_owned());
    match trusted(&quiescing, vec![JobState::Done, failed]) {
        Step::Fail { reason, message } => {
            assert_eq!(reason, "QuiesceFailed");
            let back = "on each node, mv /etc/kubernetes/etcdguardian-stopped/etcd.yaml /etc/kubernetes/manifests/etcd.yaml";
            assert!(message.contains(back), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let validating = restore(&spec, "status: {phase: Validating}");
    match trusted(&validating, vec![JobState::Absent; 2]) {
        Step::TurnStaticPods(Turn::On, members) => assert_eq!(members.len(), 2),
        other => panic!("{other:?}"),
    }
    // Whoever stops them by hand starts them by hand.
    let by_hand = restore(
        &format!("{spec}, quiesceCluster: false"),
        "status: {phase: Quiescing}",
    );
    assert!(matches!(trusted(&by_hand, Vec::new()), Step::Quiesced));
    let members = members(&wanted.spec, None).unwrap();
    let job = static_pods::job_of(Turn::Off, &wanted, &JobConfig::default(), &members[1]);
    let pod = job.spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.node_name.as_deref(), Some("n2"));
    assert_eq!(pod.automount_service_account_token, Some(false));
    let words = pod.containers[0].args.clone().unwrap().join(" ");
    assert_eq!(
        words,
        "job stop-static-pod --manifest /etc/kubernetes/manifests/etcd.yaml --aside /etc/kubernetes/etcdguardian-stopped/etcd.yaml --data-dir /var/lib/etcd"
    );
    for path in [
        "manifests/etcd.yaml",
        "/etcd.yaml",
        "/etc/etcd.yaml",
        "/etc/../x/etcd.yaml",
    ] {
        let spec = format!("{ON_NODES}, staticPodManifest: '{path}'}}");
        let misplaced = restore(&spec, "");
        let refused = trusted(&misplaced, Vec::new());
        assert!(
            matches!(
                refused,
                Step::Reject {
                    reason: "SpecInvalid",
                    ..
                }
            ),
            "{path}"
        );
    }
}
