//! standalone: being built.
