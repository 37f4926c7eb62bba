//! The names that the operator writes on objects.

/// The operator's name in server-side apply, events and labels.
pub const MANAGER: &str = "etcdguardian";
/// On an EtcdBackup: the schedule that made it.
pub const SCHEDULE_LABEL: &str = "etcdguardian.io/schedule";
/// On an EtcdBackup: the whole name of the schedule that made it; the label holds 63 letters of it.
pub const SCHEDULE_ANNOTATION: &str = "etcdguardian.io/schedule-name";
/// On an EtcdBackup that was re-created from the catalogue: the id of its backup.
pub const CATALOGUE_ANNOTATION: &str = "etcdguardian.io/catalogue-id";
/// On an EtcdBackup of a schedule: why it was made.
pub const REASON_ANNOTATION: &str = "etcdguardian.io/reason";
/// On EtcdBackups whose stored data goes with them.
pub const FINALIZER: &str = "etcdguardian.io/stored-backup";
/// On Jobs and their reports: the kind of the object that they work for.
pub const OWNER_KIND_LABEL: &str = "etcdguardian.io/owner-kind";
/// On Jobs and their reports: the namespace of the object that they work for.
pub const OWNER_NAMESPACE: &str = "etcdguardian.io/owner-namespace";
/// On Jobs and their reports: the name of the object that they work for, an annotation since names may be longer than labels.
pub const OWNER_NAME: &str = "etcdguardian.io/owner-name";
/// On everything that the operator makes for itself.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "etcdguardian");

/// A schedule's name as a label's value, which has at most 63 letters.
pub fn label_value(name: &str) -> String {
    if name.len() <= 63 {
        return name.to_owned();
    }
    let hash = crc32c::crc32c(name.as_bytes());
    let head: String = name.chars().take(54).collect();
    format!("{head}-{hash:08x}")
}
/// On a StatefulSet that a restore has stopped: its replicas before.
pub const REPLICAS_ANNOTATION: &str = "etcdguardian.io/replicas-before-restore";
/// On schedules that the config's folder of manifests names.
pub const MANIFEST_LABEL: &str = "etcdguardian.io/from-manifests";
