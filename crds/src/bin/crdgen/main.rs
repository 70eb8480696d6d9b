//! Writes the custom resource definitions as YAML, one file a kind, or checks that the files of a
//! directory are what would be written.
//!
//! ```text
//! crdgen            prints all kinds
//! crdgen DIR        writes DIR/<plural>.yaml
//! crdgen --check DIR exits 1 and names each file that is missing or differs
//! ```

use std::{fs, io, path::Path, process::ExitCode};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        [] => {
            for crd in postrider_crds::custom_resource_definitions() {
                print!("---\n{}", render(&crd));
            }
            Ok(ExitCode::SUCCESS)
        }
        ["--check", directory] => check(Path::new(directory)),
        [directory] if !directory.starts_with('-') => write(Path::new(directory)),
        _ => {
            eprintln!("usage: crdgen [[--check] DIR]");
            return ExitCode::from(64);
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("crdgen: {error}");
        ExitCode::FAILURE
    })
}

fn write(directory: &Path) -> io::Result<ExitCode> {
    fs::create_dir_all(directory)?;
    for crd in postrider_crds::custom_resource_definitions() {
        fs::write(directory.join(file_name(&crd)), render(&crd))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn check(directory: &Path) -> io::Result<ExitCode> {
    let mut result = ExitCode::SUCCESS;
    for crd in postrider_crds::custom_resource_definitions() {
        let path = directory.join(file_name(&crd));
        let found = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            other => other?,
        };
        if found != render(&crd) {
            eprintln!(
                "crdgen: {} is stale; run crdgen {}",
                path.display(),
                directory.display()
            );
            result = ExitCode::FAILURE;
        }
    }
    Ok(result)
}

fn file_name(crd: &CustomResourceDefinition) -> String {
    format!("{}.yaml", crd.spec.names.plural)
}

fn render(crd: &CustomResourceDefinition) -> String {
    serde_yaml::to_string(crd).expect("a definition is plain data")
}
