//! What the fuzz targets do with an input, one module for each kind of text that a tenant or a server controls. `libfuzzer/`
//! gives them inputs without end (`cargo xtask fuzz`); the tests here give them the seeds, so that each target is compiled and run
//! with everything else.

pub mod addresses;
pub mod archive;
pub mod cel;
pub mod chart;
pub mod fleet;
pub mod git;
mod inputs;
pub mod patch;
pub mod select;
mod server;
pub mod servers;
pub mod sops;
pub mod substitute;
pub mod tree;
pub mod values;
pub mod yaml;

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    /// A target's name and what it does, for the seeds of that name.
    type Target = (&'static str, fn(&[u8]));

    /// Each target takes its seeds: what is in them was a finding, or shows what the target reads.
    #[test]
    fn seeds_are_taken() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let targets: [Target; 14] = [
            ("addresses", super::addresses::run),
            ("archive", super::archive::run),
            ("cel", super::cel::run),
            ("chart", super::chart::run),
            ("fleet", super::fleet::run),
            ("git", super::git::run),
            ("patch", super::patch::run),
            ("select", super::select::run),
            ("servers", super::servers::run),
            ("sops", super::sops::run),
            ("substitute", super::substitute::run),
            ("tree", super::tree::run),
            ("values", super::values::run),
            ("yaml", super::yaml::run),
        ];
        for (name, run) in targets {
            let folder =
                if name == "tree" { "../kustomize/tests/table".into() } else { format!("seeds/{name}") };
            let folder = here.join(folder);
            let files = files(&folder);
            assert!(!files.is_empty(), "{name}: there are seeds in {}", folder.display());
            for file in files {
                // Shown where one fails.
                println!("{name}: {}", file.display());
                run(&std::fs::read(&file).expect("a seed can be read"));
            }
        }
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).expect("the folder is there");
        let files =
            entries.map(|entry| entry.expect("it can be listed").path()).filter(|path| path.is_file());
        files.collect()
    }
}
