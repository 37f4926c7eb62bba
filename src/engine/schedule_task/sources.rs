//! Where a schedule's signals come from.

use std::path::PathBuf;

use crate::api::EtcdBackupSchedule;
use crate::cause::with_causes;
use crate::engine::ResourceName;
use crate::engine::lookout::SampledCluster;
use crate::engine::observe::{Signals, SignalsSetup};
use crate::engine::policy::{recorder_weights, step_seconds};
use crate::engine::services::Services;
use crate::schedule::Policy;

/// Where the signals of a schedule come from, as its resource and the config want it.
pub(super) fn signals_setup(
    services: &Services,
    name: &ResourceName,
    schedule: &EtcdBackupSchedule,
    policy: &Policy,
) -> SignalsSetup {
    let counts = recorder_weights(&schedule.spec, &services.config);
    SignalsSetup {
        counts: counts.map(|weights| {
            let name = format!("{}_{}.counts", name.namespace, name.name);
            (weights, signals_folder(services).join(name))
        }),
        prometheus: services.prometheus_of(&schedule.spec, &name.namespace),
        cluster: SampledCluster {
            namespace: name.namespace.clone(),
            cluster: services.cluster_key(&schedule.spec.backup_template.spec, &name.namespace),
            step_seconds: step_seconds(policy),
        },
    }
}

fn signals_folder(services: &Services) -> PathBuf {
    services.state.root().join("signals")
}

/// The signals; what was known `before` is gone on with.
pub(super) async fn open_signals(
    services: &Services,
    setup: SignalsSetup,
    before: Option<&Signals>,
) -> Result<Signals, String> {
    let folder = signals_folder(services);
    let opened = Signals::open(setup, &services.lookouts, &folder, before);
    opened.await.map_err(|error| with_causes(&error))
}
