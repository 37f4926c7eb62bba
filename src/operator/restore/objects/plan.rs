//! Which objects an EtcdRestore asks for, and what is said of what was done. Pure.

use std::collections::BTreeMap;

use crate::api::{EtcdRestoreSpec, RestoreStep};
use crate::export::import::Step;
use crate::export::index::Indexed;
use crate::export::left::LeftOut;
use crate::export::plan::Change;
use crate::export::resources::resource_name;

/// Whether a restore is of objects.
pub fn is_of_objects(spec: &EtcdRestoreSpec) -> bool {
    !spec.namespace_filter.is_empty() || spec.object_selector.is_some()
}

/// What was asked for and is not restored by design, by its reasons; nothing when nothing was.
pub fn left_out(left: &[LeftOut]) -> Option<String> {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for one in left {
        *reasons.entry(one.reason).or_default() += 1;
    }
    let words: Vec<String> = reasons
        .iter()
        .map(|(reason, count)| format!("{count} because {reason}"))
        .collect();
    (!words.is_empty()).then(|| format!("left out: {}", words.join(", ")))
}

/// Which objects are asked for.
pub struct Wanted {
    namespaces: Vec<String>,
    resources: Vec<String>,
    names: Vec<String>,
    labels: BTreeMap<String, String>,
    trusted: bool,
}

impl Wanted {
    /// What a spec asks for.
    pub fn of(spec: &EtcdRestoreSpec, trusted: bool) -> Self {
        let selector = spec.object_selector.clone().unwrap_or_default();
        Self {
            namespaces: spec.namespace_filter.clone(),
            resources: selector.resources,
            names: selector.names,
            labels: selector.match_labels,
            trusted,
        }
    }

    /// A namespace itself is made again only by those who may make any; whatever a bundle says, nothing outside the filter is taken.
    pub fn takes(&self, one: &Indexed) -> bool {
        let identity = &one.identity;
        let is_namespace = one.resource == "namespaces" && identity.namespace.is_empty();
        let place = if is_namespace {
            &identity.name
        } else {
            &identity.namespace
        };
        let within = self.namespaces.is_empty() || self.namespaces.contains(place);
        let (plural, group) = one.resource.split_once('.').unwrap_or((&one.resource, ""));
        let full = resource_name(plural, group);
        let any = |list: &[String], found: &dyn Fn(&String) -> bool| {
            list.is_empty() || list.iter().any(found)
        };
        let (self_labels, labels) = (&self.labels, &one.labels);
        within
            && (self.trusted || !is_namespace)
            && any(&self.resources, &|name| *name == full || *name == plural)
            && any(&self.names, &|name| *name == identity.name)
            && self_labels
                .iter()
                .all(|(name, value)| labels.get(name) == Some(value))
    }
}

/// What was not restored, and why.
pub fn failures(steps: &[Step]) -> Vec<String> {
    let failed = steps.iter().filter_map(|step| {
        let why = match (&step.error, &step.change) {
            (Some(error), _) => error,
            (None, Change::Refused { reason } | Change::NotServed { reason }) => reason,
            _ => return None,
        };
        Some(format!("{}: {why}", step.identity))
    });
    failed.collect()
}

/// How much there was to do.
pub fn count(steps: &[Step], planned: bool) -> String {
    let of = |wanted: fn(&Change) -> bool| steps.iter().filter(|step| wanted(&step.change)).count();
    let (created, updated) = (
        of(|change| matches!(change, Change::Create | Change::Untried)),
        of(|change| matches!(change, Change::Update { .. })),
    );
    let would = if planned { "would be" } else { "were to be" };
    format!(
        "of {} objects {created} {would} created, {updated} changed, {} are as they were",
        steps.len(),
        of(|change| *change == Change::Unchanged)
    )
}

/// One step a kind.
pub fn summary(steps: &[Step]) -> Vec<RestoreStep> {
    let mut kinds: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for step in steps {
        let kind = kinds.entry(step.identity.kind.as_str()).or_default();
        kind.0 += 1;
        let refused = matches!(
            step.change,
            Change::Refused { .. } | Change::NotServed { .. }
        );
        kind.1 += usize::from(step.error.is_some() || refused);
    }
    let steps = kinds
        .into_iter()
        .take(200)
        .map(|(kind, (all, failed))| RestoreStep {
            name: format!("restore {kind}"),
            state: if failed == 0 { "Done" } else { "Failed" }.to_owned(),
            message: format!("{all} objects, {failed} of them refused"),
        });
    steps.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::stored::Identity;

    #[test]
    fn what_is_left_out_is_said_by_its_reasons() {
        let one = |reason| LeftOut {
            identity: Identity {
                api_version: "batch/v1".to_owned(),
                kind: "Job".to_owned(),
                namespace: "shop".to_owned(),
                name: "done".to_owned(),
            },
            reason,
        };
        assert_eq!(left_out(&[]), None);
        let said = left_out(&[one("it had ended"), one("it had ended"), one("b")]);
        let words = "left out: 1 because b, 2 because it had ended";
        assert_eq!(said.as_deref(), Some(words));
    }
}
