//! etcd: being built.
