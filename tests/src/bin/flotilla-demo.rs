//! The demo: a hub, two real clusters, an agent in each, one repository. See `flotilla_tests::demo`.

use std::process::ExitCode;

use flotilla_tests::demo::{self, Options};

const USAGE: &str = "\
usage: flotilla-demo [--exit] [--contexts STAGING,PRODUCTION]

  --exit           run the tour, verify each step in the clusters, end
  --contexts A,B   use these contexts of your kubeconfig as staging and production";

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error:#}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(demo::run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
