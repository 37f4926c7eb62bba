//! Writers as Kubernetes has them, and a log of what they were told: acknowledged at a revision, or nobody knows.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcd_client::{Client, DeleteOptions, PutOptions, Txn, TxnOp, TxnOpResponse};
use jiff::Timestamp;

use super::model::{Op, Write};

/// How long a write may take before its writer gives up on hearing of it.
const PATIENCE: Duration = Duration::from_secs(4);

/// One write and what its writer was told.
#[derive(Debug, Clone)]
pub struct Written {
    pub write: Write,
    pub sent: Timestamp,
    /// At which revision it was acknowledged; `None` when it may have happened.
    pub revision: Option<i64>,
}

/// A seeded sequence (splitmix64).
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// The writers, at work until they are stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    log: Arc<Mutex<Vec<Written>>>,
    burst: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    /// Starts writers against these members.
    pub fn start(endpoints: &[String], seed: u64, writers: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let log = Arc::new(Mutex::new(Vec::new()));
        let burst = Arc::new(AtomicU64::new(0));
        let threads = (0..writers)
            .map(|number| {
                let writer = Writer {
                    number,
                    dice: Dice(seed ^ (number + 1).wrapping_mul(0x51_7c_c1_b7_27_22_0a_95)),
                    endpoints: endpoints.to_vec(),
                    clients: vec![None; endpoints.len()],
                    stop: Arc::clone(&stop),
                    log: Arc::clone(&log),
                    burst: Arc::clone(&burst),
                    leases: Vec::new(),
                    count: 0,
                };
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .expect("a runtime");
                    runtime.block_on(writer.work());
                })
            })
            .collect();
        Self {
            stop,
            log,
            burst,
            threads,
        }
    }

    /// The next so many writes of each writer come without a pause, many at once.
    pub fn burst(&self, writes: u64) {
        self.burst.fetch_max(writes, Ordering::SeqCst);
    }

    /// How many writes were acknowledged.
    pub fn acknowledged(&self) -> usize {
        let log = self.log.lock().unwrap();
        log.iter().filter(|one| one.revision.is_some()).count()
    }

    /// Stops them and gives the log.
    pub fn stop(self) -> Vec<Written> {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("a writer ends well");
        }
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

struct Writer {
    number: u64,
    dice: Dice,
    endpoints: Vec<String>,
    clients: Vec<Option<Client>>,
    stop: Arc<AtomicBool>,
    log: Arc<Mutex<Vec<Written>>>,
    burst: Arc<AtomicU64>,
    leases: Vec<i64>,
    count: u64,
}

impl Writer {
    async fn work(mut self) {
        let mut bursts = 0;
        while !self.stop.load(Ordering::SeqCst) {
            let wanted = self.burst.load(Ordering::SeqCst);
            if wanted > bursts {
                bursts = wanted;
                self.pour(400).await;
                continue;
            }
            match self.dice.roll(40) {
                0 => self.grant().await,
                1 if !self.leases.is_empty() => {
                    let index = self.dice.roll(self.leases.len() as u64) as usize;
                    let lease = self.leases.swap_remove(index);
                    self.carry(Write::Revoke(lease)).await;
                }
                _ => {
                    let ops = self.ops();
                    self.carry(Write::Txn(ops)).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(self.dice.roll(20))).await;
        }
    }

    /// Many puts at once, each in a revision of its own.
    async fn pour(&mut self, count: u64) {
        let Some(client) = self.client().await else {
            return;
        };
        let writes: Vec<Op> = (0..count).map(|_| self.put()).collect();
        let tasks = writes.into_iter().map(|op| {
            let mut client = client.clone();
            async move {
                let write = Write::Txn(vec![op]);
                let sent = Timestamp::now();
                let revision = carry(&mut client, &write).await.unwrap_or(None);
                Written {
                    write,
                    sent,
                    revision,
                }
            }
        });
        let written = futures::future::join_all(tasks).await;
        self.log.lock().unwrap().extend(written);
    }

    async fn client(&mut self) -> Option<Client> {
        let index = self.dice.roll(self.endpoints.len() as u64) as usize;
        if self.clients[index].is_none() {
            let options =
                etcd_client::ConnectOptions::new().with_connect_timeout(Duration::from_secs(1));
            let made = Client::connect([&self.endpoints[index]], Some(options)).await;
            self.clients[index] = made.ok();
        }
        self.clients[index].clone()
    }

    async fn carry(&mut self, write: Write) {
        let Some(mut client) = self.client().await else {
            return;
        };
        let sent = Timestamp::now();
        let revision = match carry(&mut client, &write).await {
            Ok(None) => return,
            Ok(revision) => revision,
            Err(()) => None,
        };
        if revision.is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.log.lock().unwrap().push(Written {
            write,
            sent,
            revision,
        });
    }

    async fn grant(&mut self) {
        if let Some(mut client) = self.client().await
            && let Ok(Ok(granted)) =
                tokio::time::timeout(PATIENCE, client.lease_grant(3600, None)).await
        {
            self.leases.push(granted.id());
        }
    }

    fn key(&mut self) -> Vec<u8> {
        let kind = ["pods", "configmaps", "events", "leases"][self.dice.roll(4) as usize];
        let (space, name) = (self.dice.roll(8), self.dice.roll(40));
        format!("/registry/{kind}/ns{space}/{name:02}").into_bytes()
    }

    fn put(&mut self) -> Op {
        self.count += 1;
        let size = match self.dice.roll(400) {
            0 => 200_000,
            1..20 => 0,
            _ => 20 + self.dice.roll(600) as usize,
        };
        // No two values are the same, so that a write whose fate is unknown is recognised by what it wrote.
        let mut value = format!("{}-{} ", self.number, self.count).into_bytes();
        if size == 0 {
            value.clear();
        }
        while value.len() < size {
            value.push(b'a' + self.dice.roll(26) as u8);
        }
        let lease = match self.leases.last() {
            Some(lease) if self.dice.roll(5) == 0 => *lease,
            _ => 0,
        };
        Op::Put {
            key: self.key(),
            value,
            lease,
        }
    }

    fn delete(key: Vec<u8>) -> Op {
        let mut to = key.clone();
        to.push(0);
        Op::Delete { from: key, to }
    }

    fn ops(&mut self) -> Vec<Op> {
        match self.dice.roll(20) {
            0..12 => vec![self.put()],
            12..14 => vec![Self::delete(self.key())],
            14 => {
                let kind = ["pods", "events"][self.dice.roll(2) as usize];
                let space = self.dice.roll(8);
                let from = format!("/registry/{kind}/ns{space}/").into_bytes();
                let mut to = from.clone();
                *to.last_mut().unwrap() += 1;
                vec![Op::Delete { from, to }]
            }
            // A key that is put and deleted in one revision: etcd takes it from nested transactions, in this order.
            15 => {
                let put = self.put();
                let Op::Put { key, .. } = &put else {
                    return vec![put];
                };
                let delete = Self::delete(key.clone());
                vec![put, delete]
            }
            _ => {
                let mut ops: Vec<Op> = Vec::new();
                let mut seen = std::collections::BTreeSet::new();
                for _ in 0..2 + self.dice.roll(7) {
                    let op = if self.dice.roll(4) == 0 {
                        Self::delete(self.key())
                    } else {
                        self.put()
                    };
                    let (Op::Put { key, .. } | Op::Delete { from: key, .. }) = &op;
                    if seen.insert(key.clone()) {
                        ops.push(op);
                    }
                }
                ops
            }
        }
    }
}

/// Carries a write out: the revision that it made, `None` when it changed nothing, an error when nobody knows.
async fn carry(client: &mut Client, write: &Write) -> Result<Option<i64>, ()> {
    match write {
        Write::Revoke(lease) => {
            let answer = tokio::time::timeout(PATIENCE, client.lease_revoke(*lease)).await;
            let answer = answer.map_err(|_| ())?.map_err(|_| ())?;
            Ok(answer.header().map(|header| header.revision()))
        }
        Write::Txn(ops) => {
            // Each in a transaction of its own inside one: etcd then lets them touch a key twice.
            let ops: Vec<TxnOp> = ops
                .iter()
                .map(|op| TxnOp::txn(Txn::new().and_then([request(op)])))
                .collect();
            let answer = client.txn(Txn::new().and_then(ops));
            let answer = tokio::time::timeout(PATIENCE, answer).await;
            let answer = answer.map_err(|_| ())?.map_err(|_| ())?;
            let changes: i64 = answer.op_responses().into_iter().map(changes).sum();
            Ok(answer
                .header()
                .filter(|_| changes > 0)
                .map(|header| header.revision()))
        }
    }
}

fn request(op: &Op) -> TxnOp {
    match op {
        Op::Put { key, value, lease } => TxnOp::put(
            key.clone(),
            value.clone(),
            Some(PutOptions::new().with_lease(*lease)),
        ),
        Op::Delete { from, to } => TxnOp::delete(
            from.clone(),
            Some(DeleteOptions::new().with_range(to.clone())),
        ),
    }
}

fn changes(answer: TxnOpResponse) -> i64 {
    match answer {
        TxnOpResponse::Put(_) => 1,
        TxnOpResponse::Delete(answer) => answer.deleted(),
        TxnOpResponse::Txn(answer) => answer.op_responses().into_iter().map(changes).sum(),
        TxnOpResponse::Get(_) => 0,
    }
}
