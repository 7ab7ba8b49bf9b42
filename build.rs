//! Generates the gRPC services from `proto/`, without an installed `protoc`, and compresses assets.

use std::{env, error::Error, fs, path::PathBuf};

use protox::prost::Message as _;

#[path = "build/assets.rs"]
mod assets;
#[path = "build/commit.rs"]
mod commit;
#[path = "build/search_version.rs"]
mod search_version;

/// The files of the services. They import the others.
const SERVICES: [&str; 4] = [
    "souk/v1/auth.proto",
    "souk/v1/catalog.proto",
    "souk/v1/inventory.proto",
    "souk/v1/cart.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    commit::set_commit();
    search_version::set_search_version()?;
    let descriptors = protox::compile(SERVICES, ["proto"])?;
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    assets::compress(&out_dir)?;
    // For the reflection service.
    fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_client(false)
        .include_file("services.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
