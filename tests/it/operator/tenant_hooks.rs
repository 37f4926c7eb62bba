//! Where hooks' requests may go beside what the attacks try: whoever is trusted may call anything, and a list of hosts is all that there is.

use super::Site;
use crate::support::{Kubernetes, until};

fn called(site: &Site, namespace: &str, name: &str, url: &str, words: &str) {
    let storage = site.storage(site.store.port);
    let hook = format!("{{name: h, type: HTTP, http: {{url: '{url}'}}}}");
    let spec = format!(
        "executor: InProcess, storageLocation: {storage}, namespaceSelector: {{matchLabels: {{own: 'yes'}}}}, hooks: {{preBackup: [{hook}]}}"
    );
    site.backup(namespace, name, &spec);
    until(&format!("{name} says '{words}'"), || {
        let object = site.cluster.get("etcdbackup", namespace, name)?;
        let message = object["status"]["message"].as_str()?.to_owned();
        message.contains(words).then_some(())
    });
}

#[test]
fn trusted_hooks_call_anything_and_others_what_a_list_names() {
    let site = Site::with_roles(Kubernetes::start(), &["rbac.exports=true"]);
    site.cluster
        .kubectl(&["label", "namespace", "team-a", "own=yes"]);
    let url = format!("http://127.0.0.1:{}/", site.store.port);
    let _operator = site.operator("one", "operator: {httpHookHosts: [127.0.0.1]}");
    // Whoever is trusted has the operator's place in the network.
    let by_name = url.replace("127.0.0.1", "localhost");
    called(
        &site,
        "guardian",
        "trusted",
        &by_name,
        "localhost answered 4",
    );
    called(&site, "team-a", "listed", &url, "127.0.0.1 answered 4");
    let other = "http://203.0.113.9/";
    called(&site, "team-a", "unlisted", other, "httpHookHosts");
}
