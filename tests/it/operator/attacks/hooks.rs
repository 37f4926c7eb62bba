//! Hooks as weapons: commands in pods and requests from the operator's place in the network.

use super::{Tenant, invalid};
use crate::operator::tenants::running_pod;
use crate::support::until;

impl Tenant {
    /// Has a backup made with a hook, and waits until its message says one of the words.
    fn hook(&self, name: &str, hook: &str, words: &str) {
        let (storage, selector) = (self.storage(), self.selector());
        let hook = format!("hooks: {{preBackup: [{{name: h, {hook}}}]}}");
        let spec = format!("executor: InProcess, storageLocation: {storage}, {selector}, {hook}");
        self.site().backup(&self.me, name, &spec);
        let mut last = String::new();
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(name, || {
                let object = self.site().cluster.get("etcdbackup", &self.me, name)?;
                last = object["status"]["message"].as_str()?.to_owned();
                last.contains(words).then_some(())
            });
        }));
        let said = "was expected, and it says";
        assert!(found.is_ok(), "{name}: '{words}' {said}: {last}");
        assert_eq!(self.stored(), 0, "{name}: nothing is backed up without it");
    }
}

#[test]
fn a_hook_runs_in_no_foreign_pod() {
    let tenant = Tenant::new("foreign");
    running_pod(tenant.site(), &tenant.other);
    tenant.hook(
        "other",
        "type: Exec, exec: {podSelector: {app: foreign-other}, command: [cat]}",
        "no pod of namespace foreign with the labels app=foreign-other is running",
    );
    // Without a pod it would run in the operator's.
    let nowhere =
        "hooks: {preBackup: [{name: h, type: Exec, exec: {podSelector: {}, command: [cat]}}]}";
    let done = tenant.back_up("nowhere", &format!("{}, {nowhere}", tenant.selector()));
    invalid(&done, "podSelector");
}

#[test]
fn a_hook_runs_no_command_that_its_author_may_not() {
    let tenant = Tenant::new("commands");
    running_pod(tenant.site(), &tenant.me);
    let command = "type: Exec, exec: {podSelector: {app: commands}, command: [cat]}";
    let refusal =
        "system:serviceaccount:commands:default may not create pods/exec in namespace commands";
    tenant.hook("no-right", command, refusal);
    let cluster = &tenant.site().cluster;
    let role = ["create", "role", "runs", "-n", &tenant.me];
    let rule = ["--verb=create", "--resource=pods/exec"];
    cluster.kubectl(&[&role[..], &rule].concat());
    let binding = ["create", "rolebinding", "runs", "-n", &tenant.me];
    let account = format!("--serviceaccount={}:default", tenant.me);
    cluster.kubectl(&[&binding[..], &["--role=runs", &account]].concat());
    // With the right it gets as far as the pod, which no kubelet runs here.
    tenant.hook("right", command, "no command can be run in pod p");
}

#[test]
fn an_http_hook_reaches_neither_the_operator_nor_cloud_metadata() {
    let tenant = Tenant::new("requests");
    let port = tenant.site().store.port;
    let metadata = "http://169.254.169.254/latest/meta-data/".to_owned();
    let own = "own machine";
    for (name, url, word) in [
        ("loopback", format!("http://127.0.0.1:{port}/"), own),
        ("number", format!("http://2130706433:{port}/"), own),
        ("mapped", format!("http://[::ffff:127.0.0.1]:{port}/"), own),
        ("named", format!("http://localhost:{port}/"), own),
        ("metadata", metadata, "cloud metadata"),
    ] {
        tenant.hook(name, &format!("type: HTTP, http: {{url: '{url}'}}"), word);
    }
}
