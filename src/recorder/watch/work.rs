//! The task behind a standing watch: follows a member until it breaks, then the next, and cuts segments when asked.

use super::*;

/// Silence after which the cluster is asked whether there was something to hear.
const SILENCE: Duration = Duration::from_secs(10);
/// The pause before another member is tried, doubled at each failure up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A cut that was asked for.
pub(super) struct PendingCut {
    reach: i64,
    known_at: Option<Timestamp>,
    until: tokio::time::Instant,
    answer: oneshot::Sender<Result<Cut, RecordError>>,
}

impl PendingCut {
    pub(super) fn new(
        reach: i64,
        known_at: Option<Timestamp>,
        answer: oneshot::Sender<Result<Cut, RecordError>>,
    ) -> Self {
        Self {
            reach,
            known_at,
            until: tokio::time::Instant::now() + REACH_LIMIT,
            answer,
        }
    }
}

pub(super) struct Work {
    pub(super) over: Arc<OnceLock<String>>,
    pub(super) counter: Option<Arc<Counter>>,
    pub(super) etcd: Arc<Etcd>,
    pub(super) origin: Origin,
    pub(super) grouper: Grouper,
    pub(super) spill: Spill,
    pub(super) inbox: mpsc::Receiver<Wish>,
    pub(super) cut: Option<PendingCut>,
    pub(super) problem: String,
    pub(super) turn: usize,
    /// Leases that rows name and whose grants are still to be asked for; they outlive a broken stream.
    pub(super) due: BTreeSet<i64>,
    /// Leases that the growing segment notes.
    pub(super) noted: BTreeSet<i64>,
    pub(super) told: watch::Sender<Progress>,
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

    /// The first who asks hears why it ended, and gets what was whole before; nobody after that can be promised anything.
    async fn refuse(&mut self, error: RecordError) {
        let _ = self.over.set(error.to_string());
        self.tell();
        let asked = match self.cut.take() {
            Some(cut) => Some(cut.answer),
            None => loop {
                match self.inbox.recv().await {
                    None => break None,
                    Some(Wish::Cut(cut)) => break Some(cut.answer),
                    Some(Wish::Stored(revision, answer)) => {
                        let _ = answer.send(self.remove_to(revision));
                    }
                }
            },
        };
        let Some(asked) = asked else { return };
        let answer = match error {
            RecordError::Gap(gap) => self.finish_segment().map(|()| Cut {
                segments: self.spill.waiting().cloned().collect(),
                gap: Some(gap),
            }),
            other => Err(other),
        };
        let _ = asked.send(answer);
    }

    /// Finishes the growing segment when it holds anything.
    fn finish_segment(&mut self) -> Result<(), RecordError> {
        if self.spill.totals().is_some_and(|open| open.revisions > 0) {
            self.spill.cut(self.grouper.raft_term())?;
        }
        Ok(())
    }

    fn tell(&self) {
        self.told.send_replace(Progress {
            committed: self.grouper.committed(),
            bytes: self.spill.bytes(),
            unpublished_since: self.spill.unpublished_since(),
        });
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
            Err(EtcdError::Behind { .. }) => {
                let gap = Gap::RevisionWentBack {
                    recorded: committed,
                    found: member.revision,
                };
                return Err(self.went_back(&member, gap).await);
            }
            Err(other) => return Err(other.into()),
        }
        if !self.spill.is_open() {
            self.begin(&member)?;
        }
        self.hear(&member, &mut stream).await
    }

    /// A member that lags, or was cut off for a while, is left; only when no member is further was the cluster rebuilt.
    async fn went_back(&self, member: &MemberStatus, gap: Gap) -> Left {
        let members = self.etcd.members().await;
        let answers: Vec<&MemberStatus> = members
            .iter()
            .filter_map(|(_, status)| status.as_ref().ok())
            .collect();
        let newest = answers.iter().map(|one| one.revision).max();
        let term = answers.iter().map(|one| one.raft_term).max();
        let all_answer = answers.len() == members.len();
        let rebuilt = all_answer
            && match gap {
                Gap::RevisionWentBack { recorded, .. } => newest < Some(recorded),
                Gap::TermWentBack { seen, .. } => term < Some(seen),
                _ => true,
            };
        if rebuilt {
            return gap.into();
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
        self.noted.clear();
        self.spill.begin(Header {
            cluster_id: format!("{:016x}", self.origin.cluster_id),
            member_id: format!("{:016x}", member.member_id),
            etcd_version: member.version.clone(),
            base: self.origin.base.clone(),
            parent_sha256,
            epoch: self.origin.epoch,
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
            for step in &steps {
                if let Step::Row(row) = step
                    && row.lease != 0
                    && !self.noted.contains(&row.lease)
                {
                    self.due.insert(row.lease);
                }
            }
            self.tell();
            match outcome {
                Ok(()) => {}
                Err(gap @ (Gap::TermWentBack { .. } | Gap::RevisionWentBack { .. })) => {
                    return Err(self.went_back(member, gap).await);
                }
                Err(gap) => return Err(gap.into()),
            }
            if !self.grouper.is_open() && !self.due.is_empty() {
                self.note_leases(&member.endpoint).await?;
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

    /// Leases are not in the watch: each is asked for once a segment. What one that is gone by now was granted nobody can tell.
    async fn note_leases(&mut self, endpoint: &str) -> Result<(), Left> {
        while let Some(&id) = self.due.first() {
            if let Some(ttl) = self.etcd.granted_ttl(endpoint, id).await? {
                self.spill.leases(&[(id, ttl)])?;
            }
            self.due.remove(&id);
            self.noted.insert(id);
        }
        Ok(())
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
            Wish::Stored(revision, answer) => {
                let _ = answer.send(self.remove_to(revision));
                Ok(())
            }
            Wish::Cut(cut) => {
                self.cut = Some(cut);
                self.cut_if_reached()
            }
        }
    }

    fn remove_to(&mut self, revision: i64) -> Result<(), RecordError> {
        let waiting = self.spill.waiting();
        let gone = waiting.take_while(|one| one.finished.footer.totals.last_revision <= revision);
        if let Some(last) = gone.last() {
            self.origin.revision = last.finished.footer.totals.last_revision;
            self.origin.parent_sha256.clone_from(&last.finished.sha256);
            self.origin.covered_to = last.finished.footer.totals.covered_to;
        }
        self.spill.forget_to(revision)?;
        self.tell();
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
        // Nothing else was acknowledged by then.
        if let Some(known_at) = cut.known_at.filter(|_| cut.reach == committed) {
            match self.spill.apply(&[Step::Idle], known_at) {
                Ok(()) => {}
                Err(SpillError::Gap(gap)) => return Err(gap.into()),
                Err(SpillError::Segment(error)) => return Err(error.into()),
            }
        }
        match self.finish_segment() {
            Ok(()) => {
                let segments = self.spill.waiting().cloned().collect();
                let _ = cut.answer.send(Ok(Cut {
                    segments,
                    gap: None,
                }));
                Ok(())
            }
            Err(error) => {
                self.cut = Some(cut);
                Err(Left::Over(error))
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
