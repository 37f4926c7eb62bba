//! What a cluster does, from Prometheus, etcd itself or a trace file, as one [`series::Series`].

pub mod series;
pub mod trace;
