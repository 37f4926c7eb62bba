//! Hooks of tenants: commands only where the tenant may run them itself, requests only where the operator's place in the network gives
//! nothing that the tenant has not.

use super::Site;
use super::tenants::{running_pod, tenants_with};
use crate::support::until;

const OWN: &str = "namespaceSelector: {matchLabels: {own: 'yes'}}";

/// Has a backup made with a hook, and waits until its message says one of the words.
fn said(site: &Site, namespace: &str, name: &str, hook: &str, words: &str) {
    let storage = site.storage(site.store.port);
    let hook = format!("hooks: {{preBackup: [{{name: h, {hook}}}]}}");
    site.backup(
        namespace,
        name,
        &format!("executor: InProcess, storageLocation: {storage}, {OWN}, {hook}"),
    );
    let mut last = String::new();
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until(name, || {
            let object = site.cluster.get("etcdbackup", namespace, name)?;
            last = object["status"]["message"].as_str()?.to_owned();
            last.contains(words).then_some(())
        });
    }));
    assert!(
        found.is_ok(),
        "{name}: '{words}' was expected, and it says: {last}"
    );
}

#[test]
fn a_tenants_hook_runs_no_command_that_its_account_may_not_and_reaches_nothing_of_the_operators() {
    let site = tenants_with(&["operator.execHooks=true"]);
    let operator = site.operator("one", "");
    running_pod(&site, "team-a");
    let command = "type: Exec, exec: {podSelector: {app: team-a}, command: [cat]}";
    said(
        &site,
        "team-a",
        "no-right",
        command,
        "system:serviceaccount:team-a:default may not create pods/exec in namespace team-a",
    );
    site.cluster.kubectl(&[
        "create",
        "role",
        "runs",
        "-n",
        "team-a",
        "--verb=create",
        "--resource=pods/exec",
    ]);
    site.cluster.kubectl(&[
        "create",
        "rolebinding",
        "runs",
        "-n",
        "team-a",
        "--role=runs",
        "--serviceaccount=team-a:default",
    ]);
    // With the right it gets as far as the pod, which no kubelet runs here.
    said(
        &site,
        "team-a",
        "right",
        command,
        "no command can be run in pod p",
    );

    let port = site.store.port;
    for (name, url, word) in [
        (
            "loopback",
            format!("http://127.0.0.1:{port}/"),
            "own machine",
        ),
        (
            "number",
            format!("http://2130706433:{port}/"),
            "own machine",
        ),
        (
            "mapped",
            format!("http://[::ffff:127.0.0.1]:{port}/"),
            "own machine",
        ),
        ("named", format!("http://localhost:{port}/"), "own machine"),
        (
            "metadata",
            "http://169.254.169.254/latest/meta-data/".to_owned(),
            "cloud metadata",
        ),
    ] {
        said(
            &site,
            "team-a",
            name,
            &format!("type: HTTP, http: {{url: '{url}'}}"),
            word,
        );
    }
    // Whoever is trusted has the operator's place in the network.
    let call = format!("type: HTTP, http: {{url: 'http://127.0.0.1:{port}/'}}");
    said(&site, "guardian", "trusted", &call, "127.0.0.1 answered 4");
    drop(operator);

    // A list of hosts: what is on it may be called, nothing else.
    let _operator = site.operator("two", "operator: {httpHookHosts: [127.0.0.1]}");
    said(&site, "team-a", "listed", &call, "127.0.0.1 answered 4");
    said(
        &site,
        "team-a",
        "unlisted",
        "type: HTTP, http: {url: 'http://203.0.113.9/'}",
        "httpHookHosts",
    );
}
