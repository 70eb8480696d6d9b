//! Writes the custom resource definitions as YAML, one file a kind, and the reference of their fields
//! as Markdown; or checks that the files are what would be written.
//!
//! ```text
//! crdgen                          prints all kinds
//! crdgen DIR [REFERENCE]          writes DIR/<plural>.yaml, and the file REFERENCE
//! crdgen --check DIR [REFERENCE]  exits 1 and names each file that is missing or differs
//! ```

mod reference;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

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
        ["--check", directory, reference @ ..] if reference.len() < 2 => {
            check(&files(directory, reference.first()))
        }
        [directory, reference @ ..] if reference.len() < 2 && !directory.starts_with('-') => {
            write(&files(directory, reference.first()))
        }
        _ => {
            eprintln!("usage: crdgen [[--check] DIR [REFERENCE]]");
            return ExitCode::from(64);
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("crdgen: {error}");
        ExitCode::FAILURE
    })
}

/// Every file there is to be, and its text.
fn files(directory: &str, reference: Option<&&str>) -> Vec<(PathBuf, String)> {
    let definitions = postrider_crds::custom_resource_definitions();
    let path = |crd: &CustomResourceDefinition| {
        Path::new(directory).join(format!("{}.yaml", crd.spec.names.plural))
    };
    let mut files: Vec<_> = definitions
        .iter()
        .map(|crd| (path(crd), render(crd)))
        .collect();
    let reference = reference.map(|path| (path.into(), reference::markdown(&definitions)));
    files.extend(reference);
    files
}

fn write(files: &[(PathBuf, String)]) -> io::Result<ExitCode> {
    for (path, text) in files {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, text)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn check(files: &[(PathBuf, String)]) -> io::Result<ExitCode> {
    let mut result = ExitCode::SUCCESS;
    for (path, text) in files {
        let found = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            other => other?,
        };
        if found != *text {
            eprintln!("crdgen: {} is stale; run make crds", path.display());
            result = ExitCode::FAILURE;
        }
    }
    Ok(result)
}

fn render(crd: &CustomResourceDefinition) -> String {
    serde_yaml::to_string(crd).expect("a definition is plain data")
}
