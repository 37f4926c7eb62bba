//! The write-ahead log of a restored member, byte for byte as etcdutl 3.6 writes it: who is in the cluster, and nothing else.

use super::protobuf::{Message, conf_state};
use super::{Cluster, Member, TERM};

/// The log's one file: sequence 0, first index 0.
pub const WAL_NAME: &str = "0000000000000000-0000000000000000.wal";
/// How long etcd makes a log file beforehand; the rest after the last record is zeros.
pub const WAL_SEGMENT_BYTES: u64 = 64 * 1000 * 1000;

const METADATA: u64 = 1;
const ENTRY: u64 = 2;
const HARD_STATE: u64 = 3;
const CHECKSUM: u64 = 4;
const SNAPSHOT: u64 = 5;
const CONFIGURATION_CHANGE: u64 = 1;

/// The records of `member`'s log, without the zeros behind them.
pub fn write_ahead_log(cluster: &Cluster, member: &Member) -> Vec<u8> {
    let index = cluster.index();
    let ids: Vec<u64> = cluster.members.iter().map(|member| member.id).collect();
    let mut log = Log::default();
    log.record(CHECKSUM, None);
    let metadata = Message::default()
        .number(1, member.id)
        .number(2, cluster.id)
        .done();
    log.record(METADATA, Some(&metadata));
    let empty = Message::default().number(1, 0).number(2, 0).done();
    log.record(SNAPSHOT, Some(&empty));
    for (position, joining) in (1..).zip(&cluster.members) {
        let change = Message::default()
            .number(1, 0)
            .number(2, 0)
            .number(3, joining.id)
            .bytes(4, joining.json().as_bytes())
            .done();
        let entry = Message::default()
            .number(1, CONFIGURATION_CHANGE)
            .number(2, TERM)
            .number(3, position)
            .bytes(4, &change)
            .done();
        log.record(ENTRY, Some(&entry));
    }
    let hard_state = Message::default()
        .number(1, TERM)
        .number(2, ids.first().copied().unwrap_or_default())
        .number(3, index)
        .done();
    log.record(HARD_STATE, Some(&hard_state));
    let snapshot = Message::default()
        .number(1, index)
        .number(2, TERM)
        .bytes(3, &conf_state(&ids))
        .done();
    log.record(SNAPSHOT, Some(&snapshot));
    log.bytes
}

/// Framed records; the checksum runs on over all of them.
#[derive(Default)]
struct Log {
    bytes: Vec<u8>,
    checksum: u32,
}

impl Log {
    fn record(&mut self, kind: u64, data: Option<&[u8]>) {
        if let Some(data) = data {
            self.checksum = crc32c::crc32c_append(self.checksum, data);
        }
        let mut message = Message::default()
            .number(1, kind)
            .number(2, u64::from(self.checksum));
        if let Some(data) = data {
            message = message.bytes(3, data);
        }
        let record = message.done();
        let length = record.len() as u64;
        // Records are padded to 8 bytes; the length's top byte says by how many.
        let padding = (8 - length % 8) % 8;
        let mark = if padding == 0 { 0 } else { 0x80 | padding };
        self.bytes
            .extend_from_slice(&(length | mark << 56).to_le_bytes());
        self.bytes.extend_from_slice(&record);
        self.bytes.extend(std::iter::repeat_n(
            0,
            usize::try_from(padding).unwrap_or(0),
        ));
    }
}
