//! What a Job's state says of the work, whatever became of its pod. Pure.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::operator::backup::plan::Work;
use crate::operator::report::Report;

/// What a Job's state, its report and its pods say of the work.
pub fn verdict(job: Option<&Job>, report: Option<Report>, run_id: &str, pods: &[Pod]) -> Work {
    let report = report.filter(|report| report.run_id == run_id);
    // The report is the last thing that the work writes: with it the Job's own fate does not matter.
    if let Some(Report {
        outcome: Some(outcome),
        ..
    }) = report
    {
        return Work::Ended(outcome);
    }
    let Some(job) = job else {
        return Work::Lost {
            reason: "JobGone".to_owned(),
            message: "the Job that did the work is gone without a report".to_owned(),
        };
    };
    let conditions = job
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    // `FailureTarget` comes first, `Failed` only once the pod is gone: one that is being evicted can still say why it ends, and one on a
    // lost node never goes.
    let ended = conditions
        .filter(|condition| condition.status == "True")
        .find(|condition| {
            matches!(
                condition.type_.as_str(),
                "Failed" | "Complete" | "FailureTarget"
            )
        });
    let Some(ended) = ended else {
        return Work::Going(report.and_then(|report| report.stage));
    };
    let (mut reason, mut message) = (
        ended
            .reason
            .clone()
            .unwrap_or_else(|| "JobFailed".to_owned()),
        ended.message.clone().unwrap_or_default(),
    );
    if let Some((pod_reason, pod_message)) = pods.iter().find_map(end_of_pod) {
        // `BackoffLimitExceeded` only says that the one pod failed.
        if reason == "BackoffLimitExceeded" || reason == "JobFailed" {
            reason = pod_reason;
        }
        message = format!("{message} {pod_message}");
    }
    Work::Lost {
        reason,
        message: format!(
            "Job {} died without a report: {}",
            job.name_any(),
            message.trim()
        ),
    }
}

/// Why a pod ended, when it did not end well: CamelCase, and what is known of it.
pub fn end_of_pod(pod: &Pod) -> Option<(String, String)> {
    let status = pod.status.as_ref()?;
    if let Some(reason) = &status.reason {
        return Some((reason.clone(), status.message.clone().unwrap_or_default()));
    }
    // A node that is lost, drained or needed for others.
    let conditions = status.conditions.iter().flatten();
    let disrupted = conditions
        .filter(|one| one.type_ == "DisruptionTarget" && one.status == "True")
        .find_map(|one| Some((one.reason.clone()?, one.message.clone().unwrap_or_default())));
    if disrupted.is_some() {
        return disrupted;
    }
    let containers = status.container_statuses.iter().flatten();
    let ended = containers
        .filter_map(|container| container.state.as_ref()?.terminated.as_ref())
        .find(|ended| ended.exit_code != 0)?;
    let reason = match ended.reason.as_deref() {
        Some("Error") | None => "JobFailed".to_owned(),
        Some(reason) => reason.to_owned(),
    };
    let said = ended.message.clone().unwrap_or_default();
    Some((
        reason,
        format!("exit code {}: {}", ended.exit_code, said.trim()),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn job(condition: Option<&str>, reason: &str) -> Job {
        let conditions = condition.map(|kind| {
            json!([{"type": kind, "status": "True", "reason": reason, "message": "as the controller says"}])
        });
        let job = json!({"metadata": {"name": "j"}, "status": {"conditions": conditions}});
        serde_json::from_value(job).unwrap()
    }

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap()
    }

    fn lost(job: Option<&Job>, pods: &[Pod]) -> (String, String) {
        match verdict(job, None, "r", pods) {
            Work::Lost { reason, message } => (reason, message),
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn every_death_of_a_job_has_its_reason() {
        let terminated = |state: serde_json::Value| {
            let state = json!({"terminated": state});
            json!({"containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state}]})
        };
        let disrupted = |reason: &str| {
            let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "the node is gone"});
            json!({"phase": "Failed", "conditions": [condition]})
        };
        let limit = job(Some("Failed"), "BackoffLimitExceeded");
        for (status, reason, word) in [
            (
                terminated(json!({"exitCode": 137, "reason": "OOMKilled"})),
                "OOMKilled",
                "exit code 137",
            ),
            (
                terminated(json!({"exitCode": 1, "reason": "Error", "message": "no such Secret"})),
                "JobFailed",
                "no such Secret",
            ),
            (
                json!({"phase": "Failed", "reason": "Evicted", "message": "the node was low on ephemeral-storage"}),
                "Evicted",
                "low on ephemeral-storage",
            ),
            (
                json!({"phase": "Failed", "reason": "NodeLost"}),
                "NodeLost",
                "died without a report",
            ),
            (
                disrupted("DeletionByTaintManager"),
                "DeletionByTaintManager",
                "the node is gone",
            ),
            (
                disrupted("EvictionByEvictionAPI"),
                "EvictionByEvictionAPI",
                "the node is gone",
            ),
        ] {
            let (is, message) = lost(Some(&limit), &[pod(status)]);
            assert_eq!(is, reason, "{message}");
            assert!(message.contains(word), "{message}");
        }
        let (reason, _) = lost(Some(&limit), &[]);
        assert_eq!(reason, "BackoffLimitExceeded", "the pod is gone too");
        let doomed = job(Some("FailureTarget"), "BackoffLimitExceeded");
        let evicted = pod(disrupted("EvictionByEvictionAPI"));
        assert_eq!(lost(Some(&doomed), &[evicted]).0, "EvictionByEvictionAPI");
        let late = job(Some("Failed"), "DeadlineExceeded");
        assert_eq!(lost(Some(&late), &[]).0, "DeadlineExceeded");
        assert_eq!(lost(None, &[]).0, "JobGone");
        let silent = job(Some("Complete"), "CompletionsReached");
        assert_eq!(lost(Some(&silent), &[]).0, "CompletionsReached");
    }

    #[test]
    fn a_report_counts_whatever_became_of_the_job_and_only_of_its_own_run() {
        let failed =
            json!({"runId": "r", "outcome": {"failed": {"reason": "Timeout", "message": "m"}}});
        let report = || serde_json::from_value::<Report>(failed.clone()).unwrap();
        for job in [None, Some(&job(Some("Failed"), "BackoffLimitExceeded"))] {
            let work = verdict(job, Some(report()), "r", &[]);
            assert!(matches!(work, Work::Ended(_)), "{work:?}");
        }
        let work = verdict(None, Some(report()), "another", &[]);
        assert!(matches!(work, Work::Lost { .. }), "{work:?}");
        let going = Report {
            run_id: "r".to_owned(),
            stage: Some("store".to_owned()),
            outcome: None,
        };
        let work = verdict(Some(&job(None, "")), Some(going), "r", &[]);
        assert!(matches!(work, Work::Going(Some(stage)) if stage == "store"));
    }
}
