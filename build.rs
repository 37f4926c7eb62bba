//! Exists so that cargo downloads the protoc build-dependency; `tools/protoc` then finds it.
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
}
