//! The task behind a standing watch: follows a member until it breaks, then the next, and cuts segments when asked.

use super::*;

/// Silence after which the cluster is asked whether there was something to hear.
const SILENCE: Duration = Duration::from_secs(10);
/// The pause before another member is tried, doubled at each failure up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(super) struct PendingCut {
    reach: i64,
    until: tokio::time::Instant,
    answer: oneshot::Sender<Result<Vec<Ready>, RecordError>>,
}

pub(super) struct Work {
    pub(super) over: Arc<OnceLock<String>>,
    pub(super) counter: Option<Arc<Counter>>,
    pub(super) etcd: Etcd,
    pub(super) origin: Origin,
    pub(super) grouper: Grouper,
    pub(super) spill: Spill,
    pub(super) inbox: mpsc::Receiver<Wish>,
    pub(super) cut: Option<PendingCut>,
    pub(super) problem: String,
    pub(super) turn: usize,
}

/// Why a stream was left.
enum Left {
    Broke(String),
    Over(RecordError),
    Unwanted,
}

impl From<EtcdError> for Left {
    fn from(error: EtcdError) -> Self {
        Self::Broke(error.to_string())
    }
}

impl From<SegmentError> for Left {
    fn from(error: SegmentError) -> Self {
        Self::Over(error.into())
    }
}

impl From<Gap> for Left {
    fn from(gap: Gap) -> Self {
        Self::Over(gap.into())
    }
}

impl Work {
    pub(super) async fn run(mut self) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let before = self.grouper.committed();
            match self.follow().await {
                Left::Unwanted => return,
                Left::Over(error) => {
                    tracing::warn!(base = self.origin.base, %error, "the recording ends");
                    self.refuse(error).await;
                    return;
                }
                Left::Broke(problem) => {
                    tracing::debug!(base = self.origin.base, %problem, "the watch broke; the next member is asked");
                    self.problem = problem;
                }
            }
            self.grouper.reset();
            if let Err(error) = self.spill.abort() {
                self.refuse(error.into()).await;
                return;
            }
            if self.grouper.committed() > before {
                pause = SHORTEST_PAUSE;
            }
            let resume = tokio::time::Instant::now() + pause;
            while let Ok(wish) = tokio::time::timeout_at(resume, self.inbox.recv()).await {
                let Some(wish) = wish else { return };
                if let Err(Left::Over(error)) = self.heed(wish) {
                    self.refuse(error).await;
                    return;
                }
            }
            self.give_up_late_cut();
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The first who asks hears why it ended; nobody after that can be promised anything.
    async fn refuse(&mut self, error: RecordError) {
        let _ = self.over.set(error.to_string());
        let asked = match self.cut.take() {
            Some(cut) => Some(cut.answer),
            None => loop {
                match self.inbox.recv().await {
                    None => break None,
                    Some(Wish::Cut(_, answer)) => break Some(answer),
                    Some(Wish::Published(gone, answer)) => {
                        let _ = answer.send(self.remove(&gone));
                    }
                }
            },
        };
        if let Some(answer) = asked {
            let _ = answer.send(Err(error));
        }
    }

    async fn member(&mut self) -> Result<MemberStatus, Left> {
        let mut members: Vec<MemberStatus> = Vec::new();
        let mut problems = Vec::new();
        for (endpoint, status) in self.etcd.members().await {
            match status {
                Ok(member) if member.leader != 0 && !member.is_learner => members.push(member),
                Ok(_) => problems.push(format!("{endpoint}: it knows no leader")),
                Err(error) => problems.push(error.to_string()),
            }
        }
        if members.is_empty() {
            return Err(Left::Broke(problems.join("; ")));
        }
        let index = self.turn % members.len();
        self.turn += 1;
        Ok(members.swap_remove(index))
    }

    /// Follows one member until something ends it.
    async fn follow(&mut self) -> Left {
        match self.follow_member().await {
            Ok(never) => match never {},
            Err(left) => left,
        }
    }

    async fn follow_member(&mut self) -> Result<std::convert::Infallible, Left> {
        let member = self.member().await?;
        let committed = self.grouper.committed();
        if member.cluster_id != self.origin.cluster_id {
            return Err(Gap::ClusterChanged {
                expected: self.origin.cluster_id,
                found: member.cluster_id,
            }
            .into());
        }
        let mut stream = self.etcd.watch_all(&member.endpoint, committed + 1).await?;
        // A watch from exactly the compacted revision is answered and may lack rows, so that history must reach one further.
        match self
            .etcd
            .require_history(&member.endpoint, committed.max(1))
            .await
        {
            Ok(()) => {}
            Err(EtcdError::Compacted { .. }) => {
                // Only HashKV says how far; what is certain without it is that it is more than is recorded.
                let hash = self.etcd.hash_kv_of(&member.endpoint, 0).await;
                let compact_revision = hash.map_or(0, |hash| hash.hash.compact_revision);
                return Err(Gap::Compacted {
                    wanted: committed + 1,
                    compact_revision: compact_revision.max(committed + 1),
                }
                .into());
            }
            Err(EtcdError::Behind { .. }) if member.revision >= committed => {}
            Err(EtcdError::Behind { .. }) => return Err(self.went_back(&member).await),
            Err(other) => return Err(other.into()),
        }
        if !self.spill.is_open() {
            self.begin(&member)?;
        }
        self.hear(&member, &mut stream).await
    }

    /// A member that lags is left; a cluster that is behind was restored.
    async fn went_back(&self, member: &MemberStatus) -> Left {
        let recorded = self.grouper.committed();
        let members = self.etcd.members().await;
        let newest = members
            .iter()
            .filter_map(|(_, status)| Some(status.as_ref().ok()?.revision))
            .max()
            .unwrap_or(recorded);
        let all_answer = members.iter().all(|(_, status)| status.is_ok());
        if newest < recorded && all_answer {
            return Gap::RevisionWentBack {
                recorded,
                found: newest,
            }
            .into();
        }
        Left::Broke(format!("{} lags", member.endpoint))
    }

    fn begin(&mut self, member: &MemberStatus) -> Result<(), SegmentError> {
        let (parent_sha256, started) = match self.spill.newest() {
            Some(last) => (
                last.finished.sha256.clone(),
                last.finished.footer.totals.covered_to,
            ),
            None => (self.origin.parent_sha256.clone(), self.origin.covered_to),
        };
        self.spill.begin(Header {
            cluster_id: format!("{:016x}", self.origin.cluster_id),
            member_id: format!("{:016x}", member.member_id),
            etcd_version: member.version.clone(),
            base: self.origin.base.clone(),
            parent_sha256,
            epoch: 1,
            first_revision: self.grouper.committed() + 1,
            raft_term: self.grouper.raft_term(),
            started,
        })
    }

    async fn hear(
        &mut self,
        member: &MemberStatus,
        stream: &mut WatchStream,
    ) -> Result<std::convert::Infallible, Left> {
        let mut steps = Vec::new();
        let mut leases = std::collections::BTreeSet::new();
        loop {
            let response = tokio::select! {
                wish = self.inbox.recv() => {
                    match wish {
                        None => return Err(Left::Unwanted),
                        Some(wish) => self.heed(wish)?,
                    }
                    if !self.spill.is_open() {
                        self.begin(member)?;
                    }
                    continue;
                }
                response = tokio::time::timeout(SILENCE, stream.message()) => response,
            };
            self.give_up_late_cut();
            let response = match response {
                Err(_) => {
                    self.check_silence().await?;
                    continue;
                }
                Ok(Err(error)) => return Err(Left::Broke(error.to_string())),
                Ok(Ok(None)) => return Err(Left::Broke("the member ended the watch".to_owned())),
                Ok(Ok(Some(response))) => response.0,
            };
            let canceled = response.canceled.then(|| response.cancel_reason.clone());
            steps.clear();
            let outcome = self.grouper.feed(response, &mut steps);
            if let Some(counter) = &self.counter {
                counter.take(self.origin.cluster_id, &steps);
            }
            // What was whole before a gap stays recorded.
            match self.spill.apply(&steps, Timestamp::now()) {
                Ok(()) => {}
                Err(SpillError::Gap(gap)) => return Err(gap.into()),
                Err(SpillError::Segment(error)) => return Err(error.into()),
            }
            outcome?;
            for step in &steps {
                if let Step::Row(row) = step
                    && row.lease != 0
                {
                    leases.insert(row.lease);
                }
            }
            if !self.grouper.is_open() && !leases.is_empty() {
                self.note_leases(&member.endpoint, std::mem::take(&mut leases))
                    .await?;
            }
            if let Some(reason) = canceled {
                return Err(Left::Broke(format!("the member ended the watch: {reason}")));
            }
            self.cut_if_reached()?;
            if !self.spill.is_open() {
                self.begin(member)?;
            }
        }
    }

    /// Leases are not in the watch: each is asked for once a segment. One that is gone by now needs no row.
    async fn note_leases(
        &mut self,
        endpoint: &str,
        ids: std::collections::BTreeSet<i64>,
    ) -> Result<(), Left> {
        let mut granted = Vec::new();
        for id in ids {
            if let Some(ttl) = self.etcd.granted_ttl(endpoint, id).await? {
                granted.push((id, ttl));
            }
        }
        Ok(self.spill.leases(&granted)?)
    }

    /// Nothing came for a while: either nothing was written, or this member is cut off from those who write.
    async fn check_silence(&mut self) -> Result<(), Left> {
        let committed = self.grouper.committed();
        let members = self.etcd.members().await;
        let newest = members
            .iter()
            .filter_map(|(_, status)| Some(status.as_ref().ok()?.revision))
            .max();
        match newest {
            None => Err(Left::Broke("no member answers".to_owned())),
            Some(newest) if newest > committed => Err(Left::Broke(format!(
                "the member is silent at revision {committed}, and the cluster is at {newest}"
            ))),
            Some(_) => Ok(()),
        }
    }

    fn heed(&mut self, wish: Wish) -> Result<(), Left> {
        match wish {
            Wish::Published(segments, answer) => {
                let removed = self.remove(&segments);
                let _ = answer.send(removed);
                Ok(())
            }
            Wish::Cut(reach, answer) => {
                let until = tokio::time::Instant::now() + REACH_LIMIT;
                self.cut = Some(PendingCut {
                    reach,
                    until,
                    answer,
                });
                self.cut_if_reached()
            }
        }
    }

    fn remove(&mut self, segments: &[Ready]) -> Result<(), RecordError> {
        for segment in segments {
            self.spill.published(&segment.path)?;
        }
        if let Some(last) = segments.last() {
            self.origin.revision = last.finished.footer.totals.last_revision;
            self.origin.parent_sha256.clone_from(&last.finished.sha256);
            self.origin.covered_to = last.finished.footer.totals.covered_to;
        }
        Ok(())
    }

    fn cut_if_reached(&mut self) -> Result<(), Left> {
        let committed = self.grouper.committed();
        // An open revision would be lost to the cut: its next message ends it.
        let Some(cut) = self.cut.take_if(|cut| cut.reach <= committed) else {
            return Ok(());
        };
        if self.grouper.is_open() {
            self.cut = Some(cut);
            return Ok(());
        }
        let holds = self.spill.totals().is_some_and(|open| open.revisions > 0);
        let made = if holds {
            self.spill.cut(self.grouper.raft_term()).map(drop)
        } else {
            Ok(())
        };
        match made {
            Ok(()) => {
                let ready = self.spill.waiting().cloned().collect();
                let _ = cut.answer.send(Ok(ready));
                Ok(())
            }
            Err(error) => {
                self.cut = Some(cut);
                Err(error.into())
            }
        }
    }

    fn give_up_late_cut(&mut self) {
        let now = tokio::time::Instant::now();
        if let Some(cut) = self.cut.take_if(|cut| cut.until <= now) {
            let _ = cut.answer.send(Err(RecordError::Behind {
                reached: self.grouper.committed(),
                wanted: cut.reach,
                problem: self.problem.clone(),
            }));
        }
    }
}
