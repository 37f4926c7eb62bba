//! Objects that the API server lets nobody write to: each is looked at again ever later.

use jiff::{SignedDuration, Timestamp};

use super::Site;
use crate::support::{Kubernetes, until};

/// Nobody changes what has the name `frozen`, its status included.
const FROZEN: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: frozen}
spec:
  matchConstraints:
    resourceRules:
    - apiGroups: [etcdguardian.io]
      apiVersions: ['*']
      operations: [UPDATE]
      resources: [etcdbackups, etcdbackups/status, etcdrestores, etcdrestores/status]
  validations: [{expression: \"object.metadata.name != 'frozen'\", message: it is frozen}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: frozen}
spec: {policyName: frozen, validationActions: [Deny]}
";

/// When the refusals of an object of this kind were told.
fn told(log: &str, kind: &str) -> Vec<Timestamp> {
    let kind = format!("kind={kind} ");
    let lines = log.lines().filter(|line| {
        let of_it = line.contains(&kind) && line.contains("it is frozen");
        of_it && line.contains(" WARN ")
    });
    let first = lines.map(|line| line.split(' ').next().unwrap());
    first.map(|time| time.parse().unwrap()).collect()
}

#[test]
fn what_is_refused_again_and_again_is_asked_for_ever_later() {
    let site = Site::new(Kubernetes::start());
    site.cluster.apply(FROZEN);
    let storage = site.storage(site.store.port);
    site.backup(
        "guardian",
        "frozen",
        &format!("executor: InProcess, storageLocation: {storage}"),
    );
    site.cluster.apply("apiVersion: etcdguardian.io/v1alpha1\nkind: EtcdRestore\nmetadata: {name: frozen, namespace: guardian}\nspec: {restoreMode: Full, backupName: none, etcdCluster: {dataDir: /data}}\n");
    for kind in ["egb", "egr"] {
        until("the policy is in force", || {
            let words = [
                "annotate",
                kind,
                "-n",
                "guardian",
                "frozen",
                "--overwrite",
                "a=b",
            ];
            let (changed, _, said) = site.cluster.try_kubectl(&words);
            (!changed && said.contains("it is frozen")).then_some(())
        });
    }
    let operator = site.operator("one", "");
    for kind in ["EtcdBackup", "EtcdRestore"] {
        let times = until(&format!("four refusals of the {kind}"), || {
            let times = told(&operator.log_text(), kind);
            (times.len() >= 4).then_some(times)
        });
        // A busy machine makes a wait longer, and none shorter.
        for (refusals, pair) in times.windows(2).take(3).enumerate() {
            let waited = pair[1].duration_since(pair[0]);
            let least = SignedDuration::from_millis(1000 << refusals);
            assert!(waited >= least, "{kind}: {waited:?}, not {least:?}");
        }
    }
}
