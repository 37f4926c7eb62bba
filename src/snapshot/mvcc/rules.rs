//! What a row must be by itself, and after the row before it of its key (etcd-format.md §7 L2b, L2c).

use super::key_value::KeyValue;

/// What is wrong with the fields of a put by themselves.
pub(super) fn fields_problem(kv: &KeyValue<'_>, main: i64) -> Option<String> {
    if kv.key.is_empty() {
        return Some("it has no key".to_owned());
    }
    if kv.mod_revision != main {
        return Some(format!(
            "it says that it was written at revision {}",
            kv.mod_revision
        ));
    }
    if kv.create_revision <= 0 || kv.create_revision > main {
        return Some(format!(
            "its key was created at revision {}",
            kv.create_revision
        ));
    }
    if kv.version < 1
        || (kv.create_revision == main) != (kv.version == 1)
        || main - kv.create_revision < kv.version - 1
    {
        return Some(format!(
            "version {} does not fit a key created at revision {}",
            kv.version, kv.create_revision
        ));
    }
    None
}

/// Whether a put follows from the row before it of its key.
pub(super) fn history_problem(
    before: Option<KeyValue<'_>>,
    kv: &KeyValue<'_>,
) -> Option<(&'static str, String)> {
    match before {
        None if kv.version == 1 => None,
        None => Some((
            "PredecessorMissing",
            format!(
                "it is version {} of a key that has no row before it",
                kv.version
            ),
        )),
        Some(before)
            if before.version.checked_add(1) == Some(kv.version)
                && before.create_revision == kv.create_revision =>
        {
            None
        }
        Some(before) => Some((
            "HistoryBroken",
            format!(
                "version {} created at {} follows version {} created at {}",
                kv.version, kv.create_revision, before.version, before.create_revision
            ),
        )),
    }
}
