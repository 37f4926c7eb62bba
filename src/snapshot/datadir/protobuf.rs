//! The few messages of raft that a restored log holds, field by field as etcd writes them: zeros are written too.

use prost::encoding::encode_varint;

/// A message under construction.
#[derive(Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// A number, also when it is 0.
    pub fn number(mut self, field: u8, value: u64) -> Self {
        self.0.push(field << 3);
        encode_varint(value, &mut self.0);
        self
    }

    /// Bytes, or a message.
    pub fn bytes(mut self, field: u8, value: &[u8]) -> Self {
        self.0.push(field << 3 | 2);
        encode_varint(value.len() as u64, &mut self.0);
        self.0.extend_from_slice(value);
        self
    }

    /// What was written.
    pub fn done(self) -> Vec<u8> {
        self.0
    }
}

/// raftpb.ConfState: who votes.
pub fn conf_state(voters: &[u64]) -> Vec<u8> {
    voters
        .iter()
        .fold(Message::default(), |message, voter| {
            message.number(1, *voter)
        })
        .number(5, 0)
        .done()
}
