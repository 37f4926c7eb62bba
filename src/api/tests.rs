//! Tables for what users write: durations, URLs, unknown fields, rules.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

#[test]
fn durations_read_and_print() {
    for (text, seconds, printed) in [
        ("90s", 90, "1m30s"),
        ("1h30m", 5400, "1h30m"),
        ("720h", 2_592_000, "30d"),
        ("2w", 1_209_600, "14d"),
        ("0s", 0, "0s"),
    ] {
        let duration: HumanDuration = text.parse().unwrap();
        assert_eq!(duration.as_std().as_secs(), seconds, "{text}");
        assert_eq!(duration.to_string(), printed);
        assert_eq!(printed.parse::<HumanDuration>().unwrap(), duration);
    }
    for wrong in [
        "",
        "5",
        "h",
        "1.5h",
        "-1h",
        "1y",
        "99999999999999999999s",
        "1000000w",
        "1h 3m",
    ] {
        assert!(wrong.parse::<HumanDuration>().is_err(), "{wrong}");
    }
}

#[test]
fn store_urls_read_and_print() {
    let location: StorageLocation =
        "s3://backups/prod/eu?region=eu-west-1&endpoint=http://127.0.0.1:9000&addressing=path"
            .parse()
            .unwrap();
    assert_eq!(location.bucket, "backups");
    assert_eq!(location.prefix, "prod/eu");
    assert_eq!(location.region.as_deref(), Some("eu-west-1"));
    assert_eq!(location.addressing, Some(Addressing::Path));
    assert_eq!(location.to_string(), "s3://backups/prod/eu");
    let local: StorageLocation = "file:///var/backups/".parse().unwrap();
    assert_eq!(local.bucket, "/var/backups");
    for wrong in [
        "backups",
        "ftp://x",
        "s3:///x",
        "file://relative/dir",
        "s3://b?color=red",
    ] {
        assert!(wrong.parse::<StorageLocation>().is_err(), "{wrong}");
    }
}

const SCHEDULE: &str = "
apiVersion: etcdguardian.io/v1alpha1
kind: EtcdBackupSchedule
metadata: {name: hourly}
spec:
  schedule: '0 * * * *'
  backupTemplate:
    spec:
      backupMode: Full
      storageLocation: {provider: Local, bucket: /backups}
";

fn first_error(text: &str) -> String {
    parse_resources(text, "test.yaml", None)
        .unwrap_err()
        .to_string()
}

#[test]
fn a_schedule_gets_the_documented_defaults() {
    let resources = parse_resources(SCHEDULE, "test.yaml", None).unwrap();
    let [Resource::Schedule(schedule)] = resources.as_slice() else {
        panic!("{resources:?}")
    };
    let ai = &schedule.spec.ai_optimization;
    assert!(!ai.enabled && ai.replan);
    assert_eq!(ai.min_interval.to_string(), "1h");
    assert_eq!(ai.max_interval.to_string(), "6h");
    assert_eq!(ai.exposure_target_percent, 100);
    let spec = &schedule.spec.backup_template.spec;
    assert!(spec.validation.enabled && spec.validation.consistency_check);
    assert_eq!(spec.active_deadline_seconds, 3600);
    assert_eq!(spec.compression, Compression::Zstd);
}

#[test]
fn wrong_documents_name_the_field_and_the_remedy() {
    let cases = [
        (
            SCHEDULE.replace("  schedule:", "  shedule:"),
            "spec.shedule: unknown field, did you mean 'schedule'?",
        ),
        (SCHEDULE.replace("Local", "FTP"), "provider"),
        (
            format!("{SCHEDULE}  aiOptimization: {{enabled: true, minInterval: 7h}}\n"),
            "minInterval: 7h is longer than maxInterval 6h",
        ),
        (
            SCHEDULE.replace("EtcdBackupSchedule", "EtcdBackupShedule"),
            "is not known",
        ),
        (
            SCHEDULE.replace("/backups", "backups"),
            "must be an absolute directory",
        ),
        (
            SCHEDULE.replace("{name: hourly}", "{}"),
            "metadata.name: is required",
        ),
        (
            SCHEDULE.replace("backupMode: Full", "backupMode: ["),
            "is not valid YAML",
        ),
        (
            format!("{SCHEDULE}      encryption: {{enabled: true}}\n"),
            "exactly one of kmsKeyID and encryptionSecret",
        ),
    ];
    for (text, expected) in cases {
        let message = first_error(&text);
        assert!(message.contains(expected), "{message}\nwanted: {expected}");
        assert!(message.contains("test.yaml"), "{message}");
    }
}

#[test]
fn a_missing_store_is_taken_from_the_config() {
    let text = SCHEDULE.replace(
        "      storageLocation: {provider: Local, bucket: /backups}\n",
        "",
    );
    assert!(first_error(&text).contains("storageLocation"));
    let store = "s3://default".parse().unwrap();
    let resources = parse_resources(&text, "test.yaml", Some(&store)).unwrap();
    let [Resource::Schedule(schedule)] = resources.as_slice() else {
        panic!("{resources:?}")
    };
    assert_eq!(
        schedule.spec.backup_template.spec.storage_location.bucket,
        "default"
    );
}

#[test]
fn configs_are_checked() {
    let good = "
cluster: {name: prod, endpoints: ['https://10.0.0.1:2379']}
alerts:
  channels:
    - name: ops
      slack: {webhookURLFile: /etc/slack}
  routes: [{channels: [ops], severities: [critical]}]
";
    let config = parse_config(good, "guardian.yaml").unwrap();
    assert!(config.alerts.resolve);
    assert_eq!(config.serve.listen, "127.0.0.1:9180");
    for (from, to, expected) in [
        (
            "channels: [ops]",
            "channels: [oops]",
            "'oops' is not the name of a channel",
        ),
        (
            "webhookURLFile",
            "webhookUrlFile",
            "did you mean 'webhookURLFile'?",
        ),
        (
            "https://10.0.0.1:2379",
            "10.0.0.1:2379",
            "is not a URL such as",
        ),
        (
            "cluster:",
            "clutser:",
            "clutser: unknown field, did you mean 'cluster'?",
        ),
        (
            "  routes:",
            "  quietHours: {from: '25:00', to: '07:00'}\n  routes:",
            "alerts.quietHours.from: '25:00' is not a time of day",
        ),
        (
            "  routes:",
            "  quietHours: {from: '22:00', to: '07:00', timeZone: Berlin}\n  routes:",
            "'Berlin' is not a time zone",
        ),
        (
            "  routes:",
            "  digest: {channels: [mail]}\n  routes:",
            "alerts.digest.channels: 'mail' is not the name of a channel",
        ),
        (
            "  routes:",
            "  templates: {title: '{{ open'}\n  routes:",
            "alerts.templates.title: is no template",
        ),
        (
            "  routes:",
            "  heartbeat: {urlFile: /x, interval: 1s}\n  routes:",
            "alerts.heartbeat.interval: is at least 10s",
        ),
        (
            "      slack:",
            "      templates: {body: '{}'}\n      slack:",
            "templates.body: is for webhooks",
        ),
        (
            "cluster:",
            "serve: {listen: '', tokenFile: /x}\ncluster:",
            "serve.tokenFile: has no use without serve.listen",
        ),
    ] {
        let message = parse_config(&good.replace(from, to), "guardian.yaml")
            .unwrap_err()
            .to_string();
        assert!(message.contains(expected), "{message}\nwanted: {expected}");
    }
}

#[test]
fn the_founding_manifests_apply_unchanged() {
    let text = include_str!("../../tests/samples/founding.yaml");
    let resources = parse_resources(text, "founding.yaml", None).unwrap();
    assert_eq!(resources.len(), 5);
    let schedules = resources
        .iter()
        .filter(|r| matches!(r, Resource::Schedule(_)))
        .count();
    let restores = resources
        .iter()
        .filter(|r| matches!(r, Resource::Restore(_)))
        .count();
    assert_eq!((schedules, restores), (1, 1));
}

#[test]
fn further_founding_shapes_apply() {
    let backup = "
apiVersion: etcdguardian.io/v1alpha1
kind: EtcdBackup
metadata: {name: shapes}
spec:
  backupMode: Full
  storageLocation:
    provider: S3
    bucket: b
    region: us-east-1
    endpoint: https://minio.example.com
    credentialsSecret: s3-creds
  encryption: ENCRYPTION
";
    for encryption in [
        "{enabled: true, kmsKeyID: 'arn:aws:kms:us-west-2:1:key/a'}",
        "{enabled: true, kmsKeyID: 'acs:kms:cn-hangzhou:1:key/a'}",
        "{enabled: true, encryptionSecret: my-encryption-key}",
    ] {
        let text = backup.replace("ENCRYPTION", encryption);
        assert_eq!(
            parse_resources(&text, "shapes.yaml", None).unwrap().len(),
            1
        );
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parsers_panic(text in ".{0,200}") {
        let _ = parse_resources(&text, "any.yaml", None);
        let _ = parse_config(&text, "any.yaml");
        let _ = text.parse::<StorageLocation>();
        let _ = text.parse::<HumanDuration>();
    }

    #[test]
    fn printed_durations_read_back(milliseconds in 0u64..3_000_000_000_000) {
        let duration = HumanDuration::from(std::time::Duration::from_millis(milliseconds));
        proptest::prop_assert_eq!(duration.to_string().parse::<HumanDuration>().unwrap(), duration);
    }
}
