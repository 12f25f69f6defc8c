//! Link settings of the release binary alone; what holds for every binary is in `config.toml`.

fn main() {
    println!("cargo::rerun-if-changed=.cargo/no-unwind.ld");
    println!("cargo::rerun-if-changed=.cargo/build.rs");
    // Only where a panic aborts. Tests unwind, and need the tables.
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{here}/.cargo/no-unwind.ld");
    }
}
