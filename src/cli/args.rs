//! Flags that several verbs share.

use std::path::PathBuf;

use clap::Args;

use super::Format;

/// Flags of every verb.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Config file.
    #[arg(
        long,
        short,
        global = true,
        env = "ETCDGUARDIAN_CONFIG",
        value_name = "FILE"
    )]
    pub config: Option<PathBuf>,
    /// Form of the output.
    #[arg(long, short, global = true, value_enum, default_value_t)]
    pub output: Format,
    /// No progress bars, even on a terminal.
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// What is logged on stderr, in tracing's filter syntax.
    #[arg(long, global = true, env = "ETCDGUARDIAN_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}
