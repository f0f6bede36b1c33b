//! On Windows alone: puts the icon, the manifest and the version into the program's file.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(windows)]
    windows();
}

#[cfg(windows)]
fn windows() {
    println!("cargo::rerun-if-changed=assets/icon.ico");
    println!("cargo::rerun-if-changed=packaging/windows/ocelli.manifest");
    let mut resource = winresource::WindowsResource::new();
    resource
        .set_icon("assets/icon.ico")
        .set_manifest_file("packaging/windows/ocelli.manifest")
        .set("ProductName", "Ocelli")
        .set("FileDescription", "Ocelli")
        .set("LegalCopyright", "Copyright The Ocelli authors. MIT or Apache-2.0.");
    if let Err(e) = resource.compile() {
        // The program works without; whoever makes packages must see it.
        println!("cargo::warning=the icon and the manifest are not in the program: {e}");
    }
}
