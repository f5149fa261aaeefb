//! Builds this crate anew when a file under `guest/` changes: those files are part of the binary, but nothing
//! else tells the compiler of them.

fn main() {
    println!("cargo:rerun-if-changed=../../guest");
}
