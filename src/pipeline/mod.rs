//! pipeline: being built.
