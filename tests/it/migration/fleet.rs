//! A cluster that is worth moving: 5,000 objects of more than 30 kinds, with all that makes it hard.

use futures::{StreamExt, stream};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::support::Kubernetes;

/// Its namespaces, made beside those of the test bed.
pub const NAMESPACES: [&str; 2] = ["shop", "bank"];
/// ConfigMaps, Secrets and cacti that are many.
const MANY: [usize; 3] = [3000, 1000, 900];
/// The version that the definition of cacti stores while a third of them is made.
pub const STORED: [&str; 3] = ["v1alpha1", "v1beta1", "v1"];

/// A client with the administrator's rights.
pub async fn client(cluster: &Kubernetes) -> Client {
    etcdguardian::init_tls();
    let file = Kubeconfig::read_from(cluster.admin()).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(file, &options).await;
    Client::try_from(config.unwrap()).unwrap()
}

/// Asks the API server; what it answers, or its words.
pub async fn ask(client: &Client, method: &str, path: &str, body: &Value) -> Result<Value, String> {
    let bytes = match body {
        Value::Null => Vec::new(),
        body => serde_json::to_vec(body).unwrap(),
    };
    let kind = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = http::Request::builder().method(method).uri(path);
    let request = request.header("content-type", kind).body(bytes).unwrap();
    client
        .request::<Value>(request)
        .await
        .map_err(|error| error.to_string())
}

/// Where objects of a kind are, of a namespace or of all.
pub fn path_of(api_version: &str, plural: &str, namespace: &str) -> String {
    let root = if api_version.contains('/') { "apis" } else { "api" };
    match namespace {
        "" => format!("/{root}/{api_version}/{plural}"),
        namespace => format!("/{root}/{api_version}/namespaces/{namespace}/{plural}"),
    }
}

/// Makes an object of the resource.
pub async fn make(client: &Client, plural: &str, object: &Value) -> Value {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let path = path_of(object["apiVersion"].as_str().unwrap(), plural, namespace);
    let made = ask(client, "POST", &path, object).await;
    made.unwrap_or_else(|error| panic!("{error}\n{object}"))
}

/// Every object of a resource, in pages.
pub async fn list(client: &Client, api_version: &str, plural: &str) -> Vec<Value> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let path = path_of(api_version, plural, "");
        let path = format!("{path}?limit=1000&continue={token}");
        let mut page = ask(client, "GET", &path, &Value::Null).await.unwrap();
        all.append(page["items"].as_array_mut().unwrap());
        match page["metadata"]["continue"].as_str() {
            Some(next) if !next.is_empty() => token = next.to_owned(),
            _ => return all,
        }
    }
}

/// Waits for what the API server tells later.
pub async fn soon<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..3600 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{what}: not within three minutes");
}

fn definition(plural: &str, kind: &str, scope: &str, versions: &Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.example.com")},
        "spec": {"group": "example.com", "scope": scope, "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": versions}})
}

fn version(name: &str, stored: &str, fields: &Value) -> Value {
    json!({"name": name, "served": true, "storage": name == stored, "schema": {"openAPIV3Schema": {"type": "object",
        "properties": {"spec": {"type": "object", "properties": fields}, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}},
        "subresources": {"status": {}}})
}

fn cactus(name: &str, stored: &str) -> Value {
    json!({"apiVersion": format!("example.com/{stored}"), "kind": "Cactus", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"height": 12, "port": "http", "nothing": null, "anything": {"kept": [1, {"deep": "as it is"}]}}})
}

/// Cacti are stored in three versions, without a conversion; ferns lose a field when they are asked for in the version that the server
/// prefers; mosses are served in a version that their group does not prefer; palms have a webhook that converts, and does not answer.
async fn custom(client: &Client) {
    let fields = json!({"height": {"type": "integer"}, "port": {"x-kubernetes-int-or-string": true},
        "nothing": {"type": "string", "nullable": true}, "anything": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let cacti = |stored: &str| -> Value {
        STORED.iter().map(|name| version(name, stored, &fields)).collect()
    };
    make(client, "customresourcedefinitions", &definition("cacti", "Cactus", "Namespaced", &cacti(STORED[0]))).await;
    let old = json!({"old": {"type": "string"}, "new": {"type": "string"}});
    let ferns = json!([version("v1", "v1beta1", &json!({"new": {"type": "string"}})), version("v1beta1", "v1beta1", &old)]);
    make(client, "customresourcedefinitions", &definition("ferns", "Fern", "Namespaced", &ferns)).await;
    let mosses = json!([version("v1alpha1", "v1alpha1", &old)]);
    make(client, "customresourcedefinitions", &definition("mosses", "Moss", "Cluster", &mosses)).await;
    let palms = json!([version("v2beta1", "v2beta1", &old), version("v2alpha1", "v2beta1", &old)]);
    let mut palms = definition("palms", "Palm", "Namespaced", &palms);
    palms["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
        "clientConfig": {"service": {"namespace": "shop", "name": "converter"}}}});
    make(client, "customresourcedefinitions", &palms).await;

    let place = path_of("apiextensions.k8s.io/v1", "customresourcedefinitions/cacti.example.com", "");
    let number = std::cell::Cell::new(0);
    for stored in STORED {
        let patch = json!({"spec": {"versions": cacti(stored)}});
        ask(client, "PATCH", &place, &patch).await.unwrap();
        // The new storage version is in force a moment later: only then is what is made stored in it.
        soon("cacti are stored anew", async || {
            number.set(number.get() + 1);
            let probe = cactus(&format!("probe-{}", number.get()), stored);
            let path = path_of(probe["apiVersion"].as_str().unwrap(), "cacti", "shop");
            ask(client, "POST", &path, &probe).await.ok()?;
            let definition = ask(client, "GET", &place, &Value::Null).await.ok()?;
            let versions = definition["status"]["storedVersions"].as_array()?.clone();
            versions.contains(&json!(stored)).then_some(())
        })
        .await;
        let some = (0..MANY[2] / 3).map(|index| cactus(&format!("{stored}-{index}"), stored));
        all(client, "cacti", some.collect()).await;
    }
    let fern = json!({"apiVersion": "example.com/v1beta1", "kind": "Fern", "metadata": {"name": "bracken", "namespace": "bank"},
        "spec": {"old": "kept", "new": "too"}});
    make(client, "ferns", &fern).await;
    let moss = json!({"apiVersion": "example.com/v1alpha1", "kind": "Moss", "metadata": {"name": "peat"}, "spec": {"old": "kept"}});
    make(client, "mosses", &moss).await;
    let palm = json!({"apiVersion": "example.com/v2beta1", "kind": "Palm", "metadata": {"name": "date", "namespace": "bank"}, "spec": {"old": "kept"}});
    make(client, "palms", &palm).await;
}

async fn all(client: &Client, plural: &str, objects: Vec<Value>) {
    let made = stream::iter(objects).map(|object| async move { make(client, plural, &object).await });
    made.buffer_unordered(32).for_each(|_| async {}).await;
}

/// The built-in kinds, one line an object: resource, apiVersion, kind, namespace, name, and the rest of it.
fn built_in() -> Vec<(&'static str, Value)> {
    let labels = json!({"app": "web"});
    let pod = json!({"terminationGracePeriodSeconds": 5, "containers": [{"name": "web", "image": "web:1",
        "resources": {"requests": {"cpu": "1000m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}}}]});
    let mut twice = pod.clone();
    twice["containers"][0]["env"] = json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]);
    let once = json!({"restartPolicy": "Never", "containers": pod["containers"]});
    let template = json!({"metadata": {"labels": labels}, "spec": pod});
    let mut objects = Vec::new();
    let mut add = |plural: &'static str, version: &str, kind: &str, namespace: &str, name: &str, rest: Value| {
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = json!(namespace);
        }
        for (field, value) in rest.as_object().unwrap() {
            match (field.as_str(), value) {
                ("metadata", Value::Object(more)) => {
                    object["metadata"].as_object_mut().unwrap().extend(more.clone());
                }
                _ => object[field] = value.clone(),
            }
        }
        objects.push((plural, object));
    };
    add("priorityclasses", "scheduling.k8s.io/v1", "PriorityClass", "", "high", json!({"value": 1000, "description": "shops"}));
    add("runtimeclasses", "node.k8s.io/v1", "RuntimeClass", "", "sandbox", json!({"handler": "gvisor"}));
    add("ingressclasses", "networking.k8s.io/v1", "IngressClass", "", "edge", json!({"spec": {"controller": "example.com/edge"}}));
    add("storageclasses", "storage.k8s.io/v1", "StorageClass", "", "disk", json!({"provisioner": "example.com/disk", "reclaimPolicy": "Retain"}));
    add("csidrivers", "storage.k8s.io/v1", "CSIDriver", "", "disk.example.com", json!({"spec": {"attachRequired": false}}));
    add("persistentvolumes", "v1", "PersistentVolume", "", "disk-1", json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
        "storageClassName": "", "hostPath": {"path": "/nowhere"}, "claimRef": {"namespace": "shop", "name": "bound"}}}));
    let claim = |volume: &str| json!({"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": volume,
        "resources": {"requests": {"storage": "1Gi"}}}});
    add("persistentvolumeclaims", "v1", "PersistentVolumeClaim", "shop", "bound", claim("disk-1"));
    add("persistentvolumeclaims", "v1", "PersistentVolumeClaim", "bank", "lonely", claim("gone"));
    add("serviceaccounts", "v1", "ServiceAccount", "shop", "clerk", json!({"imagePullSecrets": [{"name": "pull"}], "automountServiceAccountToken": false}));
    add("secrets", "v1", "Secret", "shop", "clerk-token", json!({"type": "kubernetes.io/service-account-token",
        "metadata": {"annotations": {"kubernetes.io/service-account.name": "clerk"}}}));
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]);
    add("clusterroles", "rbac.authorization.k8s.io/v1", "ClusterRole", "", "shop:reader", json!({"rules": rules}));
    add("roles", "rbac.authorization.k8s.io/v1", "Role", "shop", "reader", json!({"rules": rules}));
    let subjects = json!([{"kind": "ServiceAccount", "name": "clerk", "namespace": "shop"}]);
    let role = |kind: &str, name: &str| json!({"subjects": subjects, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}});
    add("clusterrolebindings", "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "", "shop:reader", role("ClusterRole", "shop:reader"));
    add("rolebindings", "rbac.authorization.k8s.io/v1", "RoleBinding", "shop", "reader", role("Role", "reader"));
    add("limitranges", "v1", "LimitRange", "shop", "limits", json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "4"}}]}}));
    add("resourcequotas", "v1", "ResourceQuota", "bank", "quota", json!({"spec": {"hard": {"count/ingresses.networking.k8s.io": "7"}}}));
    let ports = json!([{"name": "http", "port": 80, "targetPort": "web"}]);
    for (name, more) in [
        ("web", json!({})),
        ("node", json!({"type": "NodePort"})),
        ("edge", json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"})),
        ("headless", json!({"clusterIP": "None"})),
    ] {
        let mut spec = json!({"selector": labels, "ports": ports});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        add("services", "v1", "Service", "shop", name, json!({"spec": spec}));
    }
    add("services", "v1", "Service", "shop", "far", json!({"spec": {"type": "ExternalName", "externalName": "far.example.com"}}));
    let workload = json!({"spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}});
    add("deployments", "apps/v1", "Deployment", "shop", "web", workload.clone());
    let mut odd = workload.clone();
    odd["spec"]["template"]["spec"] = twice;
    add("deployments", "apps/v1", "Deployment", "shop", "twice", odd);
    let mut set = workload.clone();
    set["spec"]["serviceName"] = json!("headless");
    add("statefulsets", "apps/v1", "StatefulSet", "shop", "db", set);
    add("replicasets", "apps/v1", "ReplicaSet", "shop", "alone", workload.clone());
    add("daemonsets", "apps/v1", "DaemonSet", "shop", "agent", json!({"spec": {"selector": {"matchLabels": labels}, "template": template}}));
    add("replicationcontrollers", "v1", "ReplicationController", "shop", "old", json!({"spec": {"replicas": 0, "selector": labels, "template": template}}));
    add("podtemplates", "v1", "PodTemplate", "shop", "template", json!({"template": template}));
    let job = json!({"template": {"spec": once}, "suspend": true});
    add("jobs", "batch/v1", "Job", "shop", "later", json!({"spec": job}));
    add("jobs", "batch/v1", "Job", "shop", "done", json!({"spec": job}));
    add("cronjobs", "batch/v1", "CronJob", "shop", "nightly", json!({"spec": {"schedule": "3 3 * * *", "suspend": true, "jobTemplate": {"spec": job}}}));
    let mut single = once.clone();
    single["priorityClassName"] = json!("high");
    add("pods", "v1", "Pod", "shop", "single", json!({"metadata": {"labels": {"app": "single"}}, "spec": single}));
    add("pods", "v1", "Pod", "shop", "ended", json!({"spec": once}));
    add("horizontalpodautoscalers", "autoscaling/v2", "HorizontalPodAutoscaler", "shop", "web", json!({"spec": {"maxReplicas": 3,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}}));
    add("poddisruptionbudgets", "policy/v1", "PodDisruptionBudget", "shop", "web", json!({"spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels}}}));
    add("ingresses", "networking.k8s.io/v1", "Ingress", "shop", "web", json!({"spec": {"ingressClassName": "edge",
        "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}}));
    add("networkpolicies", "networking.k8s.io/v1", "NetworkPolicy", "shop", "web", json!({"spec": {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress"]}}));
    add("flowschemas", "flowcontrol.apiserver.k8s.io/v1", "FlowSchema", "", "shop", json!({"spec": {"matchingPrecedence": 9000,
        "priorityLevelConfiguration": {"name": "workload-low"}, "distinguisherMethod": {"type": "ByUser"}}}));
    add("configmaps", "v1", "ConfigMap", "shop", "held", json!({"metadata": {"finalizers": ["example.com/hold"]}, "data": {"k": "v"}}));
    add("secrets", "v1", "Secret", "shop", "leaving", json!({"metadata": {"finalizers": ["example.com/hold"]}}));
    // A policy that comes later would not have this one made.
    add("configmaps", "v1", "ConfigMap", "shop", "contraband", json!({"binaryData": {"b": "AAEC"}}));
    add("leases", "coordination.k8s.io/v1", "Lease", "shop", "lead", json!({"spec": {}}));
    objects
}

/// What may refuse all others, made last as it is put back last.
async fn refusing(client: &Client) {
    let service = json!({"group": "weather.example.org", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 15,
        "insecureSkipTLSVerify": true, "service": {"namespace": "shop", "name": "weather"}});
    make(client, "apiservices", &json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1.weather.example.org"}, "spec": service})).await;
    let everything = json!([{"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["CREATE", "UPDATE"]}]);
    let only = json!({"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}]});
    make(client, "validatingadmissionpolicies", &json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "no-contraband"}, "spec": {"failurePolicy": "Fail", "matchConstraints": only,
            "validations": [{"expression": "object.metadata.name != 'contraband'"}]}})).await;
    make(client, "validatingadmissionpolicybindings", &json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "no-contraband"}, "spec": {"policyName": "no-contraband", "validationActions": ["Deny"]}})).await;
    for (plural, kind) in [
        ("validatingwebhookconfigurations", "ValidatingWebhookConfiguration"),
        ("mutatingwebhookconfigurations", "MutatingWebhookConfiguration"),
    ] {
        make(client, plural, &json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "guard"},
            "webhooks": [{"name": "guard.example.com", "rules": everything, "failurePolicy": "Fail", "sideEffects": "None", "timeoutSeconds": 1,
                "admissionReviewVersions": ["v1"], "clientConfig": {"service": {"namespace": "shop", "name": "guard"}}}]})).await;
    }
}

/// Fills a cluster whose controllers run.
pub async fn fill(client: &Client) {
    for name in NAMESPACES {
        make(client, "namespaces", &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"tier": name}}})).await;
        soon("the account of its pods", async || {
            let path = path_of("v1", "serviceaccounts/default", name);
            ask(client, "GET", &path, &Value::Null).await.ok()
        })
        .await;
    }
    let many = |plural: &'static str, kind: &str, count: usize| {
        let object = |index: usize| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": format!("many-{index}"), "namespace": NAMESPACES[index % 2]},
            "data": {"n": "bg=="}});
        all(client, plural, (0..count).map(object).collect())
    };
    many("configmaps", "ConfigMap", MANY[0]).await;
    many("secrets", "Secret", MANY[1]).await;
    custom(client).await;
    for (plural, object) in built_in() {
        make(client, plural, &object).await;
    }
    owners(client).await;
    let condition = |kind: &str| json!([{"type": kind, "status": "True", "lastProbeTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let ended = json!({"status": {"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:00Z", "succeeded": 1,
        "conditions": [condition("SuccessCriteriaMet")[0], condition("Complete")[0]]}});
    let done = path_of("batch/v1", "jobs/done", "shop");
    ask(client, "PATCH", &done, &json!({"spec": {"suspend": false}})).await.unwrap();
    soon("the job that is done", async || ask(client, "PATCH", &format!("{done}/status"), &ended).await.ok()).await;
    let pod = path_of("v1", "pods/ended/status", "shop");
    ask(client, "PATCH", &pod, &json!({"status": {"phase": "Succeeded"}})).await.unwrap();
    let leaving = path_of("v1", "secrets/leaving", "shop");
    ask(client, "DELETE", &leaving, &Value::Null).await.unwrap();
    settled(client).await;
    refusing(client).await;
}

/// Waits until the controllers have done what they will do: what refuses everything would have them stop half-way, and an export made
/// meanwhile would differ from what is read after it.
async fn settled(client: &Client) {
    let deployed = "/metadata/annotations/deployment.kubernetes.io~1revision";
    for (version, place, namespace, pointer) in [
        ("apps/v1", "deployments/web", "shop", deployed),
        ("apps/v1", "deployments/twice", "shop", deployed),
        ("apps/v1", "statefulsets/db", "shop", "/status/currentRevision"),
        ("apps/v1", "replicasets/alone", "shop", "/status/observedGeneration"),
        ("apps/v1", "daemonsets/agent", "shop", "/status/observedGeneration"),
        ("v1", "replicationcontrollers/old", "shop", "/status/observedGeneration"),
        ("batch/v1", "jobs/later", "shop", "/status/conditions/0/type"),
        ("policy/v1", "poddisruptionbudgets/web", "shop", "/status/observedGeneration"),
        ("v1", "secrets/clerk-token", "shop", "/data/token"),
        ("v1", "resourcequotas/quota", "bank", "/status/hard"),
        ("v1", "persistentvolumes/disk-1", "", "/spec/claimRef/uid"),
        ("v1", "persistentvolumeclaims/bound", "shop", "/metadata/annotations/pv.kubernetes.io~1bind-completed"),
    ] {
        let path = path_of(version, place, namespace);
        soon(&format!("{place} {pointer}"), async || {
            let object = ask(client, "GET", &path, &Value::Null).await.ok()?;
            object.pointer(pointer).map(|_| ())
        })
        .await;
    }
    // The selectors overlap, so that one deployment or the other adopts the replica set that was alone: what is there is settled once it
    // stays as it is.
    let mut before = Vec::new();
    soon("controllers at rest", async || {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let (mut now, mut owned) = (Vec::new(), std::collections::BTreeMap::new());
        for (version, plural) in [("v1", "pods"), ("apps/v1", "replicasets"), ("apps/v1", "deployments"), ("apps/v1", "statefulsets"),
            ("discovery.k8s.io/v1", "endpointslices"), ("v1", "persistentvolumeclaims"), ("v1", "serviceaccounts")] {
            for object in list(client, version, plural).await {
                let owner = &object["metadata"]["ownerReferences"][0]["kind"];
                *owned.entry((plural, owner.as_str().unwrap_or_default().to_owned())).or_insert(0) += 1;
                now.push((object["metadata"]["uid"].clone(), object["metadata"]["resourceVersion"].clone()));
            }
        }
        let made = [("pods", "ReplicaSet", 2), ("pods", "StatefulSet", 1), ("replicasets", "Deployment", 2), ("endpointslices", "Service", 4)];
        let all_made = made.iter().all(|(plural, owner, least)| owned.get(&(*plural, (*owner).to_owned())) >= Some(least));
        (std::mem::replace(&mut before, now.clone()) == now && all_made).then_some(())
    })
    .await;
}

/// Owners that come along, of the namespace and of the cluster; one that does not; one whose controller is not Kubernetes' own.
async fn owners(client: &Client) {
    for (name, version, kind, plural, owner, namespace, controller) in [
        ("of-cactus", "example.com/v1", "Cactus", "cacti", "v1-0", "shop", false),
        ("made-by-cactus", "example.com/v1", "Cactus", "cacti", "v1-1", "shop", true),
        ("of-moss", "example.com/v1alpha1", "Moss", "mosses", "peat", "", false),
        ("of-lease", "coordination.k8s.io/v1", "Lease", "leases", "lead", "shop", false),
    ] {
        let path = path_of(version, &format!("{plural}/{owner}"), namespace);
        let found = ask(client, "GET", &path, &Value::Null).await.unwrap();
        make(client, "secrets", &json!({"apiVersion": "v1", "kind": "Secret", "data": {"k": "dg=="},
            "metadata": {"name": name, "namespace": "shop", "ownerReferences": [{"apiVersion": version, "kind": kind,
                "name": owner, "uid": found["metadata"]["uid"], "controller": controller}]}})).await;
    }
}
