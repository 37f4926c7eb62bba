//! Dispatch: a due backup is carried out, and what an interrupted one left is settled from the store.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Asked, Looked, ScheduleTask, Turn};
use crate::api::ErrorClass;
use crate::cause::with_causes;
use crate::engine::chains;
use crate::engine::dispatch::{Failed, Order};
use crate::engine::plan::{self, Interrupted};
use crate::engine::record::{GoodBackup, Run};
use crate::repository::{Manifest, windows};
use crate::schedule::decide::Decision;
use crate::schedule::{State, slots};
use crate::serve::Fills;

impl ScheduleTask {
    pub(super) async fn back_up(&mut self, asked: Asked, decision: &Decision) -> Looked {
        let started = Timestamp::now();
        let Asked {
            why: trigger,
            annotation,
        } = asked;
        let run = Run {
            run_id: uuid::Uuid::now_v7().to_string(),
            name: self.run_name(annotation.as_deref(), started),
            started,
            trigger: trigger.clone(),
        };
        tracing::info!(schedule = %self.name, run = %run.run_id, source = ?decision.source, "backup begins: {trigger}");
        self.record.begun(run.clone());
        let heeded = annotation.clone().or(self.record.trigger.clone());
        let before = std::mem::replace(&mut self.record.trigger, heeded);
        // Without this on disk a crash could not be told from a run that never began.
        if !self.save(started, true).await {
            self.record.in_flight = None;
            self.record.trigger = before;
            return Looked::Failed(ErrorClass::Failed);
        }
        self.carry(run).await
    }

    /// The name of a run: of its slot where the cron decides, so that two processes that meet in one slot mean one backup; of
    /// the annotation that asked for it; else of the moment.
    fn run_name(&self, annotation: Option<&str>, started: Timestamp) -> String {
        if let Some(value) = annotation {
            let hash = crc32c::crc32c(value.as_bytes());
            return format!("{}-asked-{hash:08x}", self.name.name);
        }
        let core = self.record.core.as_ref();
        let slot = core
            .filter(|_| !self.policy.ai_enabled && self.record.failure.is_none())
            .and_then(|core| slots::due(&self.policy, core, started).run)
            .map(|run| match run {
                slots::Run::OnTime(slot) | slots::Run::Late(slot) => slot,
            });
        let time = slot.unwrap_or(started).strftime("%Y%m%d%H%M%S");
        format!("{}-{time}", self.name.name)
    }

    /// Has a run carried out and notes what came of it.
    async fn carry(&mut self, run: Run) -> Looked {
        let started = run.started;
        self.publish_running();
        let services = Arc::clone(&self.services);
        let spec = self.schedule.spec.backup_template.spec.clone();
        let channels = self.schedule.spec.alerts.clone();
        let name = self.name.clone();
        let order = Order {
            owner: &name,
            scheduled: true,
            spec: &spec,
            channels: &channels,
            run: &run,
            recording: &self.recording.clone(),
        };
        let outcome = services
            .host
            .carry_out(&services, &order, &self.stage)
            .await;
        let now = Timestamp::now();
        let mut completed = None;
        let looked = match outcome {
            Ok(done) => {
                order.tell_recovered(&services, &done, now);
                self.store_error = None;
                self.count_missed(started);
                self.backup_warnings.clone_from(&done.warnings);
                // A host that hears of objects alone does not say that nothing was stored.
                let known = |one: &GoodBackup| one.id == done.backup.id;
                if !done.idle && !self.backups.iter().any(known) {
                    self.tell_of_size(&done.backup, now);
                    self.record.measured(&done.backup, self.db_size);
                }
                self.record.succeeded(&run, done.backup.clone());
                if let Some(core) = &mut self.record.core {
                    core.backup_succeeded(done.backup.taken, Some(done.backup.revision));
                }
                self.forget_published(&done.backup).await;
                if done.backup.is_verified() && !done.shares.is_empty() {
                    self.fills = Some(Fills {
                        backup: done.backup.id.clone(),
                        time: done.backup.taken,
                        shares: done.shares.clone(),
                    });
                }
                completed = Some(done);
                Looked::Completed
            }
            Err(failed) => {
                if matches!(failed.class, ErrorClass::StoreUnavailable) {
                    self.store_error = Some(failed.clone());
                }
                self.record
                    .failed(&run, now, failed.class, failed.message.clone());
                let core = self.record.core.get_or_insert_with(|| State::new(now));
                core.backup_failed(now);
                let retry = slots::retry_at(&self.policy, core);
                order.tell_failed(
                    &services,
                    &failed,
                    self.record.last_successful.as_ref(),
                    retry,
                    now,
                );
                Looked::Failed(failed.class)
            }
        };
        self.apply_record();
        self.look_at_store(now).await;
        if let Some(done) = completed {
            self.tell_of_recording(&done.backup, &done.warnings, now);
        }
        self.save(now, true).await;
        looked
    }

    /// Slots that passed without a run of their own before this one.
    pub(super) fn count_missed(&mut self, started: Timestamp) {
        if let (Some(core), false) = (&self.record.core, self.policy.ai_enabled) {
            let missed = slots::due(&self.policy, core, started).missed;
            self.record.missed_slots += i64::try_from(missed).unwrap_or(0);
        }
    }

    /// Finds out what became of a run that was under way when the process died, and what the store holds of this
    /// schedule. Waits for nothing: an unreachable store is asked again at the next look.
    pub(super) async fn settle_interrupted(&mut self, turn: &mut Option<Turn>) {
        let now = Timestamp::now();
        if self.services.host.goes_on()
            && let Some(run) = self.record.in_flight.clone()
        {
            tracing::info!(schedule = %self.name, backup = %run.name, "a run that was under way is taken up again");
            *turn = None;
            // It may be an increment, which is cut from what is recorded here.
            self.stand_watch().await;
            self.carry(run).await;
            return;
        }
        let Some(backups) = self.look_at_store(now).await else {
            return;
        };
        let in_flight = self.record.in_flight.clone();
        let mine = in_flight.as_ref().and_then(|run| {
            backups
                .iter()
                .find(|backup| backup.run_id == run.run_id)
                .cloned()
        });
        match plan::judge_interrupted(in_flight.as_ref(), mine) {
            Interrupted::None => {}
            Interrupted::Finished(backup, run) => {
                tracing::info!(schedule = %self.name, backup = %backup.id, "an interrupted run had finished its backup");
                if let Some(core) = &mut self.record.core {
                    core.backup_succeeded(backup.taken, Some(backup.revision));
                }
                self.record.succeeded(&run, *backup);
            }
            Interrupted::Abandoned(run) => {
                tracing::warn!(schedule = %self.name, run = %run.run_id, "a run was interrupted: it left no backup and is made up for when due");
                self.record.abandoned(&run);
            }
        }
        for backup in backups {
            self.record.found(backup);
        }
        self.apply_record();
        self.save(now, true).await;
    }

    /// The store's backups of this schedule, oldest first; `None` when the store does not answer.
    pub(super) async fn look_at_store(&mut self, now: Timestamp) -> Option<Vec<GoodBackup>> {
        let spec = &self.schedule.spec.backup_template.spec;
        let url = spec.storage_location.to_string();
        let listed = match self.services.repository(spec, &self.name.namespace).await {
            Ok(repository) => match repository.catalog(None).await {
                Ok(catalog) => Ok((repository, catalog)),
                Err(error) => Err(Failed {
                    class: error.class(),
                    message: with_causes(&error),
                }),
            },
            Err(error) => Err(Failed {
                class: error.class(),
                message: with_causes(&error),
            }),
        };
        self.store_error = listed.as_ref().err().cloned();
        self.services.board.store(
            &url,
            self.store_error.as_ref().map(|error| error.message.clone()),
            now,
        );
        match listed {
            Ok((repository, catalog)) => {
                let of = |schedule: Option<&str>| -> Vec<GoodBackup> {
                    let own = catalog.backups.iter().filter(|manifest| {
                        manifest.schedule.as_deref() == schedule
                            && manifest.namespace == self.name.namespace
                    });
                    own.map(|manifest| GoodBackup::of(manifest, repository.url_of(manifest)))
                        .collect()
                };
                let backups = of(Some(&self.name.name));
                let singles = of(None);
                let mut mine = catalog.backups;
                mine.retain(|manifest| {
                    manifest.schedule.as_deref() == Some(&self.name.name)
                        && manifest.namespace == self.name.namespace
                });
                let newest = chains::fills(&mine);
                // What a sealed backup's manifest does not say is known from the proof of this process's own.
                if newest.as_ref().map(|one| one.time) > self.fills.as_ref().map(|one| one.time) {
                    self.fills = newest;
                }
                keep_newest_cluster(&mut mine);
                self.windows = windows(&mine);
                self.chains = chains::chains(&mine);
                let oldest = backups
                    .iter()
                    .filter(|backup| backup.is_verified())
                    .map(|backup| backup.taken)
                    .min();
                // With a standing watch every moment from there on can be restored, and a hole ends what is promised.
                let whole = self.windows.last().map(|window| window.from);
                self.record.recoverable_from = whole.filter(|_| self.wants_recording()).or(oldest);
                self.services
                    .host
                    .catalogued(&self.name, &self.schedule, &backups, &singles)
                    .await;
                self.backups.clone_from(&backups);
                Some(backups)
            }
            Err(error) => {
                tracing::warn!(schedule = %self.name, store = %url, "the store does not answer: {}", error.message);
                None
            }
        }
    }
}

/// Only what is of the cluster that was backed up last: one schedule may have followed several.
fn keep_newest_cluster(backups: &mut Vec<Manifest>) {
    let newest = backups.iter().max_by_key(|one| one.created);
    if let Some(cluster) = newest.map(|one| one.cluster_id.clone()) {
        backups.retain(|one| one.cluster_id == cluster);
    }
}
