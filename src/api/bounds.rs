//! Schemas of the maps and lists whose types say nothing of their size: the cost that an API server reckons for a rule needs it, and
//! so does a server's memory. The limits are Kubernetes' own.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Characters of a label's value.
const LABEL_VALUE: u32 = 63;
/// Characters of a label's key: a prefix of 253, a slash, a name of 63.
const LABEL_KEY: u32 = 317;
/// Characters of all annotations together, so of one at most.
const ANNOTATIONS: u32 = 262_144;
/// Entries of a map or a list.
const ENTRIES: u32 = 64;

/// Labels, by key.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    map_of(LABEL_VALUE)
}

/// Annotations, by key.
pub(super) fn annotations(_: &mut SchemaGenerator) -> Schema {
    map_of(ANNOTATIONS)
}

fn map_of(longest: u32) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": ENTRIES,
        "additionalProperties": { "type": "string", "maxLength": longest },
    })
}

/// Expressions that labels must satisfy.
pub(super) fn label_expressions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": ENTRIES,
        "items": {
            "type": "object", "required": ["key", "operator"],
            "description": "One of them.",
            "properties": {
                "key": { "type": "string", "maxLength": LABEL_KEY, "description": "Key of the label." },
                "operator": {
                    "type": "string", "maxLength": 16,
                    "description": "In, NotIn, Exists or DoesNotExist.",
                },
                "values": {
                    "type": "array", "maxItems": ENTRIES,
                    "items": { "type": "string", "maxLength": LABEL_VALUE },
                    "description": "Values for In and NotIn; none for the others.",
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kube::CustomResourceExt;
    use serde_json::Value;

    use crate::api::{EtcdBackup, EtcdBackupSchedule, EtcdRestore};

    /// The schema of each resource's spec.
    fn specs() -> Vec<(String, Value)> {
        let all = [
            EtcdBackup::crd(),
            EtcdBackupSchedule::crd(),
            EtcdRestore::crd(),
        ];
        let of = |crd: &_| {
            let crd = serde_json::to_value(crd).unwrap();
            let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            let kind = crd["spec"]["names"]["kind"].as_str().unwrap();
            (kind.to_owned(), schema["properties"]["spec"].clone())
        };
        all.iter().map(of).collect()
    }

    fn unbounded(found: &mut Vec<String>, path: &str, schema: &Value) {
        let has = |field: &str| schema.get(field).is_some();
        // The times of RFC 3339 are bounded by their format, and what others own is kept as it is.
        let missing = match schema["type"].as_str() {
            Some("string") if !has("enum") && !has("format") && !has("maxLength") => "maxLength",
            Some("array") if !has("maxItems") => "maxItems",
            Some("object") if has("additionalProperties") && !has("maxProperties") => {
                "maxProperties"
            }
            None if !has("x-kubernetes-int-or-string") => "type",
            _ => "",
        };
        if !missing.is_empty() {
            found.push(format!("{path}: {missing}"));
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            unbounded(found, &format!("{path}.{name}"), field);
        }
        for (inner, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
            if has(inner) {
                unbounded(found, &format!("{path}{mark}"), &schema[inner]);
            }
        }
    }

    #[test]
    fn every_list_map_and_string_of_a_spec_is_bounded() {
        let mut found = Vec::new();
        for (kind, spec) in specs() {
            unbounded(&mut found, &kind, &spec);
        }
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    #[test]
    fn the_defaults_of_a_backup_live_in_the_schema() {
        for (kind, at) in [
            ("EtcdBackup", ""),
            (
                "EtcdBackupSchedule",
                "/properties/backupTemplate/properties/spec",
            ),
        ] {
            let spec = specs().into_iter().find(|(name, _)| name == kind);
            let spec = spec.unwrap().1.pointer(at).unwrap().clone();
            for (field, wanted) in [
                ("source", "Auto"),
                ("compression", "Zstd"),
                ("deletionPolicy", "Retain"),
                ("executor", "Job"),
                ("serviceAccountName", "default"),
                ("storageLocation/properties/prefix", ""),
            ] {
                let found = spec.pointer(&format!("/properties/{field}/default"));
                assert_eq!(found, Some(&Value::from(wanted)), "{kind} {field}");
            }
        }
    }
}
