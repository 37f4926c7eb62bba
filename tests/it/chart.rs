//! The Helm chart: it lints, renders what Kubernetes takes and what the binary reads, and refuses what it does not know.

use std::process::{Command, Output};

use etcdguardian::api::{Provider, Resource, parse_config, parse_resources};
use etcdguardian::schedule::Cron;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{repository, tool, tools_dir};

/// Runs helm with folders of its own.
fn helm(args: &[&str]) -> Output {
    let home = TempDir::new().unwrap();
    Command::new(tool("helm"))
        .args(args)
        .current_dir(repository("charts"))
        .env("HELM_CACHE_HOME", home.path())
        .env("HELM_CONFIG_HOME", home.path())
        .env("HELM_DATA_HOME", home.path())
        .output()
        .unwrap()
}

/// The chart rendered for a Kubernetes version with more flags.
fn rendered(version: &str, flags: &[&str]) -> String {
    let mut args = vec![
        "template",
        "eg",
        "etcdguardian",
        "--namespace",
        "backup",
        "--kube-version",
        version,
    ];
    args.extend(flags);
    let output = helm(&args);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

const FULL: [&str; 2] = ["--values", "etcdguardian/ci/full-values.yaml"];

/// All that a user must say who keeps backups in Alibaba Cloud.
const OSS: [&str; 6] = [
    "--set",
    "storage.oss.enabled=true",
    "--set",
    "storage.oss.bucket=b",
    "--set",
    "storage.oss.region=oss-cn-hangzhou",
];

fn objects(text: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    documents
        .into_iter()
        .filter(|document| !document.is_null())
        .collect()
}

/// The object of a kind whose name ends so.
fn object(text: &str, kind: &str, name_end: &str) -> Value {
    objects(text)
        .into_iter()
        .find(|o| o["kind"] == kind && o["metadata"]["name"].as_str().unwrap().ends_with(name_end))
        .unwrap_or_else(|| panic!("no {kind} …{name_end}"))
}

#[test]
fn it_lints_and_kubernetes_takes_what_it_renders() {
    for flags in [&[][..], &FULL, &OSS] {
        let mut args = vec![
            "lint",
            "--strict",
            "etcdguardian",
            "--kube-version",
            "1.34.0",
        ];
        args.extend(flags);
        let lint = helm(&args);
        assert!(
            lint.status.success(),
            "{}",
            String::from_utf8_lossy(&lint.stdout)
        );
        for version in ["1.21.0", "1.34.0"] {
            let folder = TempDir::new().unwrap();
            let file = folder.path().join("all.yaml");
            std::fs::write(&file, rendered(version, flags)).unwrap();
            let schemas = tools_dir().join("schemas");
            let checked = Command::new(tool("kubeconform"))
                .args([
                    "-strict",
                    "-skip",
                    "ServiceMonitor,PrometheusRule,CustomResourceDefinition",
                    "-schema-location",
                ])
                .arg(format!(
                    "{}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
                    schemas.display()
                ))
                .arg(&file)
                .output()
                .unwrap();
            assert!(
                checked.status.success(),
                "{}",
                String::from_utf8_lossy(&checked.stdout)
            );
        }
    }
}

#[test]
fn the_binary_reads_the_config_and_the_schedules_that_it_renders() {
    let text = rendered("1.34.0", &FULL);
    let config = object(&text, "ConfigMap", "-config");
    let config = parse_config(
        config["data"]["guardian.yaml"].as_str().unwrap(),
        "guardian.yaml",
    )
    .unwrap();
    assert_eq!(config.cluster.as_ref().unwrap().endpoints.len(), 2);
    assert_eq!(config.alerts.channels.len(), 2);
    let collector = config.tracing.endpoint.as_deref();
    assert_eq!(collector, Some("http://otel-collector.monitoring:4318"));
    let operator = &config.operator;
    assert_eq!(operator.namespace.as_deref(), Some("backup"));
    assert!(
        operator
            .jobs
            .image
            .as_deref()
            .unwrap()
            .starts_with("etcdguardian:")
    );
    assert_eq!(operator.jobs.image_pull_secrets, ["registry"]);
    let map = operator.jobs.config_map.as_deref().unwrap();
    object(&text, "ConfigMap", map);
    let manifests = object(&text, "ConfigMap", "-manifests");
    let resources = parse_resources(
        manifests["data"]["schedules.yaml"].as_str().unwrap(),
        "schedules.yaml",
        config.store.as_ref(),
    )
    .unwrap();
    let schedules: Vec<_> = resources
        .iter()
        .map(|resource| match resource {
            Resource::Schedule(schedule) => schedule,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(schedules.len(), 2);
    let (archive, main) = (&schedules[0].spec, &schedules[1].spec);
    assert_eq!(
        archive.backup_template.spec.storage_location.bucket,
        "archive"
    );
    assert!(
        !archive.ai_optimization.enabled,
        "the schedule's own word wins over the general one"
    );
    assert_eq!(
        main.backup_template.spec.storage_location.bucket,
        "etcd-backups"
    );
    assert!(main.ai_optimization.enabled);
}

#[test]
fn a_bucket_and_a_region_are_all_that_it_needs() {
    let text = rendered("1.34.0", &OSS);
    let config = object(&text, "ConfigMap", "-config");
    let config = config["data"]["guardian.yaml"].as_str().unwrap();
    let config = parse_config(config, "guardian.yaml").unwrap();
    let manifests = object(&text, "ConfigMap", "-manifests");
    let manifests = manifests["data"]["schedules.yaml"].as_str().unwrap();
    let resources = parse_resources(manifests, "schedules.yaml", config.store.as_ref()).unwrap();
    let [Resource::Schedule(main)] = &resources[..] else {
        panic!("{resources:?}");
    };
    let spec = &main.spec.backup_template.spec;
    let location = &spec.storage_location;
    assert_eq!(
        (location.provider, location.bucket.as_str()),
        (Provider::OSS, "b")
    );
    assert_eq!(location.region.as_deref(), Some("oss-cn-hangzhou"));
    assert!(spec.retention_policy.is_some());
    assert!(Cron::parse(&main.spec.schedule, "").is_ok());
    assert_eq!(
        object(&text, "Deployment", "etcdguardian")["spec"]["replicas"],
        1
    );
}

#[test]
fn every_secret_that_the_config_names_by_file_is_mounted_where_the_binary_looks() {
    let text = rendered("1.34.0", &FULL);
    let deployment = object(&text, "Deployment", "etcdguardian");
    let mounts = deployment["spec"]["template"]["spec"]["containers"][0]["volumeMounts"].clone();
    let mounted: Vec<&str> = mounts
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|mount| {
            mount["mountPath"]
                .as_str()
                .unwrap()
                .strip_prefix("/etc/etcdguardian/secrets/")
        })
        .collect();
    assert_eq!(mounted, ["backup-keys", "slack", "smtp"]);
}

#[test]
fn it_refuses_what_it_does_not_know_or_cannot_do() {
    let wrong = [
        (
            vec!["--set", "etcd.endpoint=https://10.0.0.1:2379"],
            "endpoint",
        ),
        (vec!["--set", "replicas=9"], "replicas"),
        (
            vec!["--set", "replicas=2,persistence.enabled=true"],
            "one volume serves one replica",
        ),
        (
            vec!["--set", "replicas=2,leaderElection.enabled=false"],
            "leaderElection.enabled",
        ),
        (vec!["--set", "storage.s3.enabled=true"], "bucket"),
        (
            vec![
                "--set",
                "storage.s3.enabled=true,storage.s3.bucket=a,storage.gcs.enabled=true,storage.gcs.bucket=b",
            ],
            "enable one store",
        ),
        (
            vec!["--set", "monitoring.alerts.slack.enabled=true"],
            "slack.secretName",
        ),
        (vec!["--set", "webhook.enabled=true"], "there is no webhook"),
    ];
    for (flags, named) in wrong {
        let mut args = vec!["template", "eg", "etcdguardian", "--kube-version", "1.34.0"];
        args.extend(&flags);
        let output = helm(&args);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{flags:?} was taken");
        assert!(words.contains(named), "{flags:?}: {words}");
    }
}

#[test]
fn resource_definitions_stay_when_the_chart_goes_unless_told() {
    let definition = object(
        &rendered("1.34.0", &[]),
        "CustomResourceDefinition",
        "etcdbackups.etcdguardian.io",
    );
    assert_eq!(
        definition["metadata"]["annotations"]["helm.sh/resource-policy"],
        "keep"
    );
    let loose = rendered("1.34.0", &["--set", "crds.keep=false"]);
    assert!(!loose.contains("resource-policy"));
    let none = rendered("1.34.0", &["--set", "crds.install=false"]);
    assert!(!none.contains("CustomResourceDefinition"));
}

#[test]
fn only_the_operators_pod_gets_a_token_and_hooks_no_rights_in_pods_unless_told() {
    let text = rendered("1.34.0", &FULL);
    let account = object(&text, "ServiceAccount", "etcdguardian");
    assert_eq!(account["automountServiceAccountToken"], false);
    let asking: Vec<String> = objects(&text)
        .iter()
        .filter(|o| !o["spec"]["template"]["spec"]["containers"].is_null())
        .map(|o| {
            let asks = &o["spec"]["template"]["spec"]["automountServiceAccountToken"];
            format!("{} {asks}", o["kind"].as_str().unwrap())
        })
        .collect();
    assert_eq!(asking, ["Deployment true"]);
    assert!(!text.contains("pods/exec"));
    assert!(rendered("1.34.0", &["--set", "operator.execHooks=true"]).contains("pods/exec"));
}

#[test]
fn it_hands_the_rules_and_the_dashboard_on() {
    let text = rendered("1.34.0", &FULL);
    let rules = object(&text, "PrometheusRule", "etcdguardian");
    let groups = rules["spec"]["groups"].as_array().unwrap();
    let names: Vec<_> = groups.iter().map(|group| &group["name"]).collect();
    assert_eq!(names, ["etcdguardian", "etcdguardian-recording"]);
    assert!(groups[0]["rules"].as_array().unwrap().len() >= 12);
    let dashboard = object(&text, "ConfigMap", "-dashboard");
    assert_eq!(dashboard["metadata"]["labels"]["grafana_dashboard"], "1");
    let json = dashboard["data"]["etcdguardian.json"].as_str().unwrap();
    let json: Value = serde_json::from_str(json).unwrap();
    assert_eq!(json["uid"], "etcdguardian");
}

#[test]
fn the_pod_runs_without_rights() {
    let deployment = object(&rendered("1.34.0", &[]), "Deployment", "etcdguardian");
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["args"][0], "operator");
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let container = &pod["containers"][0]["securityContext"];
    assert_eq!(container["readOnlyRootFilesystem"], true);
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["capabilities"]["drop"][0], "ALL");
}
